//go:build linux && (amd64 || arm64)

package passthrough

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/pci"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/vfio"
)

var page = uint64(os.Getpagesize())

// physical is a fake device. It records the accesses and calls that it gets.
type physical struct {
	config  [256]byte
	sizes   [vfio.NumRegions]uint64
	memory  map[string]uint64 // by region and offset
	irqs    [3]int
	resets  int
	noReset bool
	mode    string  // the kind of interrupt that is enabled
	fds     []int32 // of this kind
	mapped  int
	fail    map[string]error // by method
	writes  []string         // to the configuration space

	behindPort bool // Config.BehindPort; the device is on the root bus nevertheless
}

// newPhysical returns a device with 4 pages of 64-bit memory, an MSI-X table of 3 vectors in the
// third page, the pending bits in the fourth, INTx, and some capabilities that guests do not see.
func newPhysical() *physical {
	p := &physical{memory: map[string]uint64{}, fail: map[string]error{}}
	le := binary.LittleEndian
	le.PutUint32(p.config[0x00:], 0x0010_1b36)
	le.PutUint16(p.config[0x06:], 0x0010)
	p.config[0x0e] = 0x80 // the device has several functions
	p.config[0x10] = 0x04
	le.PutUint32(p.config[0x30:], 0xfebf_0001)
	p.config[0x34] = 0x40
	p.config[0x3c], p.config[0x3d] = 0x55, 2
	copy(p.config[0x40:], []byte{0x01, 0x50})             // power management
	copy(p.config[0x50:], []byte{0x11, 0x60, 0x02, 0x00}) // MSI-X
	le.PutUint32(p.config[0x54:], uint32(2*page))
	le.PutUint32(p.config[0x58:], uint32(3*page))
	copy(p.config[0x60:], []byte{0x05, 0x80}) // MSI
	copy(p.config[0x80:], []byte{0x10, 0xc0, 0x02, 0x00})
	copy(p.config[0xc0:], []byte{0x09, 0x00, 0x08, 0xaa, 0xbb, 0xcc, 0xdd, 0xee})
	p.sizes[0], p.sizes[vfio.ConfigSpace] = 4*page, 4096
	p.irqs[vfio.INTx], p.irqs[vfio.MSIX] = 1, 3
	return p
}

func key(region int, off uint64) string { return fmt.Sprintf("%d:%#x", region, off) }

func (p *physical) RegionSize(region int) uint64 { return p.sizes[region] }

func (p *physical) ReadRegion(region int, b []byte, off uint64) error {
	if region == vfio.ConfigSpace {
		if off < 256 {
			copy(b, p.config[off:])
		}
		return p.fail["ReadRegion"]
	}
	var v [8]byte
	binary.LittleEndian.PutUint64(v[:], p.memory[key(region, off)])
	copy(b, v[:])
	return p.fail["ReadRegion"]
}

func (p *physical) WriteRegion(region int, b []byte, off uint64) error {
	if region == vfio.ConfigSpace {
		p.writes = append(p.writes, fmt.Sprintf("%#x: % x", off, b))
		copy(p.config[off:], b)
		return p.fail["WriteRegion"]
	}
	var v [8]byte
	copy(v[:], b)
	p.memory[key(region, off)] = binary.LittleEndian.Uint64(v[:])
	return p.fail["WriteRegion"]
}

func (p *physical) CanMap(region int) bool { return region == 0 }

func (p *physical) Map(_ int, _, size uint64) ([]byte, error) {
	if err := p.fail["Map"]; err != nil {
		return nil, err
	}
	p.mapped++
	return make([]byte, size), nil
}

func (p *physical) Unmap([]byte) error          { p.mapped--; return nil }
func (p *physical) IRQs(kind vfio.IRQ) int      { return p.irqs[kind] }
func (p *physical) CanReset() bool              { return !p.noReset }
func (p *physical) Reset() error                { p.resets++; return p.fail["Reset"] }
func (p *physical) Disable(kind vfio.IRQ) error { return p.enable("", nil, kind.String()) }

func (p *physical) EnableMSIX(fds []int32) error {
	return p.enable("MSI-X", slices.Clone(fds), "")
}

func (p *physical) EnableINTx(trigger, unmask int32) error {
	return p.enable("INTx", []int32{trigger, unmask}, "")
}

// enable fails if another kind of interrupt is enabled.
func (p *physical) enable(mode string, fds []int32, was string) error {
	if p.mode != was {
		return fmt.Errorf("%s is enabled", p.mode)
	}
	if err := p.fail[mode]; err != nil {
		return err
	}
	p.mode, p.fds = mode, fds
	return nil
}

// machine is a fake Machine. It records connections and mappings.
type machine struct {
	memory  map[uint64]int // sizes by address
	vectors map[int][2]uint32
	line    []int
	fail    error
	stuck   error // the error of removing memory
}

func newMachine() *machine { return &machine{memory: map[uint64]int{}, vectors: map[int][2]uint32{}} }

func (m *machine) MapMemory(gpa uint64, mem []byte) (func() error, error) {
	if m.fail != nil {
		return nil, m.fail
	}
	if _, ok := m.memory[gpa]; ok {
		return nil, errors.New("twice")
	}
	m.memory[gpa] = len(mem)
	return func() error {
		if m.stuck == nil {
			delete(m.memory, gpa)
		}
		return m.stuck
	}, nil
}

func (m *machine) ConnectMSI(eventfd int, deviceID, data uint32) (func() error, error) {
	if m.fail != nil {
		return nil, m.fail
	}
	if _, ok := m.vectors[eventfd]; ok {
		return nil, errors.New("twice")
	}
	m.vectors[eventfd] = [2]uint32{deviceID, data}
	return func() error { delete(m.vectors, eventfd); return nil }, nil
}

func (m *machine) ConnectINTx(trigger, unmask int) (func() error, error) {
	if m.fail != nil {
		return nil, m.fail
	}
	m.line = []int{trigger, unmask}
	return func() error { m.line = nil; return nil }, nil
}

// connected returns the connected vectors in the order of their data.
func (m *machine) connected() [][2]uint32 {
	return slices.SortedFunc(maps.Values(m.vectors), func(a, b [2]uint32) int { return int(a[1]) - int(b[1]) })
}

// rig is a device on the root bus, as device 1.
type rig struct {
	*physical
	*machine
	device  *Device
	ecam    pci.ECAM
	window  pci.Memory
	streams []string
	refuse  error // of Stream
}

const windowBase = 0x1000_0000

func newRig(t *testing.T, p *physical) *rig {
	t.Helper()
	before := descriptors(t)
	r := &rig{physical: p, machine: newMachine()}
	d, err := New(Config{Physical: p, Machine: r.machine, BehindPort: p.behindPort, Stream: func(id pci.RequesterID, ok bool) error {
		r.streams = append(r.streams, fmt.Sprint(id, " ", ok))
		return r.refuse
	}})
	require.NoError(t, err)
	w := pci.Window{Base: windowBase, Size: 0x1000_0000}
	h, err := pci.NewHost(4, w)
	require.NoError(t, err)
	require.NoError(t, h.Add(1, false, d, d.Connect))
	r.device, r.ecam, r.window = d, h.ECAM(), h.Memory(w)
	t.Cleanup(func() {
		assert.NoError(t, d.Close())
		assert.Zero(t, p.mapped, "mappings of regions")
		assert.Empty(t, r.machine.memory)
		assert.Empty(t, r.machine.vectors)
		assert.Empty(t, p.mode)
		assert.Equal(t, before, descriptors(t), "open files")
	})
	return r
}

func (r *rig) load(off uint64, size int) uint64     { return r.ecam.Load(1<<15|off, size) }
func (r *rig) store(off uint64, size int, v uint64) { r.ecam.Store(1<<15|off, size, v) }

// signal signals an eventfd.
func signal(t *testing.T, fd int32) {
	t.Helper()
	_, err := unix.Write(int(fd), []byte{1, 0, 0, 0, 0, 0, 0, 0})
	require.NoError(t, err)
}

func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(entries)
}
