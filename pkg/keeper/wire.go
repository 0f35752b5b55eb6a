//go:build linux || darwin

package keeper

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// The protocol between daemon and keeper runs over a unix(7) stream socket. A
// message is its length, as a 32-bit big-endian integer, and that many bytes of
// JSON. The keeper first sends a hello. From then on it responds to each request
// in order, and may send notifications in between. Descriptors follow the response
// that lists them, up to rightsPerByte of them with each padding byte.

// The limits of a request. A daemon's plan has lower ones (pkg/plan, limits.go):
// while it changes, the ports and addresses before and after it are requested
// together.
const (
	maxMessage    = 16 << 20
	maxPorts      = 1 << 17
	maxAddrs      = 1 << 17
	maxNames      = 1 << 18
	maxErrorTexts = 1000 // of a response; further errors have no text
	maxErrorText  = 1000 // in runes
	rightsPerByte = 128  // Linux allows up to 253
)

// request asks the keeper to set the ports, the names or the addresses: exactly
// one of them, as a complete set.
type request struct {
	Sequence uint64                   `json:"sequence"`
	Ports    *[]netip.AddrPort        `json:"ports,omitempty"`
	Existing []netip.AddrPort         `json:"existing,omitempty"` // with Ports: the sockets that the daemon has
	Names    *map[netip.Addr][]string `json:"names,omitempty"`
	Addrs    *[]netip.Addr            `json:"addrs,omitempty"`
}

// response is a message from the keeper: a hello, a response to the request with
// the same sequence number, or a notification.
type response struct {
	Hello *hello `json:"hello,omitempty"`

	Sequence   uint64                    `json:"sequence,omitempty"` // 0 if this is not a response to a request
	Error      string                    `json:"error,omitempty"`
	Sockets    []netip.AddrPort          `json:"sockets,omitempty"`    // the Socket.For of each descriptor that follows
	PortErrors map[netip.AddrPort]string `json:"portErrors,omitempty"` // see errorTexts
	Refused    map[string]string         `json:"refused,omitempty"`    // see errorTexts
	Writes     uint64                    `json:"writes,omitempty"`     // with the response to Names: writes to the hosts file so far

	Changed bool `json:"changed,omitempty"` // notification: the names may have to be set again
}

// hello is the keeper's first message. If the keeper can't start, Error comes with it.
type hello struct {
	Version string `json:"version"` // of kubeshore; the daemon's must be the same
	How     string `json:"how"`     // listen.Taker.How
	// The public names that this keeper permits, see namepolicy.Policy.
	FullNames   bool     `json:"fullNames,omitempty"`
	PublicNames []string `json:"publicNames,omitempty"`
}

// maxElements is how many elements the lists and objects of a request can have, if none
// of them exceeds its own limit.
const maxElements = 2*maxPorts + maxNames + 2*maxAddrs

// decode parses a request. It returns an error if the request is malformed. A message
// with more elements than a request can have isn't parsed: a few bytes for each would
// take a hundred times the memory.
func decode(message []byte) (request, error) {
	var r request
	if n := bytes.Count(message, []byte{','}); n > maxElements {
		return request{}, fmt.Errorf("malformed request: %d elements, and the limit is %d", n, maxElements)
	}
	decoder := json.NewDecoder(bytes.NewReader(message))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&r); err != nil {
		return request{}, errors.New("malformed request: " + err.Error()) // not wrapped: io.EOF means that the connection was closed
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return request{}, errors.New("malformed request: more than one value")
	}
	sets := 0
	for _, present := range []bool{r.Ports != nil, r.Names != nil, r.Addrs != nil} {
		if present {
			sets++
		}
	}
	if sets != 1 || r.Sequence == 0 {
		return request{}, errors.New("malformed request: must have a sequence number, and either ports, names or addrs")
	}
	return r, nil
}

// encode returns the message for a value.
func encode(value any) ([]byte, error) {
	body, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	if len(body) > maxMessage {
		return nil, tooLongError(len(body))
	}
	message := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(body)), uint32(len(body)))
	return append(message, body...), nil
}

// tooLongError reports that a message exceeds maxMessage.
type tooLongError int

func (size tooLongError) Error() string {
	return fmt.Sprintf("message of %d bytes exceeds the limit of %d", int(size), maxMessage)
}

// writeMessage writes a value as a message.
func writeMessage(w io.Writer, value any) error {
	message, err := encode(value)
	if err != nil {
		return err
	}
	_, err = w.Write(message)
	return err
}

// readMessage reads exactly one message, because descriptors may follow it. It
// returns io.EOF if the connection was closed.
func readMessage(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(head[:])
	if size > maxMessage {
		return nil, fmt.Errorf("malformed message: %d bytes exceed the limit of %d", size, maxMessage)
	}
	// The peer may never send all these bytes, so memory is allocated as they arrive.
	var body bytes.Buffer
	if _, err := io.CopyN(&body, r, int64(size)); errors.Is(err, io.EOF) {
		return nil, errors.New("malformed message: truncated")
	} else if err != nil {
		return nil, err
	}
	return body.Bytes(), nil
}

// sendFiles sends descriptors.
func sendFiles(conn *net.UnixConn, files []*os.File) error {
	for len(files) > 0 {
		n := min(len(files), rightsPerByte)
		fds := make([]int, n)
		for i, f := range files[:n] {
			fds[i] = int(f.Fd())
		}
		if _, _, err := conn.WriteMsgUnix([]byte{0}, unix.UnixRights(fds...), nil); err != nil {
			return err
		}
		files = files[n:]
	}
	return nil
}

// receiveFiles receives n descriptors. Those that exceed this process's limit of
// open files are nil. The caller closes the files.
func receiveFiles(conn *net.UnixConn, n int) (files []*os.File, err error) {
	defer func() {
		if err != nil {
			closeAll(files)
			files = nil
		}
	}()
	oob := make([]byte, unix.CmsgSpace(rightsPerByte*4))
	for len(files) < n {
		expected := min(n-len(files), rightsPerByte)
		padding := make([]byte, 1)
		_, oobn, flags, _, err := conn.ReadMsgUnix(padding, oob)
		if err != nil {
			return files, err
		}
		received, err := filesOf(oob[:oobn])
		files = append(files, received...)
		if err != nil {
			return files, err
		}
		missing := expected - len(received)
		if missing < 0 || missing > 0 && flags&unix.MSG_CTRUNC == 0 {
			return files, fmt.Errorf("malformed message: %d descriptors, want %d", len(received), expected)
		}
		files = append(files, make([]*os.File, missing)...) // the kernel drops the last ones
	}
	return files, nil
}

// filesOf returns the descriptors in a control message.
func filesOf(control []byte) (files []*os.File, err error) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return nil, err
	}
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			return files, err
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "keeper socket"))
		}
	}
	return files, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close() // nothing was written to the file
	}
}
