package tunnel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// SPDY/3.1, the part that port-forward needs. Numbers and layouts are those of
// https://www.chromium.org/spdy/spdy-protocol/spdy-protocol-draft3-1/, sections
// 2.2 and 2.6.
const (
	frameHeaderSize = 8

	typeSynStream = 1
	typeSynReply  = 2
	typeRstStream = 3
	typePing      = 6
	typeGoAway    = 7

	flagFin = 0x01

	statusCancel = 5 // of RST_STREAM: the client doesn't want the stream any more

	// maxStreamID is the last that a client may use on one connection.
	maxStreamID = 1<<31 - 1
	// frameSize is the size of the largest data frame that is sent, with its
	// header: a few whole TLS records. The server reads a frame whole, into
	// memory.
	frameSize = 128 << 10
	// smallFrameSize is that of the first ones of a stream that may have more.
	smallFrameSize = 4 << 10
	// maxControlSize bounds the control frames that a server may send: those
	// of port-forward have a few dozen bytes.
	maxControlSize = 16 << 10
)

// errProtocol says that the server's bytes are not SPDY/3.1.
var errProtocol = errors.New("the server doesn't keep to SPDY/3.1")

// frameHeader is the first eight bytes of a frame.
type frameHeader struct {
	control bool
	kind    uint16 // of a control frame
	stream  uint32 // of a data frame
	flags   byte
	length  int // of what follows the header
}

// parseFrameHeader reads a frame's first eight bytes.
func parseFrameHeader(b *[frameHeaderSize]byte) (frameHeader, error) {
	first := binary.BigEndian.Uint32(b[:4])
	second := binary.BigEndian.Uint32(b[4:])
	h := frameHeader{flags: byte(second >> 24), length: int(second & 0xffffff)}
	if first>>31 == 0 {
		h.stream = first
		return h, nil
	}
	h.control = true
	h.kind = uint16(first & 0xffff)
	if version := first >> 16 & 0x7fff; version != 3 {
		return h, fmt.Errorf("%w: version %d", errProtocol, version)
	}
	if h.length > maxControlSize {
		return h, fmt.Errorf("%w: a control frame of %d bytes", errProtocol, h.length)
	}
	return h, nil
}

// appendControl appends a control frame with the body given.
func appendControl(b []byte, kind uint16, flags byte, body ...byte) []byte {
	b = binary.BigEndian.AppendUint16(b, 0x8003)
	b = binary.BigEndian.AppendUint16(b, kind)
	b = binary.BigEndian.AppendUint32(b, uint32(flags)<<24|uint32(len(body)))
	return append(b, body...)
}

// appendDataHeader appends what goes before length bytes of a stream's data.
func appendDataHeader(b []byte, stream uint32, flags byte, length int) []byte {
	b = binary.BigEndian.AppendUint32(b, stream)
	return binary.BigEndian.AppendUint32(b, uint32(flags)<<24|uint32(length))
}

// appendCancel appends the RST_STREAM of a stream that isn't wanted any more.
func appendCancel(b []byte, stream uint32) []byte {
	body := binary.BigEndian.AppendUint32(nil, stream)
	return appendControl(b, typeRstStream, 0, binary.BigEndian.AppendUint32(body, statusCancel)...)
}

func appendPing(b []byte, id uint32) []byte {
	return appendControl(b, typePing, 0, binary.BigEndian.AppendUint32(nil, id)...)
}

// appendSynStream appends the opening of a stream. first says whether it is
// the connection's first, which starts the compression of headers.
func appendSynStream(b []byte, stream uint32, flags byte, headers http.Header, first bool) []byte {
	body := binary.BigEndian.AppendUint32(nil, stream)
	body = append(body, 0, 0, 0, 0, 0, 0) // no associated stream, highest priority, no credential
	if first {
		body = append(body, headerPrelude[:]...)
	}
	body = appendStored(body, appendHeaders(nil, headers))
	return appendControl(b, typeSynStream, flags, body...)
}

// appendHeaders appends a block of names and values, as it is before its
// compression (2.6.10).
func appendHeaders(b []byte, headers http.Header) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(headers)))
	names := make([]string, 0, len(headers))
	for name := range headers {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		for _, text := range []string{strings.ToLower(name), strings.Join(headers[name], "\x00")} {
			b = binary.BigEndian.AppendUint32(b, uint32(len(text)))
			b = append(b, text...)
		}
	}
	return b
}

// headerPrelude starts the zlib stream of a connection's headers (RFC 1950):
// deflate, with a preset dictionary, and the Adler-32 of SPDY/3's dictionary.
var headerPrelude = [...]byte{0x78, 0xbb, 0xe3, 0xc6, 0xa7, 0xc2}

// appendStored appends content as one stored block of deflate (RFC 1951,
// 3.2.4). A stored block is valid compression that needs neither the
// dictionary nor the 800 KB that a compressor would hold for each connection,
// for headers of fifty bytes. An empty block follows: it is what makes the
// other side hand on what it has (Z_SYNC_FLUSH). content is less than 64 KiB.
func appendStored(b, content []byte) []byte {
	for _, block := range [][]byte{content, nil} {
		b = append(b, 0) // not the last block; stored
		b = binary.LittleEndian.AppendUint16(b, uint16(len(block)))
		b = binary.LittleEndian.AppendUint16(b, ^uint16(len(block)))
		b = append(b, block...)
	}
	return b
}
