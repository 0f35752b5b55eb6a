package tunnel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// read reads frames until the connection ends or the server violates the
// protocol. It then breaks the upstream and returns the reason. It must be called
// once.
func (u *upstream) read() error {
	err := u.readFrames()
	if errors.Is(err, io.EOF) {
		err = errUpstreamLost // for the streams, it isn't an orderly end
	}
	u.fail(err)
	return err
}

func (u *upstream) readFrames() error {
	var out delivery
	in := &frameReader{
		r:           u.conn,
		bulk:        u.bulk,
		readAhead:   u.readAhead && u.bulk != nil,
		buf:         readBuffer{small: make([]byte, readSize)},
		liveness:    &u.liveness,
		beforeReuse: out.flush,
	}
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

// handleData delivers the bytes of a data frame as they come.
func (u *upstream) handleData(in *frameReader, h frameHeader, out *delivery) error {
	s, isError, err := u.findStream(h.stream)
	if err != nil {
		return err
	}
	if s != nil && s.ended(isError) {
		return fmt.Errorf("%w: data on stream %d after its end", errProtocol, h.stream)
	}
	for left := h.length; left > 0; {
		chunk, err := in.next(left)
		if err != nil {
			return fmt.Errorf("read from the API server: %w", err)
		}
		left -= len(chunk)
		switch {
		case s == nil:
		case isError:
			s.addErrorText(chunk)
		default:
			u.gotData.Store(true)
			out.add(s, chunk)
		}
	}
	if h.flags&flagFin != 0 && s != nil {
		out.flush()
		s.finish(isError)
	}
	return nil
}

// findStream returns the stream with an ID, or nil if it was removed, and
// whether the ID is that of its error stream. It records that the server has
// replied on the stream.
func (u *upstream) findStream(id uint32) (s *stream, isError bool, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if id%2 == 0 || id >= u.minNextID {
		return nil, false, fmt.Errorf("%w: frame for unopened stream %d", errProtocol, id)
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

// handleControl reads and handles the body of a control frame.
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
		s, _, err := u.findStream(binary.BigEndian.Uint32(body) & maxStreamID)
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
		_, _, err := u.findStream(binary.BigEndian.Uint32(body) & maxStreamID)
		return err
	case typePing:
		if len(body) != 4 {
			return fmt.Errorf("%w: PING of %d bytes", errProtocol, len(body))
		}
		if id := binary.BigEndian.Uint32(body); id%2 == 1 {
			u.pong(id)
		} else { // sent by the server
			u.echoPing(id)
		}
	case typeGoAway:
		return io.EOF
	case typeSynStream:
		return fmt.Errorf("%w: server opened a stream", errProtocol)
	default: // not used by port-forward
	}
	return nil
}
