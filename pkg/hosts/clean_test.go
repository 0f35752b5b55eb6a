package hosts

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestClean(t *testing.T) {
	f, path := openTestFile(t)
	mustSet(t, f, testTable)
	suspect := "127.64.9.9 gone.shop.svc.cluster.local gone\n"
	ownBlock := readFile(t, path)
	dead := beginMarker("1001") + "\n127.64.7.7 dead.shop # kubeshore 1001\n" + endMarker("1001") + "\n"
	if err := os.WriteFile(path, []byte(ownBlock+dead+suspect), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"new", "lock-1001", "lock-1002"} {
		if err := os.WriteFile(sidecarPath(path, kind), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	done, err := Clean(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(done.Owners, []string{"1001"}) || !slices.Equal(done.Running, []string{testOwner}) || len(done.Files) != 1 || len(done.Suspects) != 1 {
		t.Errorf("got %+v; want owner 1001 cleaned, %s running, one file removed and one suspect", done, testOwner)
	}
	wantContent(t, path, ownBlock+suspect)
	if done, err = Clean(t.Context(), path); err != nil || len(done.Owners)+len(done.Files) != 0 {
		t.Errorf("second Clean: got %+v, error %v; want nothing cleaned", done, err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if done, err = Clean(t.Context(), path); err != nil || !slices.Equal(done.Owners, []string{testOwner}) {
		t.Errorf("Clean after Close: got %+v, error %v; want owner %s cleaned", done, err, testOwner)
	}
}

// The addresses of other owners' lines are known with their owners, wherever the lines are.
func TestOtherOwners(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hosts")
	if others, err := OtherOwners(path, testOwner); err != nil || len(others) != 0 {
		t.Errorf("missing file: got %v, %v; want none", others, err)
	}
	text := "127.64.0.1 mine # kubeshore " + testOwner + "\n127.64.0.2 web.shop # kubeshore 1001\r\n127.64.0.3 other # kubeshored\n" +
		"127.64.0.4 user's own\nx web # kubeshore 1001\n" + beginMarker("1002") + "\n127.64.0.5   db db.shop # kubeshore 1002"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	want := map[netip.Addr]string{netip.MustParseAddr("127.64.0.2"): "1001", netip.MustParseAddr("127.64.0.5"): "1002"}
	if others, err := OtherOwners(path, testOwner); err != nil || !maps.Equal(others, want) {
		t.Errorf("got %v, %v; want %v", others, err, want)
	}
}

// Clean reports damaged lines as suspects, and not as removed.
func TestCleanReportsSuspects(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hosts")
	const text = "# BEGIN kubeshore 1000\n127.64.9.9 gone.shop.svc.cluster.local\n"
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	done, err := Clean(t.Context(), path)
	if err != nil || len(done.Owners)+len(done.Addresses) > 0 || len(done.Suspects) != 2 {
		t.Errorf("got %+v, error %v; want two suspects only", done, err)
	}
	wantContent(t, path, text)
}

func TestCleanOwnerWaitsForClose(t *testing.T) {
	f, path := openTestFile(t)
	mustSet(t, f, testTable)
	cleaned := make(chan error, 1)
	go func() {
		addrs, err := CleanOwner(t.Context(), path, testOwner)
		if !slices.Equal(addrs, []netip.Addr{addr1, addr2}) {
			err = errors.Join(err, fmt.Errorf("got addresses %v, want %v and %v", addrs, addr1, addr2))
		}
		cleaned <- err
	}()
	wantContent(t, path, original+blockLines)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-cleaned; err != nil {
		t.Fatal(err)
	}
	wantContent(t, path, original)
}
