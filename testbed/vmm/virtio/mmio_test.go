package virtio

import (
	"errors"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Offsets and values in these tests are those of virtio 1.2 §4.2.2 and §2.1, written out.

func TestRegistersAtReset(t *testing.T) {
	d := newDriver(t, &echo{})
	for _, tt := range []struct {
		name      string
		off, want uint64
	}{
		{"MagicValue", 0x000, 0x74726976},
		{"Version", 0x004, 2},
		{"DeviceID", 0x008, 42},
		{"DeviceFeatures, low", 0x010, 1 << 5},
		{"QueueNumMax", 0x034, 256},
		{"QueueReady", 0x044, 0},
		{"InterruptStatus", 0x060, 0},
		{"Status", 0x070, 0},
		{"SHMLenLow", 0x0b0, 0xffff_ffff},
		{"SHMLenHigh", 0x0b4, 0xffff_ffff},
		{"ConfigGeneration", 0x0fc, 0},
		{"QueueNotify is write-only", 0x050, 0},
		{"reserved", 0x0f0, 0},
		{"beyond", 0xffff_ffff_ffff_fffc, 0},
	} {
		assert.Equal(t, tt.want, d.load(tt.off), tt.name)
	}
	d.store(0x14, 1)
	assert.EqualValues(t, 1<<8|3, d.load(0x10), "DeviceFeatures, high: the model's, VERSION_1 and ACCESS_PLATFORM")
	d.store(0x14, 2)
	assert.Zero(t, d.load(0x10), "there are no features beyond 63")
	d.store(0x30, 1)
	assert.Zero(t, d.load(0x34), "QueueNumMax of a queue that is not there")
}

func TestConfigurationSpaceTakesAnySize(t *testing.T) {
	d := newDriver(t, &echo{})
	assert.EqualValues(t, 0x01, d.dev.Load(0x100, 1))
	assert.EqualValues(t, 0x0403, d.dev.Load(0x102, 2))
	assert.EqualValues(t, 0x0807060504030201, d.dev.Load(0x100, 8))
	assert.EqualValues(t, 0x09, d.dev.Load(0x108, 4), "zeros behind its end")
	assert.Zero(t, d.dev.Load(0x109, 4))
	d.store(0x100, 0xff)
	assert.EqualValues(t, 0x01, d.dev.Load(0x100, 1), "read-only")
}

func TestOtherSizesThan32BitsReadZero(t *testing.T) {
	d := newDriver(t, &echo{})
	for _, size := range []int{1, 2, 8} {
		assert.Zero(t, d.dev.Load(0, size))
		d.dev.Store(0x70, size, 1)
	}
	assert.Zero(t, d.load(0x70))
}

func TestFeaturesOKOnlyForWhatIsOfferedAndNeeded(t *testing.T) {
	for _, tt := range []struct {
		name     string
		features uint64
		ok       bool
	}{
		{"what is needed", 3 << 32, true},
		{"with the model's", 3<<32 | 1<<5, true},
		{"nothing", 0, false},
		{"without ACCESS_PLATFORM", 1 << 32, false},
		{"without VERSION_1", 2 << 32, false},
		{"more than was offered", 3<<32 | 1<<6, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newDriver(t, &echo{})
			d.acknowledgeAndDriver()
			d.acceptFeatures(tt.features)
			d.store(0x70, 0xf)
			want := uint64(0x3)
			if tt.ok {
				want = 0xf
			}
			assert.Equal(t, want, d.load(0x70), "and no DRIVER_OK without FEATURES_OK")
		})
	}
}

func TestFeaturesAreSettledByFeaturesOK(t *testing.T) {
	d := newDriver(t, &echo{})
	d.start(8)
	d.acceptFeatures(1 << 50)
	d.store(0x70, 0xf)
	assert.EqualValues(t, 0xf, d.load(0x70))
}

func TestRequestIsServedAndReturned(t *testing.T) {
	model := &echo{}
	d := newDriver(t, model)
	d.mem.chain(desc{addr: 0x4000, len: 16}, desc{addr: 0x5000, len: 0x1000}, desc{addr: 0x6000, len: 1, flags: 2})
	d.mem.offer(0, 8, 0)
	d.start(8)
	d.store(0x50, 0)
	assert.EqualValues(t, 1, d.waitIRQ(), "used buffer notification")

	require.Equal(t, 1, model.served())
	assert.Equal(t, Segments{{0x4000, 16}, {0x5000, 0x1000}}, model.requests[0].Readable)
	assert.Equal(t, Segments{{0x6000, 1}}, model.requests[0].Writable)
	assert.EqualValues(t, 1, d.mem.get16(usedAt+2), "used idx")
	assert.EqualValues(t, 0, d.mem.get32(usedAt+4), "used elem: id")
	assert.EqualValues(t, 7, d.mem.get32(usedAt+8), "used elem: len")
	assert.Zero(t, d.load(0x60), "acknowledged")
}

// One request is carried out by the time that the notification's store returns; what else is there, soon after.
func TestANotificationIsServedAtOnce(t *testing.T) {
	model := &echo{}
	d := newDriver(t, model)
	d.start(8)
	d.dev.serving.Lock() // so that the worker does not come first
	d.mem.chain(desc{addr: 0x4000, len: 16})
	for i := range 3 {
		d.mem.offer(i, 8, 0)
	}
	d.dev.serving.Unlock()
	d.store(0x50, 0)
	assert.GreaterOrEqual(t, model.served(), 1)
	for model.served() < 3 {
		runtime.Gosched()
	}
}

// A store does not wait for DMA that waits for the guest.
func TestANotificationDoesNotWaitForTheGuest(t *testing.T) {
	model := &echo{hold: make(chan struct{})}
	d := newDriver(t, model)
	d.mem.chain(desc{addr: 0x4000, len: 16})
	d.start(8)
	d.mem.offer(0, 8, 0)
	d.store(0x50, 0)
	assert.Zero(t, model.served())
	close(model.hold)
	d.waitIRQ()
	assert.Equal(t, 1, model.served())
}

// The driver may look at used.idx at any time, so the element must be there by then (§2.7.8).
func TestRingAccessesAreOfTheRightSizeAndOrder(t *testing.T) {
	d := newDriver(t, &echo{})
	d.mem.chain(desc{addr: 0x4000, len: 1})
	d.mem.offer(0, 8, 0)
	d.start(8)
	d.waitIRQ()
	assert.Equal(t, []string{
		"read 2 at 0x2002",  // avail.idx
		"read 2 at 0x2004",  // avail.ring[0]
		"read 16 at 0x1000", // desc[0]
		"write 8 at 0x3004", // used.ring[0]
		"write 2 at 0x3002", // used.idx
		"read 2 at 0x2000",  // avail.flags
	}, d.mem.accesses(6))
}

func TestRingWrapsRound(t *testing.T) {
	model := &echo{}
	d := newDriver(t, model)
	d.start(4)
	for n := range 10 {
		head := uint16(n % 4)
		d.mem.putDesc(int(head), desc{addr: 0x4000 + uint64(n), len: 1})
		d.mem.offer(n, 4, head)
		d.store(0x50, 0)
		d.waitIRQ()
		assert.EqualValues(t, n+1, d.mem.get16(usedAt+2))
		assert.EqualValues(t, head, d.mem.get32(usedAt+4+8*uint64(n%4)))
	}
	assert.Equal(t, Segments{{0x4009, 1}}, model.requests[9].Readable)
}

func TestNoInterruptFlagIsHonoured(t *testing.T) {
	model := &echo{hold: make(chan struct{})}
	d := newDriver(t, model)
	d.mem.put16(availAt, 1) // VIRTQ_AVAIL_F_NO_INTERRUPT
	d.mem.chain(desc{addr: 0x4000, len: 1})
	d.mem.offer(0, 8, 0)
	d.start(8)
	model.hold <- struct{}{}
	d.dev.serving.Lock() // the request is over
	defer d.dev.serving.Unlock()
	assert.EqualValues(t, 1, d.mem.get16(usedAt+2))
	assert.Zero(t, d.load(0x60))
}

// A driver that breaks the rules, or whose memory fails, ends its own device and nothing else: DEVICE_NEEDS_RESET and a
// configuration change notification (§2.1.2).
func TestHostileRings(t *testing.T) {
	loop := desc{addr: 0x4000, len: 1, flags: 1, next: 0}
	for _, tt := range []struct {
		name  string
		setup func(m *memory)
		is    error
	}{
		{"head beyond the table", func(m *memory) { m.offer(0, 8, 8) }, errRing},
		{"head 0xffff", func(m *memory) { m.offer(0, 8, 0xffff) }, errRing},
		{"next beyond the table", func(m *memory) { m.putDesc(0, desc{0x4000, 1, 1, 9}) }, errRing},
		{"chain that is its own successor", func(m *memory) { m.putDesc(0, loop) }, errRing},
		{"chain in a circle", func(m *memory) {
			for i := range 8 {
				m.putDesc(i, desc{0x4000, 1, 1, uint16(i+1) % 8})
			}
		}, errRing},
		{"readable behind writable", func(m *memory) { m.chain(desc{0x4000, 1, 2, 0}, desc{0x5000, 1, 0, 0}) }, errRing},
		{"indirect", func(m *memory) { m.putDesc(0, desc{0x4000, 16, 4, 0}) }, errRing},
		{"segment round the end of the address space", func(m *memory) { m.putDesc(0, desc{^uint64(0), 2, 0, 0}) }, errRing},
		{"more available than the ring holds", func(m *memory) { m.put16(availAt+2, 9) }, errRing},
		{"available idx behind", func(m *memory) { m.put16(availAt+2, 0xffff) }, errRing},
		{"available ring unmapped", func(m *memory) { m.breakAt(availAt) }, errFault},
		{"available element unmapped", func(m *memory) { m.breakAt(availAt + 4) }, errFault},
		{"used ring unmapped", func(m *memory) { m.breakAt(usedAt) }, errFault},
		{"used element half mapped", func(m *memory) { m.breakAt(usedAt + 8) }, errFault},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newDriver(t, &echo{})
			d.mem.chain(desc{addr: 0x4000, len: 1})
			d.mem.offer(0, 8, 0)
			tt.setup(d.mem)
			d.start(8)
			d.store(0x50, 0)
			assert.EqualValues(t, 2, d.waitIRQ(), "configuration change notification")
			assert.EqualValues(t, 0x4f, d.load(0x70), "DEVICE_NEEDS_RESET")
			assert.ErrorIs(t, d.dev.Breakage(), tt.is)

			d.store(0x70, 0xf)
			assert.EqualValues(t, 0x4f, d.load(0x70), "only a reset clears it")

			d.store(0x70, 0)
			assert.Zero(t, d.load(0x70))
			d.mem.breakAt(memSize)
			d.mem.chain(desc{addr: 0x4000, len: 1})
			d.mem.offer(0, 8, 0)
			d.start(8)
			assert.EqualValues(t, 1, d.waitIRQ(), "and after one it serves again")
		})
	}
}

func TestQueuesThatCannotBe(t *testing.T) {
	for _, tt := range []struct {
		name string
		size uint64
		desc uint64
		off  uint64
		low  uint64
		high uint64
	}{
		{name: "no size", size: 0, off: 0x80, low: descAt},
		{name: "no power of 2", size: 3, off: 0x80, low: descAt},
		{name: "too large", size: 512, off: 0x80, low: descAt},
		{name: "huge", size: 1 << 31, off: 0x80, low: descAt},
		{name: "table misaligned", size: 8, off: 0x80, low: descAt + 8},
		{name: "available ring misaligned", size: 8, off: 0x90, low: availAt + 1},
		{name: "used ring misaligned", size: 8, off: 0xa0, low: usedAt + 2},
		{name: "table round the end of the address space", size: 8, off: 0x80, low: 0xffff_fff0, high: 0xffff_ffff},
		{name: "used ring round the end of the address space", size: 8, off: 0xa0, low: 0xffff_fffc, high: 0xffff_ffff},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newDriver(t, &echo{})
			d.acknowledgeAndDriver()
			d.acceptFeatures(goodFeatures)
			d.store(0x70, 0xb)
			d.store(0x38, tt.size)
			d.store(0x90, availAt)
			d.store(0xa0, usedAt)
			d.store(0x80, descAt)
			d.store(tt.off, tt.low)
			d.store(tt.off+4, tt.high)
			d.store(0x44, 1)
			assert.Zero(t, d.load(0x44), "QueueReady")
			assert.EqualValues(t, 0x4b, d.load(0x70), "DEVICE_NEEDS_RESET")
			assert.ErrorIs(t, d.dev.Breakage(), errRing)
			d.store(0x70, 0x4f)
			d.store(0x50, 0)
			assert.EqualValues(t, 0x4f, d.load(0x70))
		})
	}
}

func TestQueueRegistersAreFixedWhileItIsReady(t *testing.T) {
	d := newDriver(t, &echo{})
	d.start(8)
	d.store(0x80, 0xdead_0000)
	d.store(0x38, 16)
	d.mem.chain(desc{addr: 0x4000, len: 1})
	d.mem.offer(0, 8, 0)
	d.store(0x50, 0)
	assert.EqualValues(t, 1, d.waitIRQ())
	d.store(0x44, 0)
	assert.Zero(t, d.load(0x44))
	d.mem.offer(1, 8, 0)
	d.store(0x50, 0)
	d.dev.serving.Lock()
	defer d.dev.serving.Unlock()
	assert.EqualValues(t, 0xf, d.load(0x70))
	assert.EqualValues(t, 1, d.mem.get16(usedAt+2), "a queue that is not ready is not looked at")
}

// The interrupt is a level: it is there as long as InterruptStatus is not 0 (§4.2.2).
func TestTheInterruptFallsWithItsCauses(t *testing.T) {
	for _, tt := range []struct {
		name string
		off  uint64
	}{{"acknowledged", 0x64}, {"reset", 0x70}} {
		t.Run(tt.name, func(t *testing.T) {
			d := newDriver(t, &echo{})
			d.mem.chain(desc{addr: 0x4000, len: 1})
			d.mem.offer(0, 8, 0)
			d.start(8)
			d.mu.Lock()
			for !d.level {
				d.cond.Wait()
			}
			d.mu.Unlock()
			d.store(0x64, 2)
			assert.True(t, d.level, "another cause")
			d.store(tt.off, uint64(map[uint64]int{0x64: 1, 0x70: 0}[tt.off]))
			assert.False(t, d.level)
		})
	}
}

// A driver that has reset the device has its rings back, and has to give it others.
func TestResetForgetsTheQueue(t *testing.T) {
	model := &echo{}
	d := newDriver(t, model)
	d.start(8)
	d.store(0x70, 0)
	d.acknowledgeAndDriver()
	d.acceptFeatures(goodFeatures)
	d.store(0x70, 0xf)
	d.mem.chain(desc{addr: 0x4000, len: 1})
	d.mem.offer(0, 8, 0)
	d.store(0x50, 0)
	d.dev.serving.Lock()
	defer d.dev.serving.Unlock()
	assert.Zero(t, model.served())
	assert.EqualValues(t, 0xf, d.load(0x70))
}

func TestAllOfARingCanBeAvailable(t *testing.T) {
	model := &echo{}
	d := newDriver(t, model)
	d.mem.putDesc(0, desc{addr: 0xffff_ffff_ffff_fff0, len: 16}) // up to the end of the address space
	for n := range 8 {
		d.mem.offer(n, 8, 0)
	}
	d.start(8)
	for model.served() < 8 {
		require.NoError(t, d.dev.Breakage())
		runtime.Gosched()
	}
}

// What is legal, to the last byte (§2.7).
func TestQueuesThatCanJustBe(t *testing.T) {
	for _, tt := range []struct {
		name              string
		size              uint32
		desc, avail, used uint64
	}{
		{"one descriptor", 1, descAt, availAt, usedAt},
		{"the largest", 256, descAt, availAt, usedAt},
		{"from address 0 on", 8, 0, 0, 0},
		{"table at the end of the address space", 8, 0xffff_ffff_ffff_ff80, availAt, usedAt},
		{"available ring there", 8, descAt, 0xffff_ffff_ffff_ffec, usedAt},
		{"used ring there", 8, descAt, availAt, 0xffff_ffff_ffff_ffbc},
	} {
		_, err := newRing(newMemory(), tt.size, tt.desc, tt.avail, tt.used)
		assert.NoError(t, err, tt.name)
	}
}

func TestAModelThatCannotGoOnBreaksTheDevice(t *testing.T) {
	gone := errors.New("gone")
	d := newDriver(t, &echo{err: gone})
	d.mem.chain(desc{addr: 0x4000, len: 1})
	d.mem.offer(0, 8, 0)
	d.start(8)
	assert.EqualValues(t, 2, d.waitIRQ())
	assert.ErrorIs(t, d.dev.Breakage(), gone)
	assert.Zero(t, d.mem.get16(usedAt+2), "the request is not returned")
}

// A reset must not return while the device still uses memory (§2.4.1): the driver takes it back then.
func TestResetWaitsForTheRequestUnderWay(t *testing.T) {
	model := &echo{hold: make(chan struct{})}
	d := newDriver(t, model)
	for i := range 2 {
		d.mem.putDesc(i, desc{addr: 0x4000, len: 1})
		d.mem.offer(i, 8, uint16(i))
	}
	d.start(8)
	model.hold <- struct{}{} // the first is served, the second may have begun
	reset := make(chan struct{})
	go func() {
		defer close(reset)
		d.store(0x70, 0)
		d.mem.breakAt(0) // the driver has its memory back
	}()
	select {
	case <-reset:
	case model.hold <- struct{}{}:
		<-reset
	}
	assert.NoError(t, d.dev.Breakage())
	assert.Zero(t, d.load(0x70))
	assert.Zero(t, d.load(0x60))
}

func TestConcurrentRegistersRequestsAndResets(t *testing.T) {
	d := newDriver(t, &echo{})
	d.mem.chain(desc{addr: 0x4000, len: 1})
	done := make(chan struct{})
	for seed := range uint64(2) {
		go func() {
			defer func() { done <- struct{}{} }()
			for i := range uint64(2000) {
				off := (i*7 + seed) % 0x120 &^ 3
				d.load(off)
				d.store(off, i*0x9e37_79b9)
				d.store(0x50, 0)
			}
		}()
	}
	for range 50 {
		d.store(0x70, 0)
		d.acknowledgeAndDriver()
		d.acceptFeatures(goodFeatures)
		d.store(0x70, 0xb)
		d.setQueue(8)
		d.store(0x70, 0xf)
		d.mem.offer(0, 8, 0)
	}
	<-done
	<-done
}
