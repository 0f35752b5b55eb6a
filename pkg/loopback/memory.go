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

// forgetAfter is how long an address is remembered that nobody used.
const forgetAfter = 90 * 24 * time.Hour

// Memory is a file that has the addresses that don't follow from their keys
// alone. Several processes may use one at once. What is wrong with it costs what
// it remembers, and nothing else.
type Memory struct {
	path   string
	report func(error)
	known  map[string]remembered
	failed bool // to write; it is not tried again
}

type remembered struct {
	Address netip.Addr `json:"address"`
	Used    time.Time  `json:"used"`
}

// OpenMemory reads the file at path, which need not exist yet; nor does its
// folder. report is told once what is wrong with the file.
func OpenMemory(path string, report func(error)) *Memory {
	m := &Memory{path: path, report: report}
	data, err := lockedfile.Read(path) // not while another process writes it
	if errors.Is(err, fs.ErrNotExist) {
		return m
	}
	if err == nil {
		m.known, err = parseMemory(data)
	}
	if err != nil {
		report(fmt.Errorf("addresses that were remembered are lost, and services may have others: %s: %w", path, err))
	}
	return m
}

func parseMemory(data []byte) (map[string]remembered, error) {
	known := make(map[string]remembered)
	if len(bytes.TrimSpace(data)) == 0 {
		return known, nil
	}
	if err := json.Unmarshal(data, &known); err != nil {
		return nil, err
	}
	if known == nil { // it says null
		return nil, errors.New("it has nothing")
	}
	return known, nil
}

func (m *Memory) recall(key string) (netip.Addr, bool) {
	if m == nil {
		return netip.Addr{}, false
	}
	r, ok := m.known[key]
	return r.Address, ok && r.Address.Is4()
}

// remember writes down addresses that are in use now.
func (m *Memory) remember(used map[string]netip.Addr) {
	if m == nil || m.failed || len(used) == 0 {
		return
	}
	now := time.Now().UTC().Truncate(time.Hour)
	update := func(data []byte) ([]byte, error) {
		known, err := parseMemory(data) // another process may have written it
		if err != nil {
			known = make(map[string]remembered)
		}
		maps.DeleteFunc(known, func(_ string, r remembered) bool { return now.Sub(r.Used) > forgetAfter })
		for key, address := range used {
			known[key] = remembered{Address: address, Used: now}
		}
		m.known = known
		return json.MarshalIndent(known, "", "  ")
	}
	err := os.MkdirAll(filepath.Dir(m.path), 0o700)
	if err == nil {
		err = lockedfile.Transform(m.path, update)
	}
	if err != nil {
		m.failed = true
		m.report(fmt.Errorf("services' addresses can't be remembered, and may be others the next time: %w", err))
	}
}
