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

// endpoints are the devices behind the SMMU, each a disk with a serial. On the PCI bus their
// requester IDs are their StreamIDs.
var endpoints = []struct {
	serial string
	id     smmuv3.StreamID
}{{guest.Plain, 0x10}, {guest.PASID, 0x21}, {guest.Rogue, 0x32}}

// mixedStreamBase is the StreamID of requester 0 if not all endpoints are PCI functions.
const mixedStreamBase = 0x2000

// complete returns the job with the StreamIDs that its layout needs.
func (j Job) complete() Job {
	if j.Mixed || j.UEFI && !j.PCI {
		// The requester IDs include the StreamIDs of the other endpoints.
		j.Wiring.StreamBase = mixedStreamBase
	}
	return j
}

// onPCI reports whether endpoint i is a PCI function.
func (j *Job) onPCI(i int) bool { return j.PCI && (i == 0 || !j.Mixed) }

// master returns how endpoint i is connected to an SMMU. Functions are behind the first.
func (j *Job) master(i int) vmm.Master {
	m := vmm.Master{StreamID: endpoints[i].id}
	if j.onPCI(i) {
		m.StreamID = j.Wiring.StreamBase + vmm.PCIStreamID(i)
	} else {
		m.SMMU = i % j.smmus()
	}
	switch endpoints[i].serial {
	case guest.PASID:
		m.PASIDBits = uint32(j.PASIDBits)
	case guest.Rogue:
		m.CanStall = j.Stalls
	}
	return m
}

// strayAddress is an IOVA that no guest maps: Linux allocates IOVAs downwards from 4 GiB or from
// the top of the range. It is in the range of a Context Descriptor of 47 bits or more.
const strayAddress = 0x5bad_0000_0000

// maxBinds is the number of stages of a stream that the report keeps.
const maxBinds = 64

// endpoint is a device's DMA. It counts bytes and messages by the disposition of the bound stage.
type endpoint struct {
	id     smmuv3.StreamID
	serial string
	dma    *soft.Endpoint
	mover  *mover
	// tap, unless nil, is called for each access. It must not wait for the SMMU.
	tap func(sid smmuv3.StreamID, write bool, iova uint64, n int, err error)

	bound   atomic.Uint32                             // the bridge.Disposition
	moved   [bridge.TranslateNested + 1]atomic.Uint64 // bytes
	sent    [bridge.TranslateNested + 1]atomic.Uint64 // messages
	refused atomic.Uint64

	mu    sync.Mutex
	binds []asjson.Bind
	calls int
}

// ReadAt, WriteAt and Map implement virtio.Mapper.
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

// Map counts the bytes of a mapping as moved. A Map that fails without a fault counts nothing: the
// caller then makes the access in another way.
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

// bind records a stage and the host's answer.
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

// report returns the counts so far.
func (e *endpoint) report() report.Stream {
	s := report.Stream{
		StreamID: uint32(e.id), Endpoint: e.serial,
		Moved: byDisposition(&e.moved), Messages: byDisposition(&e.sent), Refused: e.refused.Load(),
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
