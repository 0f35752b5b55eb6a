//go:build linux

package keeper

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kubeshore/kubeshore/pkg/listen"
)

// limitFiles lets this process open only a number of additional files, until reset is called.
func limitFiles(additional int) (reset func() error, err error) {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return nil, err
	}
	var original unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &original); err != nil {
		return nil, err
	}
	lower := original
	lower.Cur = uint64(len(entries) - 1 + additional) // one was ReadDir's
	return func() error { return unix.Setrlimit(unix.RLIMIT_NOFILE, &original) }, unix.Setrlimit(unix.RLIMIT_NOFILE, &lower)
}

// addrPorts returns n addresses with the same port.
func addrPorts(port uint16, n int) []netip.AddrPort {
	result := make([]netip.AddrPort, n)
	for i := range result {
		result[i] = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 64, byte(20 + i>>8), byte(i)}), port)
	}
	return result
}

// A keeper that runs out of descriptors returns the sockets that it has opened and
// an error for each other port. It opens those the next time.
func TestKeeperOutOfDescriptors(t *testing.T) {
	k := &Keeper{Ports: listen.NewEach("test")}
	want := addrPorts(freePort(t), 20)
	for _, room := range []int{1, 10, 19} {
		reset, err := limitFiles(room)
		if err != nil {
			t.Fatal(err)
		}
		var first response
		files, err := k.takePorts(t.Context(), request{Ports: &want}, &first)
		if err := errors.Join(err, reset()); err != nil {
			t.Error(err)
		}
		if len(first.PortErrors) == 0 || len(files)+len(first.PortErrors) != len(want) || len(first.Sockets) != len(files) {
			t.Errorf("room for %d: got %d descriptors for %v, and %d port errors, want %d in total",
				room, len(files), first.Sockets, len(first.PortErrors), len(want))
		}
		var second response
		rest, err := k.takePorts(t.Context(), request{Ports: &want, Existing: first.Sockets}, &second)
		if err != nil || len(rest) != len(first.PortErrors) || len(second.PortErrors) > 0 {
			t.Errorf("room for %d: the second call returned %d descriptors, port errors %v, error %v, want %d descriptors",
				room, len(rest), second.PortErrors, err, len(first.PortErrors))
		}
		closeAll(append(files, rest...))
	}
}

// descriptorsEnv makes TestClientOutOfDescriptors a daemon that runs out of
// descriptors. Its value is how many more the daemon may open, and a port.
const descriptorsEnv = "KUBESHORE_TEST_DESCRIPTORS"

// runOutOfDescriptors is the main function of that daemon. File descriptor 3 is the
// connection to the keeper. It returns the exit status: 0 if all checks pass.
func runOutOfDescriptors() int {
	var room int
	var port uint16
	if _, err := fmt.Sscan(os.Getenv(descriptorsEnv), &room, &port); err != nil {
		panic(err)
	}
	conn, err := net.FileConn(os.NewFile(3, "keeper"))
	if err != nil {
		panic(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	client, err := NewClient(ctx, conn.(*net.UnixConn), "test")
	if err != nil {
		panic(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- client.Run(ctx) }()
	want, ports := addrPorts(port, 3*rightsPerByte), listen.New(client)
	reset, err := limitFiles(room)
	if err != nil {
		panic(err)
	}
	portErrors := ports.Set(ctx, want)
	if err := reset(); err != nil {
		panic(err)
	}
	reachable := 0
	for _, at := range want {
		conn, err := net.Dial("tcp", at.String())
		if failed := portErrors[at] != nil; failed != errors.Is(err, unix.ECONNREFUSED) {
			fmt.Printf("%v: got port error %v, and dial error %v\n", at, portErrors[at], err)
			return 1
		}
		if err == nil {
			reachable++
			_ = conn.Close()
		} else if !strings.Contains(portErrors[at].Error(), "too many open files") {
			fmt.Printf("%v: got port error %v, want too many open files\n", at, portErrors[at])
			return 1
		}
	}
	if reachable == 0 || reachable == len(want) {
		fmt.Printf("got %d reachable ports of %d, want some\n", reachable, len(want))
		return 1
	}
	if portErrors := ports.Set(ctx, want); len(portErrors) > 0 {
		fmt.Printf("without the limit: got port errors %v, want none\n", portErrors)
		return 1
	}
	for _, at := range want {
		if _, err := net.Dial("tcp", at.String()); err != nil {
			fmt.Println(err)
			return 1
		}
	}
	cancel()
	if err := <-ended; err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// A daemon that runs out of descriptors gets errors for the remaining ports, keeps
// running, and opens those ports the next time.
func TestClientOutOfDescriptors(t *testing.T) {
	if os.Getenv(descriptorsEnv) != "" {
		os.Exit(runOutOfDescriptors())
	}
	for _, room := range []int{rightsPerByte + 20, 3*rightsPerByte - 1} {
		s := startKeeper(t.Context(), t)
		file, err := s.peer.File()
		if err := errors.Join(err, s.peer.Close()); err != nil {
			t.Fatal(err)
		}
		command := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestClientOutOfDescriptors$")
		command.Env = append(os.Environ(), fmt.Sprintf("%s=%d %d", descriptorsEnv, room, freePort(t)))
		command.ExtraFiles = []*os.File{file}
		command.Stdout, command.Stderr = os.Stdout, os.Stderr
		if err := command.Start(); err != nil {
			t.Fatal(err)
		}
		_ = file.Close()
		if err := errors.Join(command.Wait(), <-s.ended); err != nil {
			t.Errorf("room for %d: %v", room, err)
		}
	}
}
