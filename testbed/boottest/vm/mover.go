package vm

import (
	"fmt"
	"sync"
	"time"

	"github.com/go-vsmmu/vsmmuv3/testbed/guest"
	"github.com/go-vsmmu/vsmmuv3/testbed/report"
)

// mover has the SMMU moved while the disks of the test are at work: spread over their DMA, and each time by an endpoint that
// has a piece of a request before it, so that there is a request under way for sure. A nil one never does.
type mover struct {
	smmu  *smmu
	moves int         // that are asked for
	fail  func(error) // is told once that the SMMU is gone

	mu     sync.Mutex
	moved  uint64 // bytes of DMA
	report report.Moves
	failed bool
}

// testedBytes is the DMA that the test of the disks makes at least: two are written and read.
const testedBytes = 2 * 2 * guest.TestSize

// dataSize is the least that is the data of a request, in bytes; what is smaller is of rings and headers, and may be looked at
// when there is no request.
const dataSize = 512

// newMover spreads moves evenly.
func newMover(s *smmu, moves int, fail func(error)) *mover {
	if moves == 0 {
		return nil
	}
	return &mover{smmu: s, moves: moves, fail: fail}
}

// enter is called before n bytes of DMA, which leave ends. The caller must hold nothing that the SMMU, a vCPU or another
// endpoint may wait for.
func (m *mover) enter(n int) {
	if m == nil {
		return
	}
	m.progress(n)
	m.smmu.dma.RLock()
}

func (m *mover) leave() {
	if m != nil {
		m.smmu.dma.RUnlock()
	}
}

// progress counts data that is about to be moved, and moves the SMMU if it is time.
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
	size, err := m.smmu.move()
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

// fill puts what was done into the report.
func (m *mover) fill(r *report.Report) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	r.Moves = m.report
	r.Moves.DMA = m.moved
}
