//go:build linux && (amd64 || arm64)

package vmm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/kvm"
)

// router connects eventfds to interrupts of a VM. An SPI has the GSI of its number. Messages have
// the GSIs above all SPIs.
type router struct {
	vm interruptVM

	mu       sync.Mutex
	messages []*kvm.MSI // by GSI minus spis; nil if free
	lines    [spis]int  // how many devices are connected to each SPI
}

// interruptVM is the part of *kvm.VM that a router uses.
type interruptVM interface {
	SetRoutes([]kvm.Route) error
	Connect(fd int, gsi uint32) error
	ConnectLevel(fd, resample int, gsi uint32) error
	Disconnect(fd int, gsi uint32) error
	SetSPI(spi uint32, level bool) error
}

// maxMessages is the greatest number of connected messages.
const maxMessages = 512

// connectMSI makes each signal of an eventfd send a message, including a pending signal. undo
// disconnects the eventfd.
func (r *router) connectMSI(eventfd int, message kvm.MSI) (undo func() error, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := slices.Index(r.messages, nil)
	if at < 0 {
		if at = len(r.messages); at == maxMessages {
			return nil, fmt.Errorf("vmm: connect MSI: more than %d connected messages", maxMessages)
		}
		r.messages = append(r.messages, nil)
	}
	r.messages[at] = &message
	gsi := spis + uint32(at)
	if err = r.publish(); err == nil {
		err = connectPending(eventfd, func() error { return r.vm.Connect(eventfd, gsi) })
	}
	if err != nil {
		r.messages[at] = nil
		return nil, err
	}
	return func() error {
		r.mu.Lock()
		defer r.mu.Unlock()
		// The route stays in KVM until the next publish, without an effect.
		r.messages[at] = nil
		return r.vm.Disconnect(eventfd, gsi)
	}, nil
}

// publish replaces all routes of the VM.
func (r *router) publish() error {
	routes := make([]kvm.Route, 0, spis+len(r.messages))
	for spi := range uint32(spis) {
		routes = append(routes, kvm.Route{GSI: spi, SPI: spi})
	}
	for i, m := range r.messages {
		if m != nil {
			routes = append(routes, kvm.Route{GSI: spis + uint32(i), MSI: m})
		}
	}
	return r.vm.SetRoutes(routes)
}

// connectPending connects an eventfd. If it was signalled earlier, connectPending signals it once
// more. Otherwise KVM would send the interrupt and leave the eventfd readable. The signal would
// then be pending again after the eventfd is disconnected.
func connectPending(eventfd int, connect func() error) error {
	var count [8]byte
	_, err := unix.Read(eventfd, count[:])
	pending := err == nil
	if err != nil && !errors.Is(err, unix.EAGAIN) {
		return fmt.Errorf("vmm: connect MSI: read eventfd: %w", err)
	}
	err = connect()
	if pending {
		binary.NativeEndian.PutUint64(count[:], 1)
		if _, again := unix.Write(eventfd, count[:]); again != nil {
			return errors.Join(err, fmt.Errorf("vmm: connect MSI: signal eventfd: %w", again))
		}
	}
	return err
}
