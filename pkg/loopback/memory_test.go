package loopback

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// One that is opened while another process writes it has lost nothing.
func TestMemoryOpenedWhileWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "addresses.json")
	report := func(err error) { t.Error(err) }
	stop := make(chan struct{})
	var writing sync.WaitGroup
	writing.Go(func() {
		used := make(map[string]netip.Addr)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			used[fmt.Sprintf("o/%d", i%200)] = DefaultPrefix.Addr()
			OpenMemory(path, report).remember(used)
		}
	})
	for end := time.Now().Add(time.Second); time.Now().Before(end) && !t.Failed(); {
		OpenMemory(path, report)
	}
	close(stop)
	writing.Wait()
}
