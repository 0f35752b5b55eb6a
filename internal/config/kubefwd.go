package config

import (
	"fmt"
	"net/netip"
	"os"
	"strings"

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

// kubefwdFile is kubefwd's file of addresses (flag -z). kubefwd reads
// serviceConfigurations; its documentation describes reservations.
type kubefwdFile struct {
	Services []struct {
		Name string `yaml:"name"` // with its namespace after a dot, if that isn't the first one
		IP   string `yaml:"ip"`
	} `yaml:"serviceConfigurations"`
	Base string `yaml:"baseUnreservedIP"` // the first of kubefwd's automatic addresses

	Reservations []struct {
		Service   string `yaml:"service"`
		Namespace string `yaml:"namespace"`
		IP        string `yaml:"ip"`
	} `yaml:"reservations"`
	DocumentedBase string `yaml:"baseIP"`
}

// readKubefwdFile returns the addresses of services in a file of kubefwd's, and a
// note for each field that has no effect.
func readKubefwdFile(path string) (addresses map[string]netip.Addr, notes []string, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, fmt.Errorf("--fwd-conf: %w", err)
	}
	var file kubefwdFile
	unknown, problems := project.Decode(path, data, &file)
	if len(problems) > 0 {
		return nil, nil, fmt.Errorf("--fwd-conf: %s", strings.Join(problems, "; "))
	}
	addresses = make(map[string]netip.Addr, len(file.Services)+len(file.Reservations))
	add := func(service, name, ip string) error {
		at, err := netip.ParseAddr(ip)
		if err != nil || service == "" {
			return fmt.Errorf("--fwd-conf %s: invalid service %q with address %q: must have a name and an IPv4 address", path, name, ip)
		}
		if other, twice := addresses[name]; twice && other != at {
			return fmt.Errorf("--fwd-conf %s: service %s has two addresses, %v and %v", path, name, other, at)
		}
		addresses[name] = at
		return nil
	}
	for _, s := range file.Services {
		if err := add(s.Name, s.Name, s.IP); err != nil {
			return nil, nil, err
		}
	}
	for _, r := range file.Reservations {
		if err := add(r.Service, strings.TrimSuffix(r.Service+"."+r.Namespace, "."), r.IP); err != nil {
			return nil, nil, err
		}
	}
	if file.Base+file.DocumentedBase != "" {
		notes = append(notes, "--fwd-conf "+path+": the base IP is ignored: other services' addresses follow from their names")
	}
	for _, field := range unknown {
		notes = append(notes, "--fwd-conf "+field+" (ignored)")
	}
	return addresses, notes, nil
}
