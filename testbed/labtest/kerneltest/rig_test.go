//go:build linux && (amd64 || arm64)

package kerneltest

import (
	"bytes"
	"crypto/rand"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/bridgetest"
	"github.com/go-vsmmu/vsmmuv3/bridge/iommufd"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/testbed/labtest/edu"
	"github.com/go-vsmmu/vsmmuv3/testbed/labtest/machine"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/edu/regs"
)

// TestMain makes the test binary the init of a lab machine if the machine's kernel starts it as
// init. The tests then run on this kernel. Outside the lab they skip.
func TestMain(m *testing.M) {
	machine.Main(func(here *machine.Machine) int {
		lab = here
		return m.Run()
	})
}

// lab is the machine; nil outside the lab.
var lab *machine.Machine

// The guest's memory. The rig keeps the scratch page for itself.
const (
	ram     guestmem.GPA = 0x4000_0000
	scratch guestmem.GPA = 0x6000_0000
	pages                = 64 << 10 // a page of any granule
)

// kernelRig is a host on the real kernel with edu devices. It finds where their DMA writes.
//
// Only the DMA engine reaches a device's buffer. Each buffer therefore holds a unique pattern.
// After a write, the rig searches memory for the pattern and replaces it with the suite's bytes.
// After a read, the rig makes the device write the bytes back to the address of the read. If the
// device may not write there, the rig binds the stream to bypass and makes the device write to the
// scratch page.
type kernelRig struct {
	*guestmem.Slots
	t       *testing.T
	host    *settled
	ram     []byte
	used    atomic.Uint64 // bytes of ram that the suite uses, from the start
	scratch []byte
	devices map[bridge.Endpoint]*eduDevice
	ends    []bridge.Endpoint
}

type eduDevice struct {
	*edu.Device
	pattern []byte
}

// The device's buffer holds the pattern, followed by the data of the last read.
const (
	patternAt, patternSize = 0, edu.BufferSize / 2
	readAt                 = patternSize
)

func needsLab(t *testing.T) {
	t.Helper()
	if lab == nil {
		t.Skip("not in a lab machine")
	}
}

// newKernelRig returns a rig of the first two devices.
func newKernelRig(t *testing.T) *kernelRig {
	t.Helper()
	needsLab(t)
	return newKernelRigOf(t, lab.Alone()[:2]...)
}

// newKernelRigOf returns a rig of the devices with these PCI addresses.
func newKernelRigOf(t *testing.T, devices ...string) *kernelRig {
	t.Helper()
	h, err := iommufd.Open(iommufd.Config{ATS: lab.InGuest()})
	require.NoError(t, err)
	r := &kernelRig{
		t: t, Slots: new(guestmem.Slots), devices: map[bridge.Endpoint]*eduDevice{},
	}
	r.ram, r.scratch = guestMemory(t)
	r.host = &settled{Host: h, rig: r, streams: map[bridge.Endpoint]*settledStream{}}
	t.Cleanup(func() {
		memory.used = max(memory.used, r.used.Load())
		if err := h.Close(); !errors.Is(err, bridge.ErrClosed) { // the test may have closed it
			assert.NoError(t, err)
		}
		for _, d := range r.devices {
			assert.NoError(t, d.Close())
		}
		assert.Zero(t, h.Stats().Objects, "objects left")
		figures := machine.Figures(h.Stats())
		assert.NoError(t, lab.Send(machine.Message{Figures: &figures}))
	})
	for _, s := range []guestmem.Slot{{GPA: ram, Mem: r.ram}, {GPA: scratch, Mem: r.scratch}} {
		require.NoError(t, h.Map(s))
		require.NoError(t, r.Slots.Add(s))
	}
	for _, address := range devices {
		r.add(h, address)
	}
	require.NotEmpty(t, r.ends)
	return r
}

// anonymous returns memory that an SMMU of any granule can map.
func anonymous(t *testing.T, size int) []byte {
	t.Helper()
	mem, whole := huge(t, size)
	t.Cleanup(func() { _ = unix.Munmap(whole) })
	return mem
}

// hugePage is the size of memory that the kernel finds, clears and maps at once if it can.
const hugePage = 2 << 20

// huge returns memory in huge pages, and the mapping that it is a part of. A kernel that has no huge
// page at hand gives smaller ones: those of another size than the SMMU's granule it cannot map.
func huge(t *testing.T, size int) (mem, whole []byte) {
	t.Helper()
	whole, err := unix.Mmap(-1, 0, (size+2*hugePage-1)/hugePage*hugePage, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	require.NoError(t, err)
	_ = unix.Madvise(whole, unix.MADV_HUGEPAGE) // a kernel without huge pages is slower
	return whole[-uintptr(unsafe.Pointer(&whole[0]))%hugePage:][:size], whole
}

// memory is the guest's memory. All rigs use it, one after the other: the kernel needs long to find
// and clear its pages.
var memory struct {
	ram, scratch []byte
	used         uint64 // bytes of ram that may not be zero, from the start
}

// guestMemory returns the guest's memory, all zero.
func guestMemory(t *testing.T) (ram, scratch []byte) {
	t.Helper()
	if memory.ram != nil {
		clear(memory.ram[:memory.used])
		clear(memory.scratch)
		return memory.ram, memory.scratch
	}
	mem, _ := huge(t, bridgetest.RAMSize+pages)
	memory.ram, memory.scratch = mem[:bridgetest.RAMSize], mem[bridgetest.RAMSize:]
	return memory.ram, memory.scratch
}

// patterns are the patterns of the devices, by their address. A device keeps its buffer until the
// machine ends.
var patterns = map[string][]byte{}

func (r *kernelRig) add(h *iommufd.Host, address string) {
	r.t.Helper()
	path, err := iommufd.FindDevice(address)
	require.NoError(r.t, err)
	d, err := h.Add(path)
	require.NoError(r.t, err)
	e, err := edu.Open(d.FD())
	require.NoError(r.t, err)
	dev := &eduDevice{Device: e, pattern: patterns[address]}
	r.devices[d] = dev
	r.ends = append(r.ends, d)
	if dev.pattern != nil {
		return
	}
	dev.pattern = make([]byte, patternSize)
	_, _ = rand.Read(dev.pattern)
	copy(r.scratch, dev.pattern)
	st, err := h.Attach(0, d)
	require.NoError(r.t, err)
	require.NoError(r.t, st.Bind(bridge.GuestStage{Disposition: bridge.Bypass}))
	require.NoError(r.t, dev.Load(uint64(scratch), patternAt, patternSize))
	require.NoError(r.t, st.Close())
	patterns[address] = dev.pattern
}

// dma implements bridgetest.Rig.DMA.
func (r *kernelRig) dma(ep bridge.Endpoint, write bool, iova uint64, p []byte) error {
	return r.dmaWith(ep, 0, write, iova, p)
}

// substreamDMA implements bridgetest.Rig.SubstreamDMA.
func (r *kernelRig) substreamDMA(ep bridge.Endpoint, s smmuv3.SubstreamID, write bool, iova uint64, p []byte) error {
	return r.dmaWith(ep, regs.Attrs(0).WithPASID(uint32(s)), write, iova, p)
}

func (r *kernelRig) dmaWith(ep bridge.Endpoint, a regs.Attrs, write bool, iova uint64, p []byte) error {
	if write {
		return r.write(ep, a, iova, p)
	}
	return r.read(ep, a, iova, p)
}

// attempted returns the error of a DMA that did not start. An abort is not such an error.
func attempted(err error) error {
	if errors.Is(err, edu.ErrAborted) {
		return nil
	}
	return err
}

func (r *kernelRig) write(ep bridge.Endpoint, a regs.Attrs, iova uint64, p []byte) error {
	d := r.devices[ep]
	r.host.flying.Add(1)
	defer r.host.flying.Add(-1)
	r.host.under.RLock()
	defer r.host.under.RUnlock()
	if err := d.StoreWith(a, iova, patternAt, len(p)); err != nil {
		return err
	}
	r.host.mu.Lock()
	defer r.host.mu.Unlock()
	if at := r.landed(d, len(p)); at >= 0 {
		copy(r.ram[at:], p)
		r.host.arrived++
	}
	return nil
}

// searched is the number of bytes that landed searches at a time, a multiple of a page: a DMA is
// within a page.
const searched = 64 << 10

// landed returns the offset of the pattern in the memory that the suite uses, or -1. It searches
// from the end, where the suite allocates.
func (r *kernelRig) landed(d *eduDevice, n int) int {
	for end := int(r.used.Load()); end > 0; {
		start := (end - 1) / searched * searched
		if i := bytes.Index(r.ram[start:end], d.pattern[:n]); i >= 0 {
			return start + i
		}
		end = start
	}
	return -1
}

// WriteAt implements guestmem.Memory. The suite zeroes each page that it allocates, from the start
// of ram on. Therefore landed only searches up to the highest address written.
func (r *kernelRig) WriteAt(p []byte, gpa guestmem.GPA) error {
	if end := uint64(gpa-ram) + uint64(len(p)); end <= uint64(len(r.ram)) && end > r.used.Load() {
		r.used.Store(end)
	}
	return r.Slots.WriteAt(p, gpa)
}

func (r *kernelRig) read(ep bridge.Endpoint, a regs.Attrs, iova uint64, p []byte) error {
	d := r.devices[ep]
	if err := d.LoadWith(a, iova, readAt, len(p)); err != nil {
		return err
	}
	if err := d.StoreWith(a, iova, patternAt, len(p)); attempted(err) != nil {
		return err
	}
	if at := r.landed(d, len(p)); at >= 0 {
		if err := d.StoreWith(a, iova, readAt, len(p)); err != nil {
			return err
		}
		copy(p, r.ram[at:])
		return nil
	}
	clear(r.scratch)
	st := r.host.streams[ep]
	if st == nil {
		return nil
	}
	if err := st.Stream.Bind(bridge.GuestStage{Disposition: bridge.Bypass}); err != nil {
		return err
	}
	if err := d.Store(uint64(scratch), readAt, len(p)); err != nil {
		return err
	}
	copy(p, r.scratch)
	return st.Stream.Bind(st.stage)
}

// settled is a host whose calls return after the rig has finished in-flight DMA. DMA is finished
// when the rig has replaced the pattern with the suite's bytes.
type settled struct {
	*iommufd.Host
	rig     *kernelRig
	streams map[bridge.Endpoint]*settledStream

	flying  atomic.Int32 // number of writes in flight
	under   sync.RWMutex // read-locked by in-flight DMA
	mu      sync.Mutex   // held while the rig replaces a pattern
	arrived int          // number of writes that reached memory
}

type settledStream struct {
	bridge.Stream
	host  *settled
	ep    bridge.Endpoint
	stage bridge.GuestStage
}

func (h *settled) Attach(sid smmuv3.StreamID, ep bridge.Endpoint) (bridge.Stream, error) {
	st, err := h.Host.Attach(sid, ep)
	if err != nil {
		return nil, err
	}
	s := &settledStream{Stream: st, host: h, ep: ep}
	h.streams[ep] = s
	return s, nil
}

func (h *settled) Invalidate(cmds []smmuv3.Command) error {
	return h.settle(true, h.Host.Invalidate(cmds))
}

func (s *settledStream) Bind(g bridge.GuestStage) error {
	err := s.host.settle(g.Disposition == bridge.Abort, s.Stream.Bind(g))
	if err == nil {
		s.stage = g
	}
	return err
}

func (s *settledStream) Close() error {
	err := s.host.settle(true, s.Stream.Close())
	if s.host.streams[s.ep] == s {
		delete(s.host.streams, s.ep)
	}
	return err
}

func (h *settled) Close() error {
	clear(h.streams)
	return h.settle(true, h.Host.Close())
}

// settle waits for in-flight DMA after a call that returned err. After a call that invalidates
// something, DMA must not reach memory. A pattern that is already in memory is from an earlier
// write.
func (h *settled) settle(invalidates bool, err error) error {
	if h.flying.Load() == 0 {
		return err
	}
	h.mu.Lock()
	allowed := h.arrived
	for _, d := range h.rig.devices {
		if h.rig.landed(d, 8) >= 0 {
			allowed++
		}
	}
	h.mu.Unlock()

	h.under.Lock()
	defer h.under.Unlock()
	if err == nil && invalidates && h.arrived > allowed {
		return errors.New("DMA reached memory after the call")
	}
	return err
}
