package resolver

import (
	"cmp"
	"io"
	"io/fs"
	"iter"
	"maps"
	"path"
	"slices"
	"strings"
)

// Cause returns why the C library's resolver of a Linux system ignores the hosts file,
// or lets other sources override it, according to nsswitch.conf(5) and
// resolved.conf(5). It returns "" if it finds no reason. root is the root directory.
func Cause(root fs.FS) string {
	const file = "/etc/nsswitch.conf"
	services, found := hostsServices(root)
	if !found {
		return ""
	}
	line := "hosts: " + strings.Join(services, " ")
	files := slices.Index(services, "files")
	resolve := slices.Index(services, "resolve")
	switch {
	case resolve >= 0 && (files < 0 || resolve < files):
		if conf := readEtcHostsDisabled(root); conf != "" {
			return conf + ` has ReadEtcHosts=no, and ` + file + ` asks systemd-resolved first ("` + line + `"); add "files" before "resolve", or remove ReadEtcHosts=no`
		}
	case files < 0:
		return file + ` has no "files" ("` + line + `"); add "files" as the first entry`
	}
	if files > 0 {
		return file + ` asks ` + services[0] + ` before the hosts file ("` + line + `"); move "files" to the front`
	}
	return ""
}

// hostsServices returns the entries of nsswitch.conf's last hosts line, e.g. files or
// [NOTFOUND=return], and whether there is one.
func hostsServices(root fs.FS) (services []string, found bool) {
	for line := range configLines(root, "etc/nsswitch.conf") {
		if database, rest, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(database) == "hosts" {
			rest, _, _ = strings.Cut(rest, "#")
			services, found = strings.Fields(rest), true
		}
	}
	return services, found && len(services) > 0
}

// resolvedDropIns are the directories of systemd-resolved's drop-ins. A file hides
// those with its name in later directories.
var resolvedDropIns = []string{"etc/systemd/resolved.conf.d", "run/systemd/resolved.conf.d", "usr/local/lib/systemd/resolved.conf.d", "usr/lib/systemd/resolved.conf.d"}

// readEtcHostsDisabled returns the path of the file that turns systemd-resolved's
// ReadEtcHosts off, or "" if it is on, as by default.
func readEtcHostsDisabled(root fs.FS) string {
	dropIns := make(map[string]string) // by name
	for _, dir := range resolvedDropIns {
		paths, _ := fs.Glob(root, dir+"/*.conf") // the pattern is valid
		for _, p := range paths {
			dropIns[path.Base(p)] = cmp.Or(dropIns[path.Base(p)], p)
		}
	}
	files := make([]string, 0, 1+len(dropIns))
	files = append(files, "etc/systemd/resolved.conf")
	for _, name := range slices.Sorted(maps.Keys(dropIns)) {
		files = append(files, dropIns[name])
	}
	disabledBy := ""
	for _, file := range files {
		for line := range configLines(root, file) {
			key, value, _ := strings.Cut(line, "=")
			if strings.TrimSpace(key) != "ReadEtcHosts" {
				continue
			}
			switch strings.ToLower(strings.TrimSpace(value)) {
			case "no", "n", "false", "f", "off", "0":
				disabledBy = "/" + file
			default:
				disabledBy = ""
			}
		}
	}
	return disabledBy
}

// maxConfigSize is how much of a configuration file is read, in bytes.
const maxConfigSize = 1 << 20

// configLines returns the lines of a file, without comment lines and section names.
// There are none if it can't be read.
func configLines(root fs.FS, name string) iter.Seq[string] {
	return func(yield func(string) bool) {
		file, err := root.Open(name)
		if err != nil {
			return
		}
		defer file.Close()
		content, err := io.ReadAll(io.LimitReader(file, maxConfigSize))
		if err != nil {
			return
		}
		for line := range strings.Lines(string(content)) {
			line = strings.TrimSpace(line)
			if line != "" && !strings.ContainsRune("#;[", rune(line[0])) && !yield(line) {
				return
			}
		}
	}
}
