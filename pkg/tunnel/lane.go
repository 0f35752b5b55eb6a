package tunnel

import "time"

// The server side of all Kubernetes runtimes is moby/spdystream. It hands the
// frames that it reads to five workers, those of a stream always to the same
// one, by the stream's number, and PING frames to each in turn. A worker waits
// until the runtime has taken what it is at; when fifty frames are queued for
// it, the server stops reading, and nothing on the connection moves any more.
// There is no window to keep to: the server has none of SPDY/3.1's (2.6.8), and a
// reset waits in the queue with the rest. If the runtime has ended a stream
// without reading all of it (the port was closed, the pod reset or didn't want
// more), the worker waits for good.
//
// So we keep what is under way to each worker, a lane, below what would stop
// the reading, as long as streams share a connection: a pod that doesn't read
// then holds up its own lane alone. And a lane that had a stream's bytes is not
// used for another stream until it is certain that they were taken. The answer
// to a PING proves that: the worker got to it. Five in a row ask all of them.
const (
	lanes = 5
	// laneFrames and laneBytes bound what is under way to a lane.
	laneFrames = 40
	laneBytes  = 1 << 20
	// lanePings bounds the questions that wait with the frames.
	lanePings = 8
)

// lane is what was sent to one of the server's workers. Frames are counted from
// the connection's beginning.
type lane struct {
	streams int // how many there are

	sent, proven           int // frames: sent, and known to be taken
	sentBytes, provenBytes int64
	dubious                int // the frame that must be taken for another stream to use the lane

	pending     int    // questions without an answer
	ping        uint32 // the one of them that counts; 0 if there is none
	asked       time.Time
	covers      int // what the answer proves
	coversBytes int64
}

// full tells whether no more should be under way to it.
func (l *lane) full() bool {
	return l.sent-l.proven >= laneFrames || l.sentBytes-l.provenBytes >= laneBytes
}

// usable tells whether another stream may use it.
func (l *lane) usable() bool {
	late := l.ping != 0 && time.Since(l.asked) >= doubtTimeout // whatever it is at
	return !l.full() && l.dubious <= l.proven && !late
}

// due tells whether to ask, so that the answer comes before the lane is full.
func (l *lane) due() bool {
	return l.ping == 0 && (l.sent-l.proven >= laneFrames*3/4 || l.sentBytes-l.provenBytes >= laneBytes/2)
}

// stuck tells whether nothing is taken that must be, and hasn't been for so long.
func (l *lane) stuck(d time.Duration) bool {
	return l.ping != 0 && l.dubious > l.proven && time.Since(l.asked) >= d
}

// ask notes that the answer to a ping will prove what was sent so far.
func (l *lane) ask(ping uint32) {
	l.pending++
	if l.ping == 0 {
		l.ping, l.asked, l.covers, l.coversBytes = ping, time.Now(), l.sent, l.sentBytes
	}
}

// answer takes the answer to a ping.
func (l *lane) answer(ping uint32) {
	l.pending = max(0, l.pending-1)
	if l.ping == ping {
		l.ping, l.proven, l.provenBytes = 0, l.covers, l.coversBytes
	}
}

func laneOf(stream uint32) int { return int(stream % lanes) }
