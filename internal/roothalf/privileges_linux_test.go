package roothalf

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kubeshore/kubeshore/internal/version"
	"github.com/kubeshore/kubeshore/pkg/keeper"
)

// The keeper and the guard of kubeshore-root keep few capabilities and system calls, on all
// threads and for their children, and do their work with these. A program that replaces
// theirs meanwhile isn't executed.
func TestKeeperDropsPrivileges(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	dir := t.TempDir()
	program := filepath.Join(dir, "kubeshore-root")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, "github.com/kubeshore/kubeshore/cmd/kubeshore-root")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	hostsFile := filepath.Join(dir, "hosts")
	if err := os.Mkdir(filepath.Join(dir, "sbin"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, listen := range []string{"each", "lookup"} {
		t.Run(listen, func(t *testing.T) { testKeeperPrivileges(t, program, hostsFile, listen) })
	}
}

func testKeeperPrivileges(t *testing.T, program, hostsFile, listen string) {
	const before = "127.0.0.1 localhost\n"
	if err := os.WriteFile(hostsFile, []byte(before), 0o644); err != nil {
		t.Fatal(err)
	}
	ours, theirs, err := socketPair()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	flushed := fakeResolvectl(t, program)
	command := exec.CommandContext(t.Context(), "unshare", "--mount", "sh", "-c", `mount --bind "$0" /usr/sbin && exec "$@"`, filepath.Join(filepath.Dir(program), "sbin"),
		program, KeeperCommand, "--hosts-file", hostsFile, "--listen", listen, "--owner", "12345", "--cidr", "127.83.0.0/16")
	command.ExtraFiles = []*os.File{theirs}
	command.Stderr = os.Stderr
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	if err := theirs.Close(); err != nil {
		t.Fatal(err)
	}
	client, err := keeper.NewClient(t.Context(), ours, version.String())
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- client.Run(t.Context()) }()
	wantNotExecuted := replaceProgram(t, program)
	at := netip.MustParseAddrPort("127.83.0.1:80")
	used, err := new(net.ListenConfig).Listen(t.Context(), "tcp4", "127.83.0.2:8089")
	if err != nil {
		t.Fatal(err)
	}
	defer used.Close()
	inUse := netip.MustParseAddrPort(used.Addr().String())
	sockets, portErrors, err := client.Take(t.Context(), []netip.AddrPort{at, inUse}, nil)
	if err != nil || len(sockets) != 1 {
		t.Fatalf("take port 80: got %d sockets, %v, %v", len(sockets), portErrors, err)
	}
	defer sockets[0].Close()
	if want := fmt.Sprintf("(pid %d)", os.Getpid()); listen == "each" && (portErrors[inUse] == nil || !strings.Contains(portErrors[inUse].Error(), want)) {
		t.Errorf("port in use: got %v, want an error with %q", portErrors[inUse], want)
	}
	conn, err := net.DialTimeout("tcp", at.String(), 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	if refused, err := client.Names().Set(t.Context(), map[netip.Addr][]string{at.Addr(): {"web.shop.svc"}}); err != nil || len(refused) > 0 {
		t.Fatalf("set names: got %v, %v", refused, err)
	}
	if content, err := os.ReadFile(hostsFile); err != nil || !strings.Contains(string(content), "web.shop.svc") {
		t.Errorf("got hosts file %q, %v", content, err)
	}
	flushed()
	naming := []int{}
	if listen == "each" {
		naming = []int{namingCapability}
	}
	checkPrivileges(t, command.Process.Pid, slices.Concat(hostsCapabilities, portCapabilities, naming))
	children, err := os.ReadFile("/proc/" + strconv.Itoa(command.Process.Pid) + "/task/" + strconv.Itoa(command.Process.Pid) + "/children")
	if err != nil {
		t.Fatal(err)
	}
	for child := range strings.FieldsSeq(string(children)) {
		pid, err := strconv.Atoi(child)
		if err != nil {
			t.Fatal(err)
		}
		checkPrivileges(t, pid, hostsCapabilities)
	}
	if err := command.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = command.Wait()
	if err := <-ended; err == nil {
		t.Error("the client's Run: got nil after the keeper was killed, want an error")
	}
	eventually(t, "the guard restores the hosts file", func() bool {
		content, err := os.ReadFile(hostsFile)
		return err == nil && string(content) == before
	})
	flushed()
	wantNotExecuted()
}

// replaceProgram replaces a program file until the end of the test, as another program
// that may write its directory could. It returns a function that checks that the new one
// was not executed.
func replaceProgram(t *testing.T, program string) (wantNotExecuted func()) {
	t.Helper()
	executed := filepath.Join(t.TempDir(), "executed")
	script := "#!/bin/sh\nid -u >>" + executed + "\n"
	err := errors.Join(os.Link(program, program+".original"), os.WriteFile(program+".new", []byte(script), 0o755), os.Rename(program+".new", program))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Rename(program+".original", program) })
	return func() {
		t.Helper()
		if users, err := os.ReadFile(executed); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the new program was executed by the users %q (%v), want it not to be", users, err)
		}
	}
}

// fakeResolvectl writes a program that flushes the DNS cache, in the directory sbin next to
// root's half. It returns a function that waits for its next call, and checks that it ran
// as root with the restrictions of the guard.
func fakeResolvectl(t *testing.T, program string) (flushed func()) {
	t.Helper()
	record := filepath.Join(t.TempDir(), "flushed")
	script := "#!/bin/sh\ngrep -E '^(Uid|CapEff|NoNewPrivs|Seccomp):' /proc/self/status >" + record + ".new && mv " + record + ".new " + record + "\n"
	if err := os.WriteFile(filepath.Join(filepath.Dir(program), "sbin", "resolvectl"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		const want = "Uid: 0 0 0 0 CapEff: 000000001000000b NoNewPrivs: 1 Seccomp: 2"
		eventually(t, "the DNS cache is flushed by a process with "+want, func() bool {
			content, err := os.ReadFile(record)
			return err == nil && strings.Join(strings.Fields(string(content)), " ") == want && os.Remove(record) == nil
		})
	}
}

// eventually polls a condition for ten seconds.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for start := time.Now(); !condition(); {
		if time.Since(start) > 10*time.Second {
			t.Fatalf("not within 10s: %s", what)
		}
	}
}

// checkPrivileges checks the capabilities of all threads of a process.
func checkPrivileges(t *testing.T, pid int, capabilities []int) {
	t.Helper()
	var want uint64
	for _, capability := range capabilities {
		want |= 1 << capability
	}
	files, err := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/status")
	if err != nil || len(files) < 2 {
		t.Fatalf("got threads %q, %v", files, err)
	}
	for _, file := range files {
		status, err := os.ReadFile(file)
		if err != nil {
			continue // the thread has exited
		}
		for line := range strings.Lines(string(status)) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), ":\t")
			switch name {
			case "CapPrm", "CapEff", "CapBnd":
				if got, err := strconv.ParseUint(value, 16, 64); err != nil || got != want {
					t.Errorf("%s: got %s %x, %v; want %x", file, name, got, err, want)
				}
			case "NoNewPrivs", "Seccomp": // the latter: 2 is a filter
				if want := map[string]string{"NoNewPrivs": "1", "Seccomp": "2"}[name]; value != want {
					t.Errorf("%s: got %s %s, want %s", file, name, value, want)
				}
			}
		}
	}
}
