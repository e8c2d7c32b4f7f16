//go:build linux && (amd64 || arm64)

package vmm

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// connectSPI has each signal of the eventfd trigger, which does not block, raise a level-triggered interrupt, which devices may
// share. When the guest has handled it, it falls, and unmask is signalled. An interrupt that cannot be raised is why stop is called.
//
// KVM could take the signals without us, as it does those of messages. But VFIO gives them from the handler of the physical
// interrupt, where Linux 7.3 may not raise an SPI: it calls the CPUs of all vCPUs for that, and warns that it must not.
func (r *router) connectSPI(trigger, unmask int, spi uint32, stop func(error)) (undo func() error, err error) {
	fd, err := unix.FcntlInt(uintptr(trigger), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("vmm: duplicating an eventfd: %w", err)
	}
	signals := os.NewFile(uintptr(fd), "INTx")
	// What KVM has a connection for is that it notices the guest's handling. Nobody signals this end of it.
	quiet, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("vmm: eventfd: %w", err), signals.Close())
	}
	if err := r.vm.ConnectLevel(quiet, unmask, spi); err != nil {
		return nil, errors.Join(err, unix.Close(quiet), signals.Close())
	}
	r.join(spi)
	var raising sync.WaitGroup
	raising.Go(func() {
		var count [8]byte
		for {
			if _, err := signals.Read(count[:]); err != nil {
				return // it is closed
			}
			if err := r.vm.SetSPI(spi, true); err != nil {
				stop(err)
				return
			}
		}
	})
	return func() error {
		err := signals.Close()
		raising.Wait()
		return errors.Join(err, r.vm.Disconnect(quiet, spi), r.leave(spi), unix.Close(quiet))
	}, nil
}

// join has one more device share an interrupt.
func (r *router) join(spi uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines[spi]++
}

// leave undoes join. The interrupt falls with the last device: before, it may be up for another, which would wait for ever, and if
// it is not, the guest finds nobody who has raised it.
func (r *router) leave(spi uint32) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lines[spi]--; r.lines[spi] > 0 {
		return nil
	}
	return r.vm.SetSPI(spi, false)
}
