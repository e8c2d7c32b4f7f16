package vm

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/go-vsmmu/vsmmuv3/internal/asjson"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/testbed/guest"
	"github.com/go-vsmmu/vsmmuv3/testbed/report"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm"
)

// endpoints are the devices behind the SMMU, by the serial of the disk that each of them is. On the PCI bus their places are
// their StreamIDs.
var endpoints = []struct {
	serial string
	id     smmuv3.StreamID
}{{guest.Plain, 0x10}, {guest.PASID, 0x21}, {guest.Rogue, 0x32}}

// master says how endpoint i stands behind the SMMU.
func (j Job) master(i int) vmm.Master {
	m := vmm.Master{StreamID: endpoints[i].id}
	if j.PCI {
		m.StreamID = vmm.PCIStreamID(i)
	}
	switch endpoints[i].serial {
	case guest.PASID:
		m.PASIDBits = uint32(j.PASIDBits)
	case guest.Rogue:
		m.CanStall = j.Stalls
	}
	return m
}

// strayAddress is what no guest maps: Linux hands out addresses for DMA from 4 GiB downwards, or from the top of the range.
// It lies in the range that a context descriptor of 47 bits and more can translate.
const strayAddress = 0x5bad_0000_0000

// maxBinds is how many stages of a stream are kept for the report.
const maxBinds = 64

// endpoint is a device's way to memory, which counts what passes by the stage that is bound meanwhile.
type endpoint struct {
	id     smmuv3.StreamID
	serial string
	dma    *soft.Endpoint
	mover  *mover
	tap    func(sid smmuv3.StreamID, write bool, iova uint64, n int, err error) // unless nil, is told of each access; must not wait for the SMMU

	bound   atomic.Uint32                             // the bridge.Disposition
	moved   [bridge.TranslateNested + 1]atomic.Uint64 // bytes
	sent    [bridge.TranslateNested + 1]atomic.Uint64 // messages
	refused atomic.Uint64

	mu    sync.Mutex
	binds []asjson.Bind
	calls int
}

// ReadAt, WriteAt and Map are a virtio.Mapper's.
func (e *endpoint) ReadAt(p []byte, iova uint64) error { return e.access(p, iova, false, e.dma.ReadAt) }

func (e *endpoint) WriteAt(p []byte, iova uint64) error {
	return e.access(p, iova, true, e.dma.WriteAt)
}

func (e *endpoint) access(p []byte, iova uint64, write bool, dma func([]byte, uint64) error) error {
	e.mover.enter(len(p))
	defer e.mover.leave()
	bound := e.bound.Load()
	return e.note(bound, write, iova, len(p), dma(p, iova))
}

// Map has a piece noted as moved when it is lent out, and nothing where it fails without a fault: it is tried again in another
// way.
func (e *endpoint) Map(iova uint64, n int, write bool, buf [][]byte) (soft.Mapping, error) {
	e.mover.enter(n)
	defer e.mover.leave()
	bound := e.bound.Load()
	m, err := e.dma.Map(iova, n, write, buf)
	if err == nil || errors.Is(err, soft.ErrFault) {
		err = e.note(bound, write, iova, n, err)
	}
	return m, err
}

func (e *endpoint) note(bound uint32, write bool, iova uint64, n int, err error) error {
	if e.tap != nil {
		e.tap(e.id, write, iova, n, err)
	}
	return e.count(bound, n, err)
}

func (e *endpoint) count(bound uint32, n int, err error) error {
	if err != nil {
		e.refused.Add(1)
		return err
	}
	e.moved[bound].Add(uint64(n))
	return nil
}

// bind notes a stage and the host's answer.
func (e *endpoint) bind(s bridge.GuestStage, err error) {
	b := asjson.BindOf(s, err)
	if err == nil {
		e.bound.Store(uint32(s.Disposition))
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.calls++; len(e.binds) < maxBinds {
		e.binds = append(e.binds, b)
	}
}

// report is what is known by now.
func (e *endpoint) report() report.Stream {
	s := report.Stream{
		StreamID: uint32(e.id), Endpoint: e.serial, Moved: byDisposition(&e.moved), Messages: byDisposition(&e.sent), Refused: e.refused.Load(),
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	s.Binds, s.BindCalls = slices.Clone(e.binds), e.calls
	return s
}

func byDisposition(counts *[bridge.TranslateNested + 1]atomic.Uint64) map[string]uint64 {
	m := map[string]uint64{}
	for d := range counts {
		if n := counts[d].Load(); n > 0 {
			m[bridge.Disposition(d).String()] = n
		}
	}
	return m
}
