package ownsmmu

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/testbed/labtest/machine"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/movable"
)

// movableSMMU has the methods of a movable.SMMU.
type movableSMMU interface {
	Load(off uint64, size int) uint64
	Store(off uint64, size int, v uint64)
	Move() (size int, err error)
}

// mover is the SMMU's register file. It moves the SMMU at moments of several kinds. A move after a
// store to a register happens while the vCPU waits. A move after a command, a bind or an event
// happens as soon as possible. mover moves at the first, second, fourth and eighth moment of each
// kind, and so on.
type mover struct {
	smmu  movableSMMU
	asked chan string // the moment of a move that is due

	mu      sync.Mutex
	seen    map[string]uint64 // moments by kind
	made    map[string]int
	busy    int
	size    int
	longest time.Duration
	err     error
}

func newMover() *mover {
	return &mover{asked: make(chan string, 1), seen: map[string]uint64{}, made: map[string]int{}}
}

// due counts a moment, and reports whether a move is due at this moment.
func (m *mover) due(moment string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.seen[moment]++
	n := m.seen[moment]
	return n&(n-1) == 0
}

// ask requests a move at a moment, if a move is due. It does not wait, since the caller may hold
// locks of the SMMU. It has no effect while another request is open.
func (m *mover) ask(moment string) {
	if !m.due(moment) {
		return
	}
	select {
	case m.asked <- moment:
	default:
	}
}

// run makes the requested moves until ctx ends. It calls fail if a move fails. At the end the
// channel gets the error, or nil.
func (m *mover) run(ctx context.Context, fail context.CancelCauseFunc) <-chan error {
	ended := make(chan error, 1)
	go func() {
		defer func() {
			m.mu.Lock()
			defer m.mu.Unlock()
			ended <- m.err
		}()
		for {
			select {
			case <-ctx.Done():
				return
			case moment := <-m.asked:
				if err := m.move(moment); err != nil {
					fail(err)
					return
				}
			}
		}
	}()
	return ended
}

// errBroken is the error of a move after a failed move.
var errBroken = errors.New("an earlier move failed")

// move moves the SMMU.
func (m *mover) move(moment string) error {
	m.mu.Lock()
	broken := m.err != nil
	m.mu.Unlock()
	if broken {
		return errBroken
	}
	began := time.Now()
	size, err := m.smmu.Move()
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case err == nil:
		m.made[moment]++
		m.size = max(m.size, size)
		m.longest = max(m.longest, time.Since(began))
	case errors.Is(err, movable.ErrBusy):
		m.busy++
	default:
		m.err = fmt.Errorf("moving the SMMU after %s: %w", moment, err)
	}
	return m.err
}

// Load implements vmm.MMIODevice.
func (m *mover) Load(off uint64, size int) uint64 { return m.smmu.Load(off, size) }

// Store implements vmm.MMIODevice.
func (m *mover) Store(off uint64, size int, v uint64) {
	m.smmu.Store(off, size, v)
	if moment := "store to " + smmuv3.RegisterName(off); m.due(moment) {
		_ = m.move(moment) // run returns the error
	}
}

// fill adds the moves to the report.
func (m *mover) fill(own *machine.Own) {
	m.mu.Lock()
	defer m.mu.Unlock()
	own.Moves, own.Busy, own.StateBytes, own.Longest = m.made, m.busy, m.size, m.longest.Seconds()
}
