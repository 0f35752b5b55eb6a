package listen_test

import (
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kubeshore/kubeshore/pkg/listen"
)

// Without descriptors for new connections, that is reported once, with what to do,
// and the connection is accepted as soon as there is one.
func TestAcceptWithoutDescriptorsIsReportedOnce(t *testing.T) {
	p, at := listen.New(listen.NewEach("test")), freePorts(t, 1)
	defer p.Close()
	reports := make(chan error, 100)
	p.AcceptFailed = func(err error) { reports <- err }
	mustSet(t, p, at...)
	client, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(client)
	release := useAllDescriptors(t)
	defer release()
	if err := syscall.Connect(client, &syscall.SockaddrInet4{Port: int(at[0].Port()), Addr: at[0].Addr().As4()}); err != nil {
		t.Fatal(err)
	}
	if err := <-reports; err == nil || !strings.Contains(err.Error(), "too many open files; raise this process's limit of open files (ulimit -n)") {
		t.Errorf("got report %v, want one about open files", err)
	}
	select {
	case err := <-reports:
		t.Errorf("got a second report %v", err)
	case <-time.After(5 * 50 * time.Millisecond): // some attempts
	}
	release()
	conn, err := p.Accept()
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	if err := <-reports; err != nil {
		t.Errorf("got report %v, want nil", err)
	}
}

// useAllDescriptors leaves this process no free descriptors until release is called.
func useAllDescriptors(t *testing.T) (release func()) {
	t.Helper()
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	if _, err := net.LookupHost("localhost"); err != nil { // opens what the resolver keeps open
		t.Log(err)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	limit := before
	limit.Cur = uint64(null.Fd()) + 16
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	files := []*os.File{null}
	for {
		file, err := os.Open(os.DevNull)
		if err != nil {
			break
		}
		files = append(files, file)
	}
	return func() {
		for _, file := range files {
			_ = file.Close()
		}
		files = nil
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
			t.Error(err)
		}
	}
}
