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

// limitFiles lets this process have so many descriptors more, until back is called.
func limitFiles(more int) (back func() error, err error) {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return nil, err
	}
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		return nil, err
	}
	less := was
	less.Cur = uint64(len(entries) - 1 + more) // one was the folder's
	return func() error { return unix.Setrlimit(unix.RLIMIT_NOFILE, &was) }, unix.Setrlimit(unix.RLIMIT_NOFILE, &less)
}

// many are so many addresses with a port.
func many(port uint16, n int) []netip.AddrPort {
	result := make([]netip.AddrPort, n)
	for i := range result {
		result[i] = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 64, byte(20 + i>>8), byte(i)}), port)
	}
	return result
}

// A keeper that has few descriptors gives what it can, says of each other port that it
// can't be had, and gives that the next time.
func TestKeeperShortOfDescriptors(t *testing.T) {
	k := &Keeper{Ports: listen.NewEach("test")}
	want := many(free(t), 20)
	for _, room := range []int{1, 10, 19} {
		back, err := limitFiles(room)
		if err != nil {
			t.Fatal(err)
		}
		var a answer
		files, err := k.take(t.Context(), request{Ports: &want}, &a)
		if err := errors.Join(err, back()); err != nil {
			t.Error(err)
		}
		if len(a.Faults) == 0 || len(files)+len(a.Faults) != len(want) || len(a.Sockets) != len(files) {
			t.Errorf("room for %d: %d descriptors for %v, and %d faults", room, len(files), a.Sockets, len(a.Faults))
		}
		var b answer
		rest, err := k.take(t.Context(), request{Ports: &want, Have: a.Sockets}, &b)
		if err != nil || len(rest) != len(a.Faults) || len(b.Faults) > 0 {
			t.Errorf("room for %d: then it gives %d of %d, %v, %v", room, len(rest), len(a.Faults), b.Faults, err)
		}
		closeAll(append(files, rest...))
	}
}

// shortEnv has TestClientShortOfDescriptors be a daemon that is short of descriptors: it
// says how many it has room for, and the port.
const shortEnv = "KUBESHORE_TEST_SHORT"

// short is that daemon. It has the keeper's connection as descriptor 3, and ends with 0
// if all is as it should be.
func short() int {
	var room int
	var port uint16
	if _, err := fmt.Sscan(os.Getenv(shortEnv), &room, &port); err != nil {
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
	want, ports := many(port, 3*rightsPerByte), listen.New(client)
	back, err := limitFiles(room)
	if err != nil {
		panic(err)
	}
	faults := ports.Set(ctx, want)
	if err := back(); err != nil {
		panic(err)
	}
	works := 0
	for _, at := range want {
		conn, err := net.Dial("tcp", at.String())
		if faulty := faults[at] != nil; faulty != errors.Is(err, unix.ECONNREFUSED) {
			fmt.Printf("%v: fault %v, and connecting says %v\n", at, faults[at], err)
			return 1
		}
		if err == nil {
			works++
			_ = conn.Close()
		} else if !strings.Contains(faults[at].Error(), "too many open files") {
			fmt.Println(faults[at])
			return 1
		}
	}
	if works == 0 || works == len(want) {
		fmt.Println(works, "work")
		return 1
	}
	if faults := ports.Set(ctx, want); len(faults) > 0 {
		fmt.Println("there is room again, but", faults)
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

// To a daemon that is short of descriptors it is a fault of the ports that it has none
// for, and neither the end nor for good.
func TestClientShortOfDescriptors(t *testing.T) {
	if os.Getenv(shortEnv) != "" {
		os.Exit(short())
	}
	for _, room := range []int{rightsPerByte + 20, 3*rightsPerByte - 1} {
		s := serve(t.Context(), t)
		file, err := s.peer.File()
		if err := errors.Join(err, s.peer.Close()); err != nil {
			t.Fatal(err)
		}
		command := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestClientShortOfDescriptors$")
		command.Env = append(os.Environ(), fmt.Sprintf("%s=%d %d", shortEnv, room, free(t)))
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
