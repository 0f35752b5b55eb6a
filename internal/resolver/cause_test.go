package resolver

import (
	"strings"
	"testing"
	"testing/fstest"
)

func TestCause(t *testing.T) {
	const nsswitch, resolved = "etc/nsswitch.conf", "etc/systemd/resolved.conf"
	for name, test := range map[string]struct {
		files map[string]string
		want  string // "": no cause
	}{
		"no files at all":       {nil, ""},
		"Debian":                {map[string]string{nsswitch: "passwd: files\nhosts:          files mdns4_minimal [NOTFOUND=return] dns\n"}, ""},
		"Fedora":                {map[string]string{nsswitch: "hosts: files myhostname resolve [!UNAVAIL=return] dns\n", resolved: "ReadEtcHosts=no\n"}, ""},
		"without files":         {map[string]string{nsswitch: "hosts: dns\n"}, `has no "files" ("hosts: dns")`},
		"DNS first":             {map[string]string{nsswitch: "# hosts: files\nhosts: dns [NOTFOUND=return] files # note\n"}, "asks dns before the hosts file"},
		"the last line counts":  {map[string]string{nsswitch: "hosts: dns\nhosts: files dns\n"}, ""},
		"resolved first":        {map[string]string{nsswitch: "hosts: resolve [!UNAVAIL=return] files dns\n"}, "asks resolve before the hosts file"},
		"resolved without file": {map[string]string{nsswitch: "hosts: resolve files\n", resolved: "[Resolve]\n#ReadEtcHosts=yes\nReadEtcHosts = no\n"}, "/etc/systemd/resolved.conf has ReadEtcHosts=no"},
		"a drop-in": {map[string]string{
			nsswitch: "hosts: resolve\n", "usr/lib/systemd/resolved.conf.d/10.conf": "[Resolve]\nReadEtcHosts=off\n",
		}, "/usr/lib/systemd/resolved.conf.d/10.conf has ReadEtcHosts=no"},
		"a hidden drop-in": {map[string]string{
			nsswitch: "hosts: resolve\n", "usr/lib/systemd/resolved.conf.d/10.conf": "ReadEtcHosts=off\n", "etc/systemd/resolved.conf.d/10.conf": "",
		}, ""},
		"a later drop-in": {map[string]string{nsswitch: "hosts: resolve files\n", resolved: "ReadEtcHosts=no\n", "run/systemd/resolved.conf.d/90.conf": "ReadEtcHosts=yes\n"}, "asks resolve before"},
	} {
		t.Run(name, func(t *testing.T) {
			root := fstest.MapFS{}
			for path, content := range test.files {
				root[path] = &fstest.MapFile{Data: []byte(content)}
			}
			if got := Cause(root); !strings.Contains(got, test.want) || test.want == "" && got != "" {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
