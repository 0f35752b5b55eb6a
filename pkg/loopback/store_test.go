package loopback

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// Opening the file while another process writes it must not report damage.
func TestOpenStoreWhileWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "addresses.json")
	report := func(err error) { t.Error(err) }
	stop := make(chan struct{})
	var writing sync.WaitGroup
	writing.Go(func() {
		inUse := make(map[string]netip.Addr)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			inUse[fmt.Sprintf("o/%d", i%200)] = DefaultPrefix.Addr()
			OpenStore(path, report).save(inUse)
		}
	})
	for end := time.Now().Add(time.Second); time.Now().Before(end) && !t.Failed(); {
		OpenStore(path, report)
	}
	close(stop)
	writing.Wait()
}
