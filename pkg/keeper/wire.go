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

// The two halves talk over a unix(7) stream socket. Each message is a length of
// four bytes, big end first, and so many bytes of JSON. The keeper speaks first,
// with a hello; from then on it answers each request with one reply, in order,
// and may say something on its own in between. Descriptors come right behind the
// reply that announces them, up to rightsPerByte with each byte of filling.

// The bounds of what the keeper takes, far above what the largest cluster needs.
const (
	maxMessage    = 16 << 20
	maxPorts      = 1 << 16
	maxAddrs      = 1 << 16
	maxNames      = 1 << 18
	rightsPerByte = 128 // Linux takes up to 253 at a time
)

// request is what the daemon asks for: one of the fields, the whole set of each.
type request struct {
	Sequence uint64                   `json:"sequence"`
	Ports    *[]netip.AddrPort        `json:"ports,omitempty"`
	Have     []netip.AddrPort         `json:"have,omitempty"` // with Ports: what there are sockets for
	Names    *map[netip.Addr][]string `json:"names,omitempty"`
	Addrs    *[]netip.Addr            `json:"addrs,omitempty"`
}

// answer is what the keeper says: a hello, the reply to a request, or, with
// neither, something on its own.
type answer struct {
	Hello *hello `json:"hello,omitempty"`

	Sequence uint64                    `json:"sequence,omitempty"` // of the request; 0 if it is no reply
	Error    string                    `json:"error,omitempty"`
	Sockets  []netip.AddrPort          `json:"sockets,omitempty"` // what each descriptor is for; zero: all ports
	Faults   map[netip.AddrPort]string `json:"faults,omitempty"`
	Refused  map[string]string         `json:"refused,omitempty"`
	Writes   uint64                    `json:"writes,omitempty"` // of the hosts file, with the reply to Names

	Changed bool `json:"changed,omitempty"` // the names may have to be set again
}

// hello is how the keeper begins, or why it can't, in Error.
type hello struct {
	Version string `json:"version"` // of the program; both halves are the same one
	How     string `json:"how"`     // how ports are taken
}

// decode reads a request and finds what is malformed in it.
func decode(message []byte) (request, error) {
	var r request
	decoder := json.NewDecoder(bytes.NewReader(message))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&r); err != nil {
		return request{}, errors.New("malformed request: " + err.Error()) // io.EOF is the connection's end alone
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return request{}, errors.New("malformed request: more than one value")
	}
	asked := 0
	for _, given := range []bool{r.Ports != nil, r.Names != nil, r.Addrs != nil} {
		if given {
			asked++
		}
	}
	if asked != 1 || r.Sequence == 0 {
		return request{}, errors.New("malformed request: it must have a sequence number, and ask for one thing")
	}
	return r, nil
}

// encode returns a value as a message.
func encode(value any) ([]byte, error) {
	body, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	if len(body) > maxMessage {
		return nil, fmt.Errorf("a message of %d bytes is larger than %d", len(body), maxMessage)
	}
	message := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(body)), uint32(len(body)))
	return append(message, body...), nil
}

// writeMessage writes a value as a message.
func writeMessage(w io.Writer, value any) error {
	message, err := encode(value)
	if err == nil {
		_, err = w.Write(message)
	}
	return err
}

// readMessage reads a message, and not a byte more: descriptors may come behind
// it. Its error is io.EOF if there is none.
func readMessage(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(head[:])
	if size > maxMessage {
		return nil, fmt.Errorf("malformed message: %d bytes, more than %d", size, maxMessage)
	}
	// What was announced may never come: memory is taken as it does.
	var body bytes.Buffer
	if _, err := io.CopyN(&body, r, int64(size)); errors.Is(err, io.EOF) {
		return nil, errors.New("malformed message: it ends early")
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

// receiveFiles receives n descriptors; nil stands for each that this process has no room
// for. The caller closes them.
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
		filling := make([]byte, 1)
		_, oobn, flags, _, err := conn.ReadMsgUnix(filling, oob)
		if err != nil {
			return files, err
		}
		came, err := filesOf(oob[:oobn])
		files = append(files, came...)
		if err != nil {
			return files, err
		}
		missing := expected - len(came)
		if missing < 0 || missing > 0 && flags&unix.MSG_CTRUNC == 0 {
			return files, fmt.Errorf("malformed message: %d descriptors instead of %d", len(came), expected)
		}
		files = append(files, make([]*os.File, missing)...) // those that come are the first ones
	}
	return files, nil
}

// filesOf returns the descriptors that a control message has brought.
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
			files = append(files, os.NewFile(uintptr(fd), "socket of the keeper"))
		}
	}
	return files, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close() // nothing was written to it
	}
}
