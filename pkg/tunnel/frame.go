package tunnel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// The subset of SPDY/3.1 that port-forward needs. Numbers and layouts follow
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

	statusCancel = 5 // RST_STREAM: the client no longer wants the stream

	// maxStreamID is the highest ID that a client may use on a connection.
	maxStreamID = 1<<31 - 1
	// frameSize is the size of the largest data frame sent, including its header:
	// a few full TLS records. The server buffers each frame in memory.
	frameSize = 128 << 10
	// smallFrameSize is the frame size while a stream sends little.
	smallFrameSize = 4 << 10
	// maxControlSize bounds the control frames that a server may send. Those of
	// port-forward have a few dozen bytes.
	maxControlSize = 16 << 10
)

// errProtocol reports that the server doesn't follow SPDY/3.1.
var errProtocol = errors.New("the server violates SPDY/3.1")

// frameHeader is the decoded header of a frame.
type frameHeader struct {
	control bool
	kind    uint16 // of a control frame
	stream  uint32 // of a data frame
	flags   byte
	length  int // excluding the header
}

// parseFrameHeader decodes a frame header.
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
		return h, fmt.Errorf("%w: unsupported version %d", errProtocol, version)
	}
	if h.length > maxControlSize {
		return h, fmt.Errorf("%w: control frame of %d bytes", errProtocol, h.length)
	}
	return h, nil
}

// appendControl appends a control frame.
func appendControl(b []byte, kind uint16, flags byte, body ...byte) []byte {
	b = binary.BigEndian.AppendUint16(b, 0x8003)
	b = binary.BigEndian.AppendUint16(b, kind)
	b = binary.BigEndian.AppendUint32(b, uint32(flags)<<24|uint32(len(body)))
	return append(b, body...)
}

// appendDataHeader appends the header of a data frame of length bytes.
func appendDataHeader(b []byte, id uint32, flags byte, length int) []byte {
	b = binary.BigEndian.AppendUint32(b, id)
	return binary.BigEndian.AppendUint32(b, uint32(flags)<<24|uint32(length))
}

// appendCancel appends a RST_STREAM with statusCancel.
func appendCancel(b []byte, id uint32) []byte {
	body := binary.BigEndian.AppendUint32(nil, id)
	return appendControl(b, typeRstStream, 0, binary.BigEndian.AppendUint32(body, statusCancel)...)
}

func appendPing(b []byte, id uint32) []byte {
	return appendControl(b, typePing, 0, binary.BigEndian.AppendUint32(nil, id)...)
}

// appendSynStream appends a SYN_STREAM. first reports whether it is the
// connection's first, which starts the compression of headers.
func appendSynStream(b []byte, id uint32, flags byte, headers http.Header, first bool) []byte {
	body := binary.BigEndian.AppendUint32(nil, id)
	body = append(body, 0, 0, 0, 0, 0, 0) // no associated stream, highest priority, no credential
	if first {
		body = append(body, headerPrelude[:]...)
	}
	body = appendStored(body, appendHeaders(nil, headers))
	return appendControl(b, typeSynStream, flags, body...)
}

// appendHeaders appends an uncompressed block of names and values (2.6.10).
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
// deflate with a preset dictionary, and the Adler-32 of SPDY/3's dictionary.
var headerPrelude = [...]byte{0x78, 0xbb, 0xe3, 0xc6, 0xa7, 0xc2}

// appendStored appends content as one stored block of deflate (RFC 1951,
// 3.2.4). A stored block is valid compression that needs neither the
// dictionary nor the 800 KB that a compressor would use for each connection,
// for headers of fifty bytes. The empty block after it makes the other side
// flush (Z_SYNC_FLUSH). content must be shorter than 64 KiB.
func appendStored(b, content []byte) []byte {
	for _, block := range [][]byte{content, nil} {
		b = append(b, 0) // not the last block; stored
		b = binary.LittleEndian.AppendUint16(b, uint16(len(block)))
		b = binary.LittleEndian.AppendUint16(b, ^uint16(len(block)))
		b = append(b, block...)
	}
	return b
}
