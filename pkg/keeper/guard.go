//go:build linux || darwin

package keeper

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"
)

const (
	// guardTime is how long a guard may take to end that has nothing to do.
	guardTime = 2 * time.Second
	// restoreTime is how long it may take to end that has.
	restoreTime = 15 * time.Second
)

// Guard is a process of its own that holds a pipe to the keeper, and puts the
// machine back if the keeper dies.
type Guard struct {
	pipe  *os.File
	died  chan struct{} // closed when the process has ended
	fault error         // how; set before died is closed
}

// StartGuard starts a guard: the program that command names, which must call
// [Watch] with the file that it gets as descriptor 3. The caller calls End.
func StartGuard(command *exec.Cmd) (*Guard, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("guard: %w", err)
	}
	defer read.Close()
	command.ExtraFiles = []*os.File{read}
	// A session of its own: what is sent to the keeper's terminal isn't for it.
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := command.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("guard: %w", err), write.Close())
	}
	g := &Guard{pipe: write, died: make(chan struct{})}
	go func() {
		g.fault = command.Wait()
		close(g.died)
	}()
	return g, nil
}

// Died is closed when the guard has ended, whyever.
func (g *Guard) Died() <-chan struct{} { return g.died }

// End ends the guard, and waits for that: restored tells whether the machine is as it
// was. If it isn't, the guard tries to put it back, and End's error says whether it
// could. A guard that has died is no fault here: whoever has it listens to Died.
func (g *Guard) End(restored bool) error {
	limit := time.After(restoreTime)
	if restored {
		limit = time.After(guardTime)
		_, _ = g.pipe.Write([]byte{done}) // it may have died, or die now
	}
	early := g.hasDied()
	err := g.pipe.Close()
	select {
	case <-g.died:
		if early {
			return err
		}
		return errors.Join(err, g.fault)
	case <-limit:
		return errors.Join(err, errors.New("the guard doesn't end"))
	}
}

func (g *Guard) hasDied() bool {
	select {
	case <-g.died:
		return true
	default:
		return false
	}
}

// done is what a keeper says that has put the machine back itself.
const done = 1

// Watch is what a guard does: it waits until the keeper at the other end of pipe has
// ended, or can't put the machine back, and calls restore, unless that is done.
func Watch(pipe io.Reader, restore func() error) error {
	said := make([]byte, 1)
	if n, _ := io.ReadFull(pipe, said); n == 1 && said[0] == done { // an error is the end as well
		return nil
	}
	return restore()
}
