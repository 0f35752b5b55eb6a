package tunnel

import (
	"bytes"
	"io"
	"net/http"
	"reflect"
	"testing"

	"github.com/moby/spdystream/spdy"
)

// The frames that we write can be read by moby/spdystream.
func TestFramesAreReadableByLibrary(t *testing.T) {
	headers := http.Header{"Streamtype": {"data"}, "Port": {"8080"}, "Requestid": {"7"}}
	var sent []byte
	sent = appendSynStream(sent, 1, flagFin, headers, true)
	sent = appendSynStream(sent, 3, 0, headers, false)
	sent = append(appendDataHeader(sent, 3, 0, 5), "hello"...)
	sent = appendDataHeader(sent, 3, flagFin, 0)
	sent = appendPing(sent, 9)
	sent = appendCancel(sent, 3)

	framer, err := spdy.NewFramer(io.Discard, bytes.NewReader(sent))
	if err != nil {
		t.Fatal(err)
	}
	read := func() spdy.Frame {
		t.Helper()
		frame, err := framer.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		return frame
	}
	for i, flags := range []spdy.ControlFlags{spdy.ControlFlagFin, 0} {
		syn := read().(*spdy.SynStreamFrame)
		if syn.StreamId != spdy.StreamId(2*i+1) || syn.CFHeader.Flags != flags || !reflect.DeepEqual(syn.Headers, headers) {
			t.Errorf("got %+v, want stream %d with flags %v and headers %v", syn, 2*i+1, flags, headers)
		}
	}
	for _, want := range []spdy.DataFrame{{StreamId: 3, Data: []byte("hello")}, {StreamId: 3, Flags: spdy.DataFlagFin, Data: []byte{}}} {
		if got := read().(*spdy.DataFrame); !reflect.DeepEqual(*got, want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	if ping := read().(*spdy.PingFrame); ping.Id != 9 {
		t.Errorf("got %+v, want PING 9", ping)
	}
	if rst := read().(*spdy.RstStreamFrame); rst.StreamId != 3 || rst.Status != spdy.Cancel {
		t.Errorf("got %+v, want RST_STREAM of stream 3 with status CANCEL", rst)
	}
}
