package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/kubeshore/kubeshore/internal/project"
)

// ParseAddresses parses service addresses of the form NAME:ADDRESS, as in
// kubefwd's --reserve flag.
func ParseAddresses(reservations []string) (map[string]netip.Addr, error) {
	addresses := make(map[string]netip.Addr, len(reservations))
	for _, text := range reservations {
		name, address, _ := strings.Cut(text, ":")
		at, err := netip.ParseAddr(address)
		if err != nil || name == "" {
			return nil, fmt.Errorf("invalid --reserve %q: must be NAME.NAMESPACE:ADDRESS, e.g. db.data:127.3.3.1", text)
		}
		addresses[name] = at
	}
	return addresses, nil
}

// kubefwdFile is kubefwd's file of addresses (flag -z).
type kubefwdFile struct {
	Base     string `yaml:"baseUnreservedIP"` // the first of kubefwd's automatic addresses
	Services []struct {
		Name string `yaml:"name"`
		IP   string `yaml:"ip"`
	} `yaml:"serviceConfigurations"`
}

// readKubefwdFile returns the addresses of services in a file of kubefwd's, and a
// note for each field that has no effect.
func readKubefwdFile(path string) (addresses map[string]netip.Addr, notes []string, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, fmt.Errorf("--fwd-conf: %w", err)
	}
	var file kubefwdFile
	if err := yaml.Unmarshal(data, &file); err != nil {
		return nil, nil, fmt.Errorf("--fwd-conf: %s", strings.Join(project.Problems(path, data, err), "; "))
	}
	addresses = make(map[string]netip.Addr, len(file.Services))
	for _, s := range file.Services {
		at, err := netip.ParseAddr(s.IP)
		if err != nil || s.Name == "" {
			return nil, nil, fmt.Errorf("--fwd-conf %s: invalid service %q with address %q: must have a name and an IPv4 address", path, s.Name, s.IP)
		}
		addresses[s.Name] = at
	}
	if file.Base != "" {
		notes = append(notes, "--fwd-conf "+path+": baseUnreservedIP is ignored: other services' addresses follow from their names")
	}
	// The file was parsed: errors of the strict decoder are unknown fields.
	strict := yaml.NewDecoder(bytes.NewReader(data))
	strict.KnownFields(true)
	if err := strict.Decode(new(kubefwdFile)); err != nil && !errors.Is(err, io.EOF) {
		for _, problem := range project.Problems(path, data, err) {
			notes = append(notes, "--fwd-conf "+problem+" (ignored)")
		}
	}
	return addresses, notes, nil
}
