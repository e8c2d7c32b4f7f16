package pci

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// function records the calls of its methods.
type function struct {
	log  []string
	slot *Slot
	rest func()
	// decode is called by Decode.
	decode func()
}

func (f *function) note(format string, args ...any) {
	f.log = append(f.log, fmt.Sprintf(format, args...))
}
func (f *function) take() (log []string) { log, f.log = f.log, nil; return log }
func (f *function) connect(s *Slot)      { f.slot = s }

func (f *function) LoadConfig(off uint32, size int) uint32 {
	f.note("load %#x %d", off, size)
	return 0x1234_5678
}
func (f *function) StoreConfig(off uint32, size int, v uint32) func() {
	f.note("store %#x %d %#x", off, size, v)
	return f.rest
}
func (f *function) LoadMemory(bar int, off uint64, size int) uint64 {
	f.note("load bar %d %#x %d", bar, off, size)
	return 7
}
func (f *function) StoreMemory(bar int, off uint64, size int, v uint64) func() {
	f.note("store bar %d %#x %d %#x", bar, off, size, v)
	return f.rest
}
func (f *function) SetRequester(id RequesterID, ok bool) { f.note("requester %v %t", id, ok) }
func (f *function) Reset()                               { f.note("reset") }
func (f *function) Decode() {
	f.note("decode")
	if f.decode != nil {
		f.decode()
	}
}

var (
	low  = Window{0x1000_0000, 0x1000_0000}
	high = Window{0x20_0000_0000, 0x1000_0000}
)

const ecamBus = 1 << 20

func device(bus, dev uint64) uint64 { return bus<<20 | dev<<15 }

func TestRequesterIDPrintsAsBusDeviceFunction(t *testing.T) {
	assert.Equal(t, "1f:03.5", RequesterID(0x1f<<8|3<<3|5).String())
}

func TestECAMDecodesBusDeviceAndFunction(t *testing.T) {
	h, err := NewHost(4, low, high)
	require.NoError(t, err)
	f := &function{}
	require.NoError(t, h.Add(3, false, f, f.connect))
	assert.Equal(t, []string{"requester 00:03.0 true"}, f.take())
	ecam := h.ECAM()
	assert.EqualValues(t, 4*ecamBus, ecam.Size())

	for _, tt := range []struct {
		name string
		off  uint64
		size int
		want string
	}{
		{"first register", device(0, 3), 4, "0x0 4"},
		{"a byte", device(0, 3) + 0x3d, 1, "0x3d 1"},
		{"extended space", device(0, 3) + 0xffc, 4, "0xffc 4"},
		{"another device", device(0, 4), 4, ""},
		{"another function", device(0, 3) + 1<<12, 4, ""},
		{"another bus", device(1, 3), 4, ""},
		{"8 bytes", device(0, 3), 8, ""},
		{"misaligned", device(0, 3) + 2, 4, ""},
		{"beyond the last bus", device(4, 3), 4, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f.take()
			got := ecam.Load(tt.off, tt.size)
			ecam.Store(tt.off, tt.size, 1)
			if tt.want == "" {
				assert.Equal(t, allOnes(tt.size), got)
				assert.Empty(t, f.take())
				return
			}
			assert.Equal(t, []string{"load " + tt.want, "store " + tt.want + " 0x1"}, f.take())
		})
	}
	assert.ErrorIs(t, h.Add(3, false, f, nil), ErrFull)
	assert.ErrorIs(t, h.Add(32, false, f, nil), ErrFull)
}

// A guest looks for functions 1 to 7 if bit 7 of function 0's header type is set (§7.5.1.1.9).
func TestDeviceWithSeveralFunctions(t *testing.T) {
	h, err := NewHost(2, low)
	require.NoError(t, err)
	ecam := h.ECAM()
	zero, five, alone := &function{}, &function{}, &function{}
	require.NoError(t, h.AddFunction(3, 5, five, five.connect))
	assert.Equal(t, []string{"requester 00:03.5 true"}, five.take())
	require.NoError(t, h.AddFunction(3, 0, zero, zero.connect))
	require.NoError(t, h.Add(4, false, alone, alone.connect))
	zero.take()
	alone.take()

	ecam.Store(device(0, 3)+5<<12+4, 2, 6)
	assert.Equal(t, []string{"store 0x4 2 0x6"}, five.take())
	assert.Empty(t, zero.take())
	assert.EqualValues(t, 0xffff_ffff, ecam.Load(device(0, 3)+1<<12, 4), "no function 1")

	// All registers of the tests' function read as 0x12345678.
	for _, tt := range []struct {
		name string
		off  uint64
		size int
		want uint64
	}{
		{"function 0: header type", device(0, 3) + 0x0e, 1, 0xf8},
		{"with the registers around it", device(0, 3) + 0x0c, 4, 0x12b4_5678},
		{"another register", device(0, 3) + 0x0c, 1, 0x78},
		{"function 5", device(0, 3) + 5<<12 + 0x0e, 1, 0x78},
		{"a device with one function", device(0, 4) + 0x0e, 1, 0x78},
	} {
		assert.Equal(t, tt.want, ecam.Load(tt.off, tt.size)&allOnes(tt.size), tt.name)
	}
	zero.take()
	five.take()
	h.Reset()
	assert.Equal(t, []string{"reset"}, zero.take())
	assert.Equal(t, []string{"reset"}, five.take())
}

func TestPlacesOfFunctionsAreChecked(t *testing.T) {
	h, err := NewHost(2)
	require.NoError(t, err)
	require.NoError(t, h.AddFunction(1, 2, &function{}, nil))
	require.NoError(t, h.Add(2, true, &function{}, nil))
	for _, tt := range []struct {
		name             string
		device, function int
	}{
		{"in use", 1, 2},
		{"beside a root port", 2, 1},
		{"device 32", 32, 0},
		{"device -1", -1, 0},
		{"function 8", 3, 8},
		{"function -1", 3, -1},
	} {
		assert.ErrorIs(t, h.AddFunction(tt.device, tt.function, &function{}, nil), ErrFull, tt.name)
	}
	assert.ErrorIs(t, h.AddPort(1), ErrFull, "a root port beside a function")
	assert.EqualError(t, h.AddFunction(5, 1, nil, nil), "pci: add function 1 of device 5: no function")
}

// The bus number that the guest assigns to a root port gives the function its address and requester
// ID.
func TestRequesterIDFollowsTheBusNumber(t *testing.T) {
	h, err := NewHost(4)
	require.NoError(t, err)
	a, b := &function{}, &function{}
	require.NoError(t, h.Add(1, true, a, a.connect))
	require.NoError(t, h.Add(2, true, b, b.connect))
	ecam := h.ECAM()
	number := func(port, bus uint64) { ecam.Store(device(0, port)+regSecondary, 1, bus) }

	assert.Empty(t, a.take(), "no number yet")
	assert.EqualValues(t, 0x000c_1b36, ecam.Load(device(0, 1), 4), "the port itself")

	number(1, 2)
	assert.Equal(t, []string{"requester 02:00.0 true"}, a.take())
	ecam.Load(device(2, 0), 4)
	assert.Equal(t, []string{"load 0x0 4"}, a.take())
	assert.EqualValues(t, 0xffff_ffff, ecam.Load(device(2, 1), 4), "a link has one device")

	number(2, 2)
	assert.Empty(t, b.take(), "two functions cannot have one requester ID")
	ecam.Load(device(2, 0), 4)
	assert.Equal(t, []string{"load 0x0 4"}, a.take())

	number(1, 3)
	assert.Equal(t, []string{"requester 00:00.0 false", "requester 03:00.0 true"}, a.take())
	assert.Equal(t, []string{"requester 02:00.0 true"}, b.take())

	number(1, 4)
	assert.Equal(t, []string{"requester 00:00.0 false"}, a.take(), "no such bus")
	number(1, 3)
	a.take()

	h.Reset()
	assert.Equal(t, []string{"reset", "requester 00:00.0 false"}, a.take())
	assert.Equal(t, []string{"reset", "requester 00:00.0 false"}, b.take())
	assert.Zero(t, ecam.Load(device(0, 1)+regSecondary, 1))
}

func TestSecondaryBusResetResetsTheFunction(t *testing.T) {
	h, err := NewHost(2)
	require.NoError(t, err)
	f := &function{}
	require.NoError(t, h.Add(1, true, f, f.connect))
	ecam := h.ECAM()
	ecam.Store(device(0, 1)+regSecondary, 1, 1)
	f.take()
	ecam.Store(device(0, 1)+regBridgeControl, 2, secondaryReset)
	assert.Equal(t, []string{"reset"}, f.take())
	ecam.Store(device(0, 1)+regBridgeControl, 2, secondaryReset|1)
	ecam.Store(device(0, 1)+regBridgeControl, 2, 0)
	assert.Empty(t, f.take(), "one reset for each assertion")
}

func TestRemovedFunctionIsResetAndNotAccessed(t *testing.T) {
	h, err := NewHost(2, low)
	require.NoError(t, err)
	f, behind := &function{}, &function{}
	require.NoError(t, h.Add(1, false, f, f.connect))
	require.NoError(t, h.Add(2, true, behind, behind.connect))
	ecam := h.ECAM()
	ecam.Store(device(0, 2)+regSecondary, 1, 1)
	f.take()
	behind.take()
	assert.EqualValues(t, 0x2011, ecam.Load(device(0, 2)+0x52, 2), "link status: active, x1, 2.5 GT/s")

	h.Remove(1)
	h.Remove(2)
	h.Remove(3)
	assert.Equal(t, []string{"reset", "requester 00:00.0 false"}, f.take())
	assert.Equal(t, []string{"reset", "requester 00:00.0 false"}, behind.take())
	assert.EqualValues(t, 0xffff_ffff, ecam.Load(device(0, 1), 4))
	assert.EqualValues(t, 0xffff_ffff, ecam.Load(device(1, 0), 4))
	assert.EqualValues(t, 0x000c_1b36, ecam.Load(device(0, 2), 4), "the port stays")
	assert.Zero(t, ecam.Load(device(0, 2)+0x52, 2), "its link is down")
	ecam.Store(device(0, 1), 4, 1)
	ecam.Store(device(0, 2)+regSecondary, 1, 2)
	h.Reset()
	assert.Zero(t, ecam.Load(device(0, 2)+0x52, 2))
	assert.Empty(t, f.take())
	assert.Empty(t, behind.take())
}

// A guest that numbers buses in the order of their ports then assigns another number to a later
// port.
func TestPortCanBeAddedWhileTheGuestRuns(t *testing.T) {
	h, err := NewHost(3)
	require.NoError(t, err)
	f := &function{}
	require.NoError(t, h.Add(1, true, f, f.connect))
	ecam := h.ECAM()
	ecam.Store(device(0, 1)+regSecondary, 1, 1)
	require.NoError(t, h.AddPort(0))
	require.ErrorIs(t, h.AddPort(0), ErrFull)
	assert.Equal(t, []string{"requester 01:00.0 true"}, f.take())

	assert.EqualValues(t, 0x000c_1b36, ecam.Load(device(0, 0), 4))
	ecam.Store(device(0, 1)+regSecondary, 1, 0)
	ecam.Store(device(0, 0)+regSecondary, 1, 1)
	ecam.Store(device(0, 1)+regSecondary, 1, 2)
	assert.Equal(t, []string{"requester 00:00.0 false", "requester 02:00.0 true"}, f.take())
	assert.EqualValues(t, 0xffff_ffff, ecam.Load(device(1, 0), 4))
}

func TestClaimsAreInWindowsAndDoNotOverlap(t *testing.T) {
	h, err := NewHost(1, low, high)
	require.NoError(t, err)
	a, b := &function{}, &function{}
	require.NoError(t, h.Add(1, false, a, a.connect))
	require.NoError(t, h.Add(2, false, b, b.connect))

	bar := 0
	for _, tt := range []struct {
		name       string
		base, size uint64
		ok         bool
	}{
		{"start of a window", 0x1000_0000, 0x1000, true},
		{"the same range", 0x1000_0000, 0x1000, false},
		{"across the end of a claim", 0x1000_0800, 0x1000, false},
		{"around a claim", 0x1000_0000, 0x1_0000, false},
		{"adjacent", 0x1000_1000, 0x1000, true},
		{"end of a window", 0x1fff_f000, 0x1000, true},
		{"across the end of a window", 0x1fff_f800, 0x1000, false},
		{"below", 0x0fff_f000, 0x1000, false},
		{"guest memory", 0x4000_0000, 0x1000, false},
		{"the other window", 0x20_0000_0000, 0x1000, true},
		{"larger than the window", 0x20_0000_0000, 1 << 60, false},
		{"past the end of the address space", ^uint64(0xfff), 0x2000, false},
		{"address 0", 0, 0x1000, false},
	} {
		assert.Equal(t, tt.ok, b.slot.Claim(bar, tt.base, tt.size), tt.name)
		if tt.ok {
			bar++
		}
	}
	for i := range bar {
		b.slot.Release(i)
	}
	require.True(t, a.slot.Claim(2, 0x1000_0000, 0x1000))
	require.True(t, b.slot.Claim(1, 0x1000_1000, 0x1000))
	a.take()
	b.take()

	mem := h.Memory(low)
	assert.EqualValues(t, 7, mem.Load(0x10, 8))
	mem.Store(0x1ffc, 4, 9)
	assert.EqualValues(t, 0xffff, mem.Load(0x2000, 2), "no claim")
	assert.EqualValues(t, 0xffff_ffff, mem.Load(0xffe, 4), "across two claims")
	mem.Store(0x2000, 8, 9)
	assert.Equal(t, []string{"load bar 2 0x10 8"}, a.take())
	assert.Equal(t, []string{"store bar 1 0xffc 4 0x9"}, b.take())

	a.slot.Release(2)
	assert.EqualValues(t, 0xffff_ffff, mem.Load(0x10, 4))
	a.slot.Release(2)
}

// A guest that moves functions may place one where another still decodes.
func TestRefusedClaimIsMadeWhenTheOtherIsReleased(t *testing.T) {
	for _, tt := range []struct {
		name    string
		release func(h *Host, b *function)
		want    bool
	}{
		{"a store to configuration space that releases nothing", func(h *Host, _ *function) { h.ECAM().Store(device(0, 3), 4, 0) }, false},
		{"a store to configuration space", func(h *Host, b *function) {
			b.slot.Release(0)
			h.ECAM().Store(device(0, 2), 4, 0)
		}, true},
		{"the removal of the function", func(h *Host, b *function) {
			b.slot.Release(0)
			h.Remove(2)
		}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h, err := NewHost(1, low)
			require.NoError(t, err)
			a, b := &function{}, &function{}
			require.NoError(t, h.Add(1, false, a, a.connect))
			require.NoError(t, h.Add(2, false, b, b.connect))
			got := false
			a.decode = func() { got = a.slot.Claim(0, 0x1000_0000, 0x1000) }
			require.True(t, b.slot.Claim(0, 0x1000_0000, 0x1000))
			a.decode()
			require.False(t, got)
			tt.release(h, b)
			assert.Equal(t, tt.want, got)
			h.ECAM().Store(device(0, 2), 4, 0)
			if tt.want {
				assert.Equal(t, 1, count(a.log, "decode"), "once")
			}
			assert.Zero(t, count(b.log, "decode"), "nothing was refused")
		})
	}
}

func count(log []string, what string) (n int) {
	for _, l := range log {
		if l == what {
			n++
		}
	}
	return n
}

// While the function that a store returned runs, other accesses continue.
func TestNoAccessWaitsForTheRestOfAStore(t *testing.T) {
	h, err := NewHost(1, low)
	require.NoError(t, err)
	slow, other := &function{}, &function{}
	require.NoError(t, h.Add(1, false, slow, slow.connect))
	require.NoError(t, h.Add(2, false, other, other.connect))
	require.True(t, slow.slot.Claim(0, low.Base, 0x1000))
	rests := 0
	slow.rest = func() {
		rests++
		h.ECAM().Load(device(0, 2), 4)
	}
	other.take()
	h.ECAM().Store(device(0, 1)+4, 2, 6)
	assert.Equal(t, []string{"load 0x0 4"}, other.take(), "a configuration access")
	h.Memory(low).Store(0, 2, 0)
	assert.Equal(t, []string{"load 0x0 4"}, other.take(), "an access to memory")
	assert.Equal(t, 2, rests)
}

func TestInvalidArgumentsAreErrors(t *testing.T) {
	for _, buses := range []int{-1, 0, 257} {
		_, err := NewHost(buses)
		assert.ErrorContains(t, err, "buses: not 1 to 256")
	}
	for _, w := range []Window{{0x1000, 0}, {1 << 63, 1<<63 + 1}} {
		_, err := NewHost(1, w)
		assert.ErrorContains(t, err, "window of", "%+v", w)
	}
	h, err := NewHost(1, Window{1 << 63, 1 << 63})
	require.NoError(t, err)
	assert.EqualError(t, h.Add(1, false, nil, nil), "pci: add device 1: no function")
	assert.EqualError(t, h.Add(1, false, (*function)(nil), nil), "pci: add device 1: no function")
	assert.ErrorIs(t, h.Add(-1, false, absent{}, nil), ErrFull)
	assert.ErrorIs(t, h.Add(32, false, absent{}, nil), ErrFull)
	assert.NotPanics(t, func() { h.Remove(-1); h.Remove(32); h.Remove(5) })
}

// A function has at most one claim for each base address register.
func TestClaimsAreBoundedByBaseAddressRegisters(t *testing.T) {
	f := &function{}
	h, err := NewHost(1, low)
	require.NoError(t, err)
	require.NoError(t, h.Add(1, false, f, f.connect))
	for i := range uint64(1000) {
		f.slot.Claim(int(i%NumBARs), low.Base+i*0x1000, 0x1000)
	}
	assert.LessOrEqual(t, len(h.claims), NumBARs)
	assert.False(t, f.slot.Claim(NumBARs, low.Base+0x800_0000, 0x1000), "no such register")
	assert.False(t, f.slot.Claim(-1, low.Base+0x800_0000, 0x1000), "no such register")
}
