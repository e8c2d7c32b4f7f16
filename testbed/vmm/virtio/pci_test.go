package virtio

import (
	"errors"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/pci"
)

func TestFunctionConfigurationSpaceAtReset(t *testing.T) {
	d := newPCIDriver(t, &echo{})
	for _, tt := range []struct {
		name string
		off  uint64
		size int
		want uint64
	}{
		{"Vendor ID", 0x00, 2, 0x1af4},
		{"Device ID: 0x1040 and the type", 0x02, 2, 0x1040 + 42},
		{"Command", 0x04, 2, 0},
		{"Status: capabilities list", 0x06, 2, 0x10},
		{"Revision: not a transitional device", 0x08, 1, 1},
		{"Class", 0x0b, 1, 0xff},
		{"Header type", 0x0e, 1, 0},
		{"BAR 0: 32-bit memory", 0x10, 4, 0},
		{"Subsystem: not a transitional device", 0x2e, 2, 0x40},
		{"Capabilities", 0x34, 1, 0x40},
		{"Interrupt pin: no INTx", 0x3d, 1, 0},
		{"MSI-X control: 2 vectors", 0x42, 2, 1},
		{"MSI-X table", 0x44, 4, 0x4000},
		{"MSI-X pending bits", 0x48, 4, 0x5000},
		{"PCI Express capability: version 2, root complex integrated endpoint", 0xaa, 2, 0x92},
		{"Device Capabilities 2: one End-End TLP prefix", 0xcc, 4, 0x60_0000},
		{"PASID, the only extended capability", 0x100, 4, 0x0001_001b},
		{"PASID capability: Max PASID Width", 0x104, 2, 0x600},
		{"PASID control", 0x106, 2, 0},
	} {
		assert.Equal(t, tt.want, d.config(tt.off, tt.size), tt.name)
	}
	d.setConfig(0x10, 4, 0xffff_ffff)
	assert.EqualValues(t, 0xffff_8000, d.config(0x10, 4), "32 KiB")
	for off := uint64(0); off < 0x100; off += 4 {
		d.setConfig(off, 4, 0xffff_ffff)
	}
	assert.EqualValues(t, 0x1040+42, d.config(0x02, 2), "read-only")
	assert.EqualValues(t, 0xc001, d.config(0x42, 2), "MSI-X control: enable and function mask")
	assert.EqualValues(t, 0x4000, d.config(0x44, 4), "read-only")
	d.setConfig(0x104, 4, 0xffff_ffff)
	assert.EqualValues(t, 0x1_0600, d.config(0x104, 4), "PASID control: PASID Enable")
}

func TestFunctionWithoutPASIDsHasNoExtendedCapabilities(t *testing.T) {
	f, err := NewFunction(&echo{}, newMemory(), false, 0)
	require.NoError(t, err)
	defer f.Close()
	assert.Zero(t, f.LoadConfig(0x100, 4), "the first extended capability")
}

func TestFunctionHasTheStructuresOf_4_1_4(t *testing.T) {
	d := newPCIDriver(t, &echo{})
	type structure struct{ kind, capLen, bar, off, length, more uint64 }
	var got []structure
	for at := d.config(0x34, 1); at != 0; at = d.config(at+1, 1) {
		if d.config(at, 1) != 0x09 {
			continue
		}
		s := structure{
			kind: d.config(at+3, 1), capLen: d.config(at+2, 1), bar: d.config(at+4, 1),
			off: d.config(at+8, 4), length: d.config(at+12, 4),
		}
		if s.capLen > 16 {
			s.more = d.config(at+16, 4)
		}
		got = append(got, s)
	}
	assert.Equal(t, []structure{
		{1, 16, 0, 0x0000, 0x38, 0},
		{2, 20, 0, 0x3000, 2, 0}, // notify_off_multiplier 0
		{3, 16, 0, 0x1000, 1, 0},
		{4, 16, 0, 0x2000, 9, 0},
		{5, 20, 0, 0, 0, 0},
	}, got)
}

func TestCommonConfigurationAtReset(t *testing.T) {
	d := newPCIDriver(t, &echo{})
	d.place()
	for _, tt := range []struct {
		name string
		off  uint64
		size int
		want uint64
	}{
		{"device_feature_select", 0x00, 4, 0},
		{"device_feature, low", 0x04, 4, 1 << 5},
		{"driver_feature_select", 0x08, 4, 0},
		{"driver_feature", 0x0c, 4, 0},
		{"config_msix_vector: none", 0x10, 2, 0xffff},
		{"num_queues", 0x12, 2, 1},
		{"device_status", 0x14, 1, 0},
		{"config_generation", 0x15, 1, 0},
		{"queue_select", 0x16, 2, 0},
		{"queue_size: the greatest", 0x18, 2, 256},
		{"queue_msix_vector: none", 0x1a, 2, 0xffff},
		{"queue_enable", 0x1c, 2, 0},
		{"queue_notify_off", 0x1e, 2, 0},
		{"queue_desc", 0x20, 4, 0},
		{"half of a field", 0x10, 1, 0},
		{"two fields at once", 0x10, 4, 0},
		{"a field of 64 bits at once", 0x20, 8, 0},
		{"within a field", 0x05, 1, 0},
		{"beyond the structure", 0x38, 2, 0},
		{"beyond all structures", 0x6000, 4, 0},
	} {
		assert.Equal(t, tt.want, d.load(tt.off, tt.size), tt.name)
	}
	d.store(0x00, 4, 1)
	assert.EqualValues(t, 1<<8|3, d.load(0x04, 4), "device_feature, high: the model's, VERSION_1 and ACCESS_PLATFORM")
	d.store(0x00, 4, 2)
	assert.Zero(t, d.load(0x04, 4), "no feature is above 63")
	d.store(0x16, 2, 1)
	assert.Zero(t, d.load(0x18, 2), "queue_size of a queue that does not exist")
	d.store(0x1a, 2, 0)
	assert.EqualValues(t, 0xffff, d.load(0x1a, 2), "queue_msix_vector of a queue that does not exist")
	assert.EqualValues(t, 0x0807060504030201, d.load(0x2000, 8), "device-specific configuration")
	assert.EqualValues(t, 0x09, d.load(0x2008, 4), "zero beyond its end")
}

func TestCommonConfigurationReadsBackAndResets(t *testing.T) {
	for _, tt := range []struct {
		name        string
		off         uint64
		size        int
		store, want uint64
	}{
		{"driver_feature", 0x0c, 4, 0x20, 0x20},
		{"config_msix_vector", 0x10, 2, 1, 1},
		{"config_msix_vector that does not exist", 0x10, 2, 2, 0xffff},
		{"num_queues is read-only", 0x12, 2, 7, 1},
		{"queue_size", 0x18, 2, 16, 16},
		{"queue_msix_vector", 0x1a, 2, 0, 0},
		{"queue_msix_vector that does not exist", 0x1a, 2, 0xfffe, 0xffff},
		{"queue_enable ignores values other than 1", 0x1c, 2, 2, 0},
		{"queue_desc, high", 0x24, 4, 0x1234_5678, 0x1234_5678},
		{"queue_driver, low", 0x28, 4, 0x2000, 0x2000},
		{"queue_device, low", 0x30, 4, 0x3000, 0x3000},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newPCIDriver(t, &echo{})
			d.place()
			before := d.load(tt.off, tt.size)
			d.store(tt.off, tt.size, tt.store)
			assert.Equal(t, tt.want, d.load(tt.off, tt.size))
			d.status(0)
			assert.Equal(t, before, d.load(tt.off, tt.size), "after a reset")
		})
	}
}

func TestStoresOfOtherSizesThanTheFieldHaveNoEffect_4_1_3_1(t *testing.T) {
	d := newPCIDriver(t, &echo{})
	d.place()
	d.store(0x14, 4, 1)
	assert.Zero(t, d.load(0x14, 1), "device_status")
	d.store(0x00, 2, 1)
	assert.Zero(t, d.load(0x00, 4), "device_feature_select")
	d.store(0x20, 8, 0x1000)
	assert.Zero(t, d.load(0x20, 4), "queue_desc")
}

func TestFunctionExecutesARequestAndSendsItsMessage(t *testing.T) {
	model := &echo{}
	d := newPCIDriver(t, model)
	d.start(8)
	for n := range 3 {
		d.mem.put(message1, make([]byte, 4))
		d.offer(n)
		d.waitMessage(message1, 0x52)
		assert.EqualValues(t, n+1, d.mem.get16(usedAt+2), "used idx, before the message")
	}
	assert.Equal(t, 3, model.served())
	assert.Zero(t, d.mem.get32(message0), "no configuration change")
	assert.Zero(t, d.load(0x1000, 1), "ISR status with MSI-X")
}

func TestFunctionThatNeedsAResetSendsAConfigurationChange_2_1_2(t *testing.T) {
	gone := errors.New("gone")
	d := newPCIDriver(t, &echo{err: gone})
	d.start(8)
	d.offer(0)
	d.waitMessage(message0, 0x51)
	assert.EqualValues(t, 0x4f, d.load(0x14, 1), "DEVICE_NEEDS_RESET")
	assert.ErrorIs(t, d.f.Breakage(), gone)
	assert.Zero(t, d.mem.get32(message1))
	assert.EqualValues(t, 2, d.load(0x1000, 1), "ISR status: configuration change, also with MSI-X")
	d.status(0)
	assert.Zero(t, d.load(0x14, 1))
}

// The vCPU that enables the queue sends no message itself: the worker does.
func TestRefusedQueueSendsAConfigurationChange(t *testing.T) {
	d := newPCIDriver(t, &echo{})
	d.place()
	d.enableMSIX()
	d.negotiate()
	d.store(0x10, 2, 0)
	d.status(0xf)
	d.settle()
	d.store(0x18, 2, 3)
	d.store(0x1c, 2, 1)
	d.settle()
	assert.EqualValues(t, 0x51, d.mem.get32(message0))
	assert.Zero(t, d.load(0x1c, 2), "queue_enable")
}

func TestMaskedMessageIsPendingUntilUnmasked(t *testing.T) {
	for _, tt := range []struct {
		name         string
		mask, unmask func(d *pciDriver)
	}{
		{"by the vector", func(d *pciDriver) { d.mask(1, 1) }, func(d *pciDriver) { d.mask(1, 0) }},
		{
			"by the function",
			func(d *pciDriver) { d.setConfig(0x42, 2, 0xc000) }, func(d *pciDriver) { d.setConfig(0x42, 2, 0x8000) },
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newPCIDriver(t, &echo{})
			d.start(8)
			tt.mask(d)
			d.settle()
			d.offer(0)
			assert.EqualValues(t, 2, d.load(0x5000, 4), "the pending bit of vector 1")
			assert.Zero(t, d.mem.get32(message1))
			tt.unmask(d)
			d.settle()
			assert.EqualValues(t, 0x52, d.mem.get32(message1))
			assert.Zero(t, d.load(0x5000, 8))
		})
	}
}

func TestResetClearsPendingMessages(t *testing.T) {
	d := newPCIDriver(t, &echo{})
	d.start(8)
	d.mask(1, 1)
	d.offer(0)
	d.wait(func() bool { return d.load(0x5000, 8) != 0 })
	d.status(0)
	assert.Zero(t, d.load(0x5000, 8))
}

// usedByLine returns a driver without MSI-X after one of its requests has been executed.
func usedByLine(t *testing.T) *pciDriver {
	t.Helper()
	d := newPCIDriver(t, &echo{})
	d.start(8)
	d.setConfig(0x42, 2, 0)
	d.offer(0)
	d.wait(func() bool { return d.mem.get16(usedAt+2) == 1 })
	return d
}

func TestWithoutMSIXTheISRStatusHasTheInterrupt(t *testing.T) {
	d := usedByLine(t)
	d.f.serving.Lock() // waits for the request
	defer d.f.serving.Unlock()
	assert.Zero(t, d.load(0x1000, 4), "an access of more than 8 bits")
	assert.EqualValues(t, 1, d.load(0x1000, 1), "queue interrupt")
	assert.Zero(t, d.load(0x1000, 1), "cleared by the read")
	assert.Zero(t, d.mem.get32(message1))
}

func TestResetClearsTheISRStatus(t *testing.T) {
	d := usedByLine(t)
	d.status(0)
	assert.Zero(t, d.load(0x1000, 1))
}

func TestFunctionResetClearsTheConfiguration_PCI_6_6(t *testing.T) {
	d := newPCIDriver(t, &echo{})
	d.start(8)
	d.setConfig(0x0c, 1, 0x10)
	d.setConfig(0x3c, 1, 0x55)
	assert.EqualValues(t, 0x10, d.config(0x0c, 1), "cache line size")
	assert.EqualValues(t, 0x55, d.config(0x3c, 1), "interrupt line")
	d.host.Reset()
	for _, reg := range []uint64{0x04, 0x0c, 0x10, 0x3c} {
		assert.Zero(t, d.config(reg, 2), "%#x", reg)
	}
	assert.EqualValues(t, 1, d.config(0x42, 2), "MSI-X control")
	assert.EqualValues(t, 0xff, d.load(0x14, 1), "no function decodes the address")
	d.place()
	assert.Zero(t, d.load(0x14, 1))
	assert.EqualValues(t, 1, d.load(0x401c, 4), "the vector is masked")
}

// The worker executes the other requests.
func TestNotificationExecutesOneRequestOnTheVCPU(t *testing.T) {
	model := &echo{}
	d := newPCIDriver(t, model)
	d.start(8)
	d.settle()
	d.mem.putDesc(0, desc{addr: dataAt, len: 16})
	d.mem.offer(0, 8, 0)
	d.offer(1)
	assert.Equal(t, 1, model.served())
	assert.True(t, d.step())
	assert.Equal(t, 2, model.served())
	d.offer(2)
	assert.Equal(t, 3, model.served())
	assert.False(t, d.step(), "no request is left")
}

func TestMessageThatCannotBeSentIsLost(t *testing.T) {
	for _, tt := range []struct {
		name  string
		setup func(d *pciDriver)
	}{
		{"no vector", func(d *pciDriver) { d.store(0x1a, 2, 0xffff) }},
		{"an address that faults", func(d *pciDriver) { d.store(0x4010, 4, memSize) }},
		{"the last address", func(d *pciDriver) { d.store(0x4010, 8, 0xffff_ffff_ffff_ffff) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newPCIDriver(t, &echo{})
			d.start(8)
			tt.setup(d)
			d.offer(0)
			d.wait(func() bool { return d.mem.get16(usedAt+2) == 1 })
			d.f.serving.Lock()
			defer d.f.serving.Unlock()
			assert.Zero(t, d.mem.get32(message1))
			assert.EqualValues(t, 0xf, d.load(0x14, 1))
			assert.Zero(t, d.load(0x5000, 8))
		})
	}
}

// PCI §7.5.1.1.3
func TestFunctionMakesNoDMAWithoutBusMasterEnable(t *testing.T) {
	model := &echo{}
	d := newPCIDriver(t, model)
	d.start(8)
	d.command(2)
	before := len(d.mem.accesses(1000))
	d.offer(0)
	assert.Len(t, d.mem.accesses(1000), before)
	d.command(6)
	d.waitMessage(message1, 0x52)
	assert.Equal(t, 1, model.served())
}

func TestClearingBusMasterEnableWaitsForTheRequestThatIsBeingExecuted(t *testing.T) {
	model := &echo{hold: make(chan struct{})}
	d := newPCIDriver(t, model)
	d.start(8)
	d.settle()
	d.offer(0)
	go d.f.serveOne()
	d.wait(func() bool {
		idle := d.f.serving.TryLock()
		if idle {
			d.f.serving.Unlock()
		}
		return !idle
	})
	used := make(chan uint16)
	go func() {
		d.command(2)
		used <- d.mem.get16(usedAt + 2)
	}()
	d.wait(func() bool {
		d.f.mu.Lock()
		defer d.f.mu.Unlock()
		return !d.f.enabled()
	})
	for range 1000 { // time for a store that does not wait to end
		runtime.Gosched()
	}
	assert.EqualValues(t, 1, d.load(0x12, 2), "num_queues: other accesses do not wait")
	close(model.hold)
	assert.EqualValues(t, 1, <-used, "used idx")
	assert.Zero(t, d.mem.get32(message1), "the message is pending")
	d.command(6)
	d.settle()
	assert.EqualValues(t, 0x52, d.mem.get32(message1))
}

func TestStoresToTheNotifyRegionThatAreNoNotifications(t *testing.T) {
	for _, tt := range []struct {
		name  string
		off   uint64
		size  int
		value uint64
	}{
		{"another queue", 0x3000, 2, 1},
		{"another size", 0x3000, 4, 0},
		{"another offset", 0x3002, 2, 0},
	} {
		model := &echo{}
		d := newPCIDriver(t, model)
		d.start(8)
		d.settle()
		d.mem.putDesc(0, desc{addr: dataAt, len: 16})
		d.mem.offer(0, 8, 0)
		d.store(tt.off, tt.size, tt.value)
		assert.False(t, d.step(), tt.name)
		assert.Zero(t, model.served(), tt.name)
	}
}

func TestConfigurationAccessCapability_4_1_4_9(t *testing.T) {
	d := newPCIDriver(t, &echo{})
	point := func(bar, off, length uint64) {
		d.setConfig(0x94+4, 1, bar)
		d.setConfig(0x94+8, 4, off)
		d.setConfig(0x94+12, 4, length)
	}
	for _, tt := range []struct {
		name             string
		bar, off, length uint64
		want             uint64
	}{
		{"num_queues", 0, 0x12, 2, 1},
		{"device_feature", 0, 0x04, 4, 1 << 5},
		{"device-specific, a byte", 0, 0x2003, 1, 4},
		{"the last bytes", 0, 0x7ffc, 4, 0},
	} {
		point(tt.bar, tt.off, tt.length)
		assert.Equal(t, tt.want, d.config(0x94+16, 4), tt.name)
	}
	point(0, 0x14, 1)
	d.setConfig(0x94+16, 4, 1)
	assert.EqualValues(t, 1, d.config(0x94+16, 1), "device_status: ACKNOWLEDGE")
	for _, tt := range []struct {
		name             string
		bar, off, length uint64
	}{
		{"another BAR", 1, 0x14, 1},
		{"length 0", 0, 0x14, 0},
		{"8 bytes", 0, 0x10, 8},
		{"3 bytes", 0, 0x12, 3},
		{"misaligned", 0, 0x12, 4},
		{"beyond the memory", 0, 0x8000, 1},
		{"far beyond", 0, 0xffff_fffc, 4},
	} {
		point(tt.bar, tt.off, tt.length)
		d.setConfig(0x94+16, 4, 0x5a5a_5a5a)
		assert.EqualValues(t, 0x5a5a_5a5a, d.config(0x94+16, 4), "%s: the stored value", tt.name)
	}
	point(0, 0x14, 1)
	assert.EqualValues(t, 1, d.config(0x94+16, 1))
	point(0, 0x10, 2)
	d.setConfig(0x94+16, 4, 0x5a5a_0001)
	assert.EqualValues(t, 1, d.config(0x94+16, 4), "config_msix_vector: the store has the length of the window")
}

func TestFunctionDecodesTheAddressesOfItsBAR(t *testing.T) {
	d := newPCIDriver(t, &echo{})
	answers := func(at uint64) bool { return d.load(at-barAt+0x12, 2) == 1 }
	d.setConfig(0x10, 4, barAt)
	assert.False(t, answers(barAt), "Memory Space Enable is 0")
	d.command(2)
	assert.True(t, answers(barAt))
	d.setConfig(0x10, 4, barAt+0x8000)
	assert.False(t, answers(barAt))
	assert.True(t, answers(barAt+0x8000))
	d.setConfig(0x10, 4, 0x4000_0000)
	assert.False(t, answers(barAt+0x8000), "outside the window of the bridge")
	d.setConfig(0x10, 4, barAt)
	d.command(0)
	assert.False(t, answers(barAt))
}

// Firmware leaves functions where they decode, and a guest moves one after the other.
func TestFunctionsSwapTheirAddresses(t *testing.T) {
	d := newPCIDriver(t, &echo{})
	other, err := NewFunction(&echo{}, d.mem, false, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = other.Close() })
	require.NoError(t, d.host.Add(2, false, other, other.Connect))
	const second = barAt + 0x8000
	set := func(device, off uint64, v uint64) { d.host.ECAM().Store(device<<15|off, 4, v) }
	set(1, 0x10, barAt)
	set(2, 0x10, second)
	set(1, 0x04, 2)
	set(2, 0x04, 2)
	// num_queues says that a function answers; device_feature_select, which of them.
	answers := func(at uint64) bool { return d.load(at-barAt+0x12, 2) == 1 }
	d.store(0, 4, 1)
	require.True(t, answers(barAt) && answers(second))

	set(1, 0x10, second)
	assert.False(t, answers(barAt))
	assert.Zero(t, d.load(0x8000, 4), "the other still decodes there")
	set(2, 0x10, barAt)
	assert.True(t, answers(barAt) && answers(second))
	assert.EqualValues(t, 1, d.load(0x8000, 4), "the first function")
	assert.Zero(t, d.load(0, 4), "the second function")
}

func TestHostBridgeResetsTheFunction(t *testing.T) {
	model := &echo{}
	d := newPCIDriver(t, model)
	d.start(8)
	d.offer(0)
	d.waitMessage(message1, 0x52)
	d.host.Reset()
	assert.Zero(t, d.config(0x04, 2), "Command")
	assert.False(t, d.f.enabled(), "Bus Master Enable")
	assert.Zero(t, d.config(0x10, 4), "BAR 0")
	assert.EqualValues(t, 1, d.config(0x42, 2), "MSI-X control")
	d.place()
	assert.EqualValues(t, 1, d.load(0x400c, 4), "the vector is masked")
	assert.Zero(t, d.load(0x14, 1), "device_status")
	d.mem.put16(usedAt+2, 0)
	d.mem.put(message1, make([]byte, 4))
	d.start(8)
	d.offer(0)
	d.waitMessage(message1, 0x52)
	assert.Equal(t, 2, model.served())
}

func TestFunctionStoreDoesNotWaitForDMAThatWaitsForTheGuest(t *testing.T) {
	model := &echo{hold: make(chan struct{})}
	d := newPCIDriver(t, model)
	d.start(8)
	d.offer(0)
	assert.Zero(t, model.served())
	close(model.hold)
	d.waitMessage(message1, 0x52)
}

func TestFunctionAccessesAtTheSameTime(t *testing.T) {
	d := newPCIDriver(t, &echo{})
	d.start(8)
	done := make(chan struct{})
	for seed := range uint64(2) {
		go func() {
			defer func() { done <- struct{}{} }()
			for i := range uint64(1000) {
				off := (i*0x1004 + seed*4) % 0x6000
				d.load(off, 4)
				d.store(off, 4, i*0x9e37_79b9)
				d.config(i*4%0x100, 4)
				d.setConfig(0x42, 2, i<<14)
				d.command(2 | i&4)
				d.notify()
			}
		}()
	}
	<-done
	<-done
	d.command(0)
	n := len(d.mem.accesses(1 << 30))
	d.f.notify()
	d.f.serving.Lock()
	defer d.f.serving.Unlock()
	assert.Len(t, d.mem.accesses(1<<30), n, "Bus Master Enable is 0")
}

var _ pci.Function = (*Function)(nil)
