package loopback

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/rogpeppe/go-internal/lockedfile"
)

// retentionWindow is how long the file keeps an address that is not in use.
const retentionWindow = 90 * 24 * time.Hour

// Store is a file with the addresses that don't follow from their keys alone, so
// that they are the same in the next run. Several processes may use one file at
// once. If the file can't be read or written, only these addresses are lost.
type Store struct {
	path    string
	report  func(error)
	entries map[string]entry
	failed  bool // a write failed; later ones are skipped
}

type entry struct {
	Address netip.Addr `json:"address"`
	Used    time.Time  `json:"used"`
}

// OpenStore reads the file at path. The file and its directory need not exist.
// report is called with an error if the file can't be read, and with one if it
// can't be written.
func OpenStore(path string, report func(error)) *Store {
	s := &Store{path: path, report: report}
	data, err := lockedfile.Read(path) // waits while another process writes
	if errors.Is(err, fs.ErrNotExist) {
		return s
	}
	if err == nil {
		s.entries, err = parseEntries(data)
	}
	if err != nil {
		report(fmt.Errorf("read saved addresses from %s: %w; services may get new addresses", path, err))
	}
	return s
}

func parseEntries(data []byte) (map[string]entry, error) {
	entries := make(map[string]entry)
	if len(bytes.TrimSpace(data)) == 0 {
		return entries, nil
	}
	if err := json.Unmarshal(data, &entries); err != nil {
		return nil, err
	}
	if entries == nil {
		return nil, errors.New("unexpected null")
	}
	return entries, nil
}

// lookup returns the saved address of a key. A nil Store has none.
func (s *Store) lookup(key string) (netip.Addr, bool) {
	if s == nil {
		return netip.Addr{}, false
	}
	e, ok := s.entries[key]
	return e.Address, ok && e.Address.Is4()
}

// save writes the addresses that are in use now. A nil Store ignores them.
func (s *Store) save(inUse map[string]netip.Addr) {
	if s == nil || s.failed || len(inUse) == 0 {
		return
	}
	if err := s.write(inUse); err != nil {
		s.failed = true
		s.report(fmt.Errorf("save addresses: %w; services may get other addresses next time", err))
	}
}

func (s *Store) write(inUse map[string]netip.Addr) error {
	if err := os.MkdirAll(filepath.Dir(s.path), 0o700); err != nil {
		return err
	}
	now := time.Now().UTC().Truncate(time.Hour)
	return lockedfile.Transform(s.path, func(data []byte) ([]byte, error) {
		entries, err := parseEntries(data) // another process may have added some
		if err != nil {
			entries = make(map[string]entry)
		}
		maps.DeleteFunc(entries, func(_ string, e entry) bool { return now.Sub(e.Used) > retentionWindow })
		for key, address := range inUse {
			entries[key] = entry{Address: address, Used: now}
		}
		s.entries = entries
		return json.MarshalIndent(entries, "", "  ")
	})
}
