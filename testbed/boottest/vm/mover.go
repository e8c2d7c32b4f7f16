package vm

import (
	"fmt"
	"sync"
	"time"

	"github.com/go-vsmmu/vsmmuv3/testbed/guest"
	"github.com/go-vsmmu/vsmmuv3/testbed/report"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/movable"
)

// mover moves the SMMU during the test of the disks, at points spread over their DMA. An endpoint
// makes each move before it moves a piece of a request, so that a request is in flight. A nil mover
// moves nothing.
type mover struct {
	smmu  *movable.SMMU
	moves int         // number of moves to make
	fail  func(error) // called once, if a move fails

	mu     sync.Mutex
	moved  uint64 // bytes of DMA
	report report.Moves
	failed bool
}

// testedBytes is the least DMA of the test: two disks are written and read.
const testedBytes = 2 * 2 * guest.TestSize

// dataSize is the size in bytes of the smallest piece of a request's data. Smaller accesses are to
// rings and headers, and may happen without a request.
const dataSize = 512

// newMover returns a mover that spreads the moves evenly.
func newMover(s *movable.SMMU, moves int, fail func(error)) *mover {
	if moves == 0 {
		return nil
	}
	return &mover{smmu: s, moves: moves, fail: fail}
}

// enter starts n bytes of DMA, which leave ends. The caller must hold no lock that the SMMU, a vCPU
// or another endpoint may wait for.
func (m *mover) enter(n int) {
	if m == nil {
		return
	}
	m.progress(n)
	m.smmu.EnterDMA()
}

func (m *mover) leave() {
	if m != nil {
		m.smmu.LeaveDMA()
	}
}

// progress counts data that is about to be moved, and moves the SMMU when a move is due.
func (m *mover) progress(n int) {
	if n < dataSize {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.moved += uint64(n)
	r := &m.report
	if m.failed || r.Made == m.moves || m.moved < uint64(r.Made+1)*testedBytes/uint64(m.moves+1) {
		return
	}
	began := time.Now()
	size, err := m.smmu.Move()
	if err != nil {
		m.failed = true
		m.fail(fmt.Errorf("move %d of the SMMU: %w", r.Made+1, err))
		return
	}
	r.Made++
	r.StateBytes = max(r.StateBytes, size)
	r.Longest = max(r.Longest, time.Since(began).Seconds())
	r.At = append(r.At, m.moved)
}

// fill adds the moves to the report.
func (m *mover) fill(r *report.Report) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	r.Moves = m.report
	r.Moves.DMA = m.moved
}
