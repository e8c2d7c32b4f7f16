package edu

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/edu/regs"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/pci"
	"github.com/go-vsmmu/vsmmuv3/vsmmu"
	"github.com/go-vsmmu/vsmmuv3/vsmmu/idr"
	"github.com/go-vsmmu/vsmmuv3/vsmmutest"
)

// rig is a function at 00:02.0 behind an SMMU, with a guest that drives both. Offsets of registers
// and their values in the tests are literals from QEMU's docs/specs/edu.rst, the PCI Express Base
// Specification, and the table of package regs.
type rig struct {
	*vsmmutest.Guest
	t      testing.TB
	f      *Function
	smmu   *vsmmu.Device
	host   *pci.Host
	window pci.Memory
	mem    *guestmem.Slots

	mu       sync.Mutex
	level    bool // of INTx
	messages []string
}

const (
	ram      = 0x4000_0000
	ramSize  = 16 << 20
	dataAt   = ram + 8<<20 // the guest's structures end below
	doorbell = 0x0809_0040
	barAt    = 0x1000_0000
	tableAt  = 0x1020_0000
	sid      = 0x10 // 00:02.0
	iova     = 0x12_3000
	pattern  = "\x01\x02\x03\x04\x05\x06\x07\x08"
)

// all are all features but stalls.
var all = Features{PASIDBits: 20, ATS: true, PRI: true, FLR: true, ACS: true, MSIX: true}

// newRig returns a function whose stream has an empty stage 1, with base address registers and Bus
// Master Enable set.
func newRig(t testing.TB, features Features) *rig {
	t.Helper()
	return newRigWith(t, Config{Features: features})
}

func newRigWith(t testing.TB, cfg Config) *rig {
	t.Helper()
	r := &rig{t: t, mem: new(guestmem.Slots)}
	require.NoError(t, r.mem.Add(guestmem.Slot{GPA: ram, Mem: make([]byte, ramSize)}))
	cfg.INTx = func(level bool) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.level = level
	}
	host := r.addSMMU(cfg.Features)
	var err error
	r.f, err = New(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, r.f.Close()) })
	require.NoError(t, r.smmu.Attach(sid, host, r.f.Endpoint()))

	w := pci.Window{Base: barAt, Size: 16 << 20}
	r.host, err = pci.NewHost(1, w)
	require.NoError(t, err)
	require.NoError(t, r.host.AddFunction(2, 0, r.f, r.f.Connect))
	r.window = r.host.Memory(w)
	r.place()
	return r
}

// addSMMU adds an SMMU that supports the features, and enables it.
func (r *rig) addSMMU(f Features) *soft.Host {
	ids, policy := soft.DefaultIDs(), idr.Policy{}
	if f.ATS {
		ids.Set(smmuv3.ATS, 1)
	}
	if f.PRI {
		ids.Set(smmuv3.PRI, 1)
	}
	if f.Stalls {
		ids.Set(smmuv3.StallModel, 0)
		ids.Set(smmuv3.StallMax, 16)
		policy[smmuv3.StallModel] = 0
	}
	host, err := soft.New(soft.Config{Memory: r.mem, IDs: ids, MSI: r.message})
	require.NoError(r.t, err)
	r.t.Cleanup(func() { assert.NoError(r.t, host.Close()) })
	caps, err := host.Capabilities()
	require.NoError(r.t, err)
	derived, err := idr.Derive(policy, caps)
	require.NoError(r.t, err)
	r.smmu, err = vsmmu.New(vsmmu.Config{IDs: derived.IDs, Memory: r.mem, Interrupts: noInterrupts{}})
	require.NoError(r.t, err)
	r.t.Cleanup(func() { assert.NoError(r.t, r.smmu.Close()) })
	r.Guest = vsmmutest.NewGuest(r.mem, guestmem.Range{GPA: ram, Len: 8 << 20}, r.smmu)
	require.NoError(r.t, r.Enable())
	return host
}

type noInterrupts struct{}

func (noInterrupts) Pulse(vsmmu.Line) error               { return nil }
func (noInterrupts) SignalMSI(guestmem.GPA, uint32) error { return nil }

func (r *rig) message(id smmuv3.StreamID, addr guestmem.GPA, data uint32) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.messages = append(r.messages, fmt.Sprintf("%#x to %#x from %#x", data, uint64(addr), uint32(id)))
	return nil
}

// place maps the base address registers, and enables memory decoding and bus mastering.
func (r *rig) place() {
	r.setConfig(0x10, 4, barAt)
	r.setConfig(0x14, 4, tableAt)
	r.setConfig(0x04, 2, 6)
}

func (r *rig) config(off uint64, size int) uint64 { return r.host.ECAM().Load(2<<15+off, size) }
func (r *rig) setConfig(off uint64, size int, v uint64) {
	r.host.ECAM().Store(2<<15+off, size, v)
}
func (r *rig) load(off uint64) uint64     { return r.window.Load(off, 8) }
func (r *rig) store(off uint64, v uint64) { r.window.Store(off, 8, v) }

// until waits for a condition.
func (r *rig) until(done func() bool) {
	for !done() {
		runtime.Gosched()
	}
}

func (r *rig) sent() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.messages
}

func (r *rig) intx() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.level
}

// begin starts a DMA of n bytes between the start of the buffer and memory.
func (r *rig) begin(write bool, at, n uint64) {
	cmd := uint64(1)
	if write {
		cmd = 3
		r.store(0x80, 0x4_0000)
		r.store(0x88, at)
	} else {
		r.store(0x80, at)
		r.store(0x88, 0x4_0000)
	}
	r.store(0x90, n)
	r.store(0x98, cmd)
}

// end waits for the DMA or the command, and returns its outcome.
func (r *rig) end() regs.Outcome {
	r.until(func() bool { return r.load(0x98)&1 == 0 && r.load(0x1018) == 0 })
	return regs.Outcome(r.load(0x1008))
}

func (r *rig) dma(write bool, at, n uint64) regs.Outcome {
	r.begin(write, at, n)
	return r.end()
}

// run executes a command.
func (r *rig) run(command, address uint64) regs.Outcome {
	r.store(0x1020, address)
	r.store(0x1018, command)
	return r.end()
}

// fill puts the pattern at the start of the device's buffer.
func (r *rig) fill() {
	r.f.copyBuffer([]byte(pattern), 0, true)
}

// word returns 8 bytes of guest memory.
func (r *rig) word(at guestmem.GPA) string {
	var p [8]byte
	require.NoError(r.t, r.mem.ReadAt(p[:], at))
	return string(p[:])
}

func (r *rig) setWord(at guestmem.GPA, v uint64) {
	require.NoError(r.t, r.mem.WriteAt(binary.LittleEndian.AppendUint64(nil, v), at))
}

func (r *rig) mapPage(at guestmem.GPA) {
	r.t.Helper()
	require.NoError(r.t, r.MapStage1(sid, iova, at, 4096))
}
