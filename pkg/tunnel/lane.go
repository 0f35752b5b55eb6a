package tunnel

// The server side of all Kubernetes runtimes is moby/spdystream. It hands the
// frames that it reads to five workers, those of a stream always to the same
// one, by the stream's number, and PING frames to each in turn. A worker waits
// until the pod has taken what it is at; when fifty frames are queued for it,
// the server stops reading, and nothing on the connection moves any more. There
// is no window to keep to (SPDY/3.1, 2.6.8, is not implemented), and a reset
// waits in the queue with the rest.
//
// So we keep what is under way to each worker, a lane, below that, as long as
// streams share a connection: a pod that doesn't read then holds up its own
// lane alone. The answer to a PING proves that its lane's worker waits for no
// pod. Five in a row ask all of them.
const (
	lanes = 5
	// laneFrames and laneBytes bound what is under way to a lane.
	laneFrames = 40
	laneBytes  = 1 << 20
)

// lane is what was sent to one of the server's workers.
type lane struct {
	frames, bytes int    // since the last proof that it takes them
	streams       int    // how many there are
	ping          uint32 // the one that asks for a proof; 0 if none does
	// What the answer proves.
	provenFrames, provenBytes int
}

// full tells whether no more should be under way to it.
func (l *lane) full() bool { return l.frames >= laneFrames || l.bytes >= laneBytes }

// due tells whether to ask for a proof, so that it comes before the lane is full.
func (l *lane) due() bool {
	return l.ping == 0 && (l.frames >= laneFrames/2 || l.bytes >= laneBytes/2)
}

// ask notes that the answer to a ping will prove what was sent so far.
func (l *lane) ask(ping uint32) {
	if l.ping == 0 {
		l.ping, l.provenFrames, l.provenBytes = ping, l.frames, l.bytes
	}
}

// proven takes the answer to a ping.
func (l *lane) proven(ping uint32) {
	if l.ping == ping {
		l.frames, l.bytes, l.ping = l.frames-l.provenFrames, l.bytes-l.provenBytes, 0
	}
}

func laneOf(stream uint32) int { return int(stream % lanes) }
