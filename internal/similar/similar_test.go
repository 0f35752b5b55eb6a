package similar

import "testing"

func TestWord(t *testing.T) {
	fields := []string{"contexts", "namespaces", "include", "exclude", "domain", "ports", "ingress", "services"}
	for misspelled, want := range map[string]string{
		"nmaespaces": "namespaces", "namespace": "namespaces", "Namespaces": "namespaces", "context": "contexts", "excludes": "exclude",
		"port": "ports", "ingres": "ingress", "domian": "domain", "service": "services", "in": "", "": "", "kubeconfig": "", "name": "", "ports": "ports",
	} {
		if got := Word(misspelled, fields); got != want {
			t.Errorf("Word(%q): got %q, want %q", misspelled, got, want)
		}
	}
	if got := Word("x", nil); got != "" {
		t.Errorf("without candidates: got %q, want none", got)
	}
}
