package tunnel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// read takes what the server sends until the connection ends or a frame is
// wrong, and returns why. It must be called once; it breaks the upstream.
func (u *upstream) read() error {
	err := u.readFrames()
	if errors.Is(err, io.EOF) {
		// For the streams on it this is no end in good order.
		err = errUpstreamLost
	}
	u.fail(err)
	return err
}

func (u *upstream) readFrames() error {
	var out delivery
	in := &frameReader{r: u.conn, bulk: u.bulk, readAhead: u.readAhead && u.bulk != nil, buf: readBuffer{small: make([]byte, readSize)}, liveness: &u.liveness, beforeReuse: out.flush}
	defer out.flush()
	for {
		var header [frameHeaderSize]byte
		if err := in.readFull(header[:]); err != nil {
			return fmt.Errorf("read from the API server: %w", err)
		}
		h, err := parseFrameHeader(&header)
		if err != nil {
			return err
		}
		if h.control {
			out.flush()
			err = u.handleControl(in, h)
		} else {
			err = u.handleData(in, h, &out)
		}
		if err != nil {
			return err
		}
	}
}

// handleData hands the bytes of a data frame on as they come.
func (u *upstream) handleData(in *frameReader, h frameHeader, out *delivery) error {
	s, fault, err := u.find(h.stream)
	if err != nil {
		return err
	}
	if s != nil && s.ended(fault) {
		return fmt.Errorf("%w: bytes of stream %d after its end", errProtocol, h.stream)
	}
	for left := h.length; left > 0; {
		chunk, err := in.next(left)
		if err != nil {
			return fmt.Errorf("read from the API server: %w", err)
		}
		left -= len(chunk)
		switch {
		case s == nil:
		case fault:
			s.addErrorText(chunk)
		default:
			u.gotData.Store(true)
			out.add(s, chunk)
		}
	}
	if h.flags&flagFin != 0 && s != nil {
		out.flush()
		s.finish(fault)
	}
	return nil
}

// find returns the stream of a number, and whether the number is its error
// stream's; nil for one that is gone already. The server has then begun with it.
func (u *upstream) find(id uint32) (s *stream, fault bool, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if id%2 == 0 || id >= u.minNextID {
		return nil, false, fmt.Errorf("%w: a frame for stream %d, which was never opened", errProtocol, id)
	}
	if s := u.streams[id]; s != nil {
		s.replied = true
		return s, false, nil
	}
	if s = u.streams[id+2]; s != nil {
		s.errorReplied = true
	}
	return s, true, nil
}

// handleControl acts on a control frame.
func (u *upstream) handleControl(in *frameReader, h frameHeader) error {
	body := make([]byte, h.length)
	if err := in.readFull(body); err != nil {
		return fmt.Errorf("read from the API server: %w", err)
	}
	switch h.kind {
	case typeRstStream:
		if len(body) != 8 {
			return fmt.Errorf("%w: RST_STREAM of %d bytes", errProtocol, len(body))
		}
		s, _, err := u.find(binary.BigEndian.Uint32(body) & maxStreamID)
		if err != nil {
			return err
		}
		if s != nil {
			u.dropStream(s, fmt.Errorf("%w, status %d", errReset, binary.BigEndian.Uint32(body[4:])))
		}
	case typeSynReply:
		if len(body) < 4 {
			return fmt.Errorf("%w: SYN_REPLY of %d bytes", errProtocol, len(body))
		}
		_, _, err := u.find(binary.BigEndian.Uint32(body) & maxStreamID)
		return err
	case typePing:
		if len(body) != 4 {
			return fmt.Errorf("%w: PING of %d bytes", errProtocol, len(body))
		}
		if id := binary.BigEndian.Uint32(body); id%2 == 1 {
			u.pong(id)
		} else { // the server's own: it wants it back
			u.echoPing(id)
		}
	case typeGoAway:
		return io.EOF
	case typeSynStream:
		return fmt.Errorf("%w: the server opens a stream", errProtocol)
	default: // not port-forward's
	}
	return nil
}
