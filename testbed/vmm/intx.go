//go:build linux && (amd64 || arm64)

package vmm

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// connectSPI makes each signal of the eventfd trigger raise a level-triggered interrupt, which
// devices may share. trigger does not block. When the guest has handled the interrupt, KVM lowers
// it and signals unmask. If the interrupt cannot be raised, connectSPI calls stop.
//
// A goroutine, not KVM, raises the interrupt. VFIO signals trigger from the handler of the physical
// interrupt, in which Linux 7.3 must not raise an SPI: it would call the CPUs of all vCPUs.
func (r *router) connectSPI(trigger, unmask int, spi uint32, stop func(error)) (undo func() error, err error) {
	fd, err := unix.FcntlInt(uintptr(trigger), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("vmm: connect INTx: duplicate eventfd: %w", err)
	}
	signals := os.NewFile(uintptr(fd), "INTx")
	// KVM needs an eventfd to report the end of the interrupt. Nothing signals this one.
	quiet, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("vmm: connect INTx: eventfd: %w", err), signals.Close())
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
				return // closed
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

// join counts one more device that shares an interrupt.
func (r *router) join(spi uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines[spi]++
}

// leave undoes join. It lowers the interrupt with the last device only. Before that, the level may
// belong to another device, which would lose its interrupt.
func (r *router) leave(spi uint32) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lines[spi]--; r.lines[spi] > 0 {
		return nil
	}
	return r.vm.SetSPI(spi, false)
}
