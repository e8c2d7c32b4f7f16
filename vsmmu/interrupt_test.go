package vsmmu

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// msis configures both register-based MSIs: to 0x8080040 and 0x8080080.
func (r *rig) msiSetup() {
	r.doorbells()
	r.w64(0x68, 0x8080040)
	r.w32(0x70, 0x11)
	r.w64(0xb0, 0x8080080)
	r.w32(0xb8, 0x22)
}

// TestIRQ_CTRL_6_3_16 shows which sources signal with which enables.
func TestIRQ_CTRL_6_3_16(t *testing.T) {
	for _, tc := range []struct {
		ctrl   uint32
		pulses []Line
		msis   map[guestmem.GPA]uint32
	}{
		{0, nil, nil},
		{1, []Line{LineGError}, map[guestmem.GPA]uint32{0x8080040: 0x11}},
		{4, []Line{LineEventQ}, map[guestmem.GPA]uint32{0x8080080: 0x22}},
		{5, []Line{LineEventQ, LineGError}, map[guestmem.GPA]uint32{0x8080040: 0x11, 0x8080080: 0x22}},
	} {
		r := newRig(t)
		require.NoError(t, r.Attach(3, r.host, "disk"))
		r.msiSetup()
		r.setup()
		r.w32(irqCtrl, tc.ctrl)
		assert.Equal(t, tc.ctrl, r.r32(irqAck))
		r.host.Emit(fault(1))
		r.run(smmuv3.Command{0xff})
		r.idle()
		assert.Equal(t, tc.pulses, r.irqs.take(), "IRQ_CTRL=%d", tc.ctrl)
		assert.Equal(t, tc.msis, r.irqs.msis, "IRQ_CTRL=%d", tc.ctrl)

		r.w32(irqCtrl, 5)
		assert.Empty(t, r.irqs.take(), "enabling signals no earlier event")
		r.host.Emit(fault(2))
		assert.Empty(t, r.irqs.take(), "a later event without an edge signals nothing")
	}
}

// TestIRQDisable_3_18_1 shows that a source has no interrupt in flight once its disable is
// acknowledged.
func TestIRQDisable_3_18_1(t *testing.T) {
	r := newRig(t)
	require.NoError(t, r.Attach(3, r.host, "disk"))
	r.setup()
	stored := make(chan struct{})
	r.irqs.onPulse = func(Line) {
		go func() { r.w32(irqCtrl, 0); close(stored) }()
		select {
		case <-stored:
			t.Error("acknowledged while the interrupt is on its way")
		case <-time.After(20 * time.Millisecond):
			assert.Equal(t, uint32(5), r.r32(irqAck))
		}
	}
	r.host.Emit(fault(1))
	<-stored
	assert.Zero(t, r.r32(irqAck))
}

// TestGERROR_6_3_19 follows the handshake of GERROR and GERRORN.
func TestGERROR_6_3_19(t *testing.T) {
	r := newRig(t)
	r.setup()
	r.run(smmuv3.Command{0xff})
	r.idle()
	assert.Equal(t, uint32(1), r.r32(gerror))
	assert.Zero(t, r.r32(gerrorn), "the SMMU never changes GERRORN")
	assert.Equal(t, []Line{LineGError}, r.irqs.take())

	r.w32(gerror, 0)
	assert.Equal(t, uint32(1), r.r32(gerror), "read-only")
	r.w32(gerrorn, 1)
	r.eventually(func() bool { return r.gerror() == 1 }, "the same command again")
	r.idle()
	assert.Zero(t, r.r32(gerror), "toggles back")
	assert.Equal(t, uint32(1), r.r32(gerrorn))
	assert.Equal(t, []Line{LineGError}, r.irqs.take())
}

// TestGERRORActiveOnce_7_5 shows that an active error is not signalled again.
func TestGERRORActiveOnce_7_5(t *testing.T) {
	r := newRig(t)
	r.doorbells()
	r.setup()
	r.irqs.abort = errors.New("no such doorbell")
	msi := smmuv3.Command{0x1046, 0x8080000}
	r.run(msi, msi, msi)
	r.idle()
	assert.Equal(t, uint32(1<<4), r.gerror())
	assert.Equal(t, []Line{LineCmdSync, LineGError, LineCmdSync, LineCmdSync}, r.irqs.take())
	r.w32(gerrorn, 1<<4)
	r.run(msi)
	r.idle()
	assert.Equal(t, uint32(1<<4), r.gerror())
}

// TestMSIAborts_7_5 shows that each source has its own error, and that the error of GERROR's MSI
// raises no interrupt (§7.5.1).
func TestMSIAborts_7_5(t *testing.T) {
	r := newRig(t)
	require.NoError(t, r.Attach(3, r.host, "disk"))
	r.msiSetup()
	r.setup()
	r.irqs.abort = errors.New("no such doorbell")
	r.host.Emit(fault(1))
	assert.Equal(t, uint32(1<<5|1<<7), r.gerror(), "MSI_EVENTQ_ABT_ERR, and MSI_GERROR_ABT_ERR of signalling that")
	assert.Equal(t, []Line{LineEventQ, LineGError}, r.irqs.take())
	assert.Equal(t, []smmuv3.Event{fault(1)}, r.events(), "the event is there")

	r.irqs.abort = nil
	r.w32(gerrorn, r.r32(gerror))
	r.host.Emit(fault(2))
	assert.Zero(t, r.gerror(), "future MSIs are not affected")
	assert.Equal(t, map[guestmem.GPA]uint32{0x8080080: 0x22}, r.irqs.msis)

	t.Run("to read-only memory", func(t *testing.T) {
		r := newRig(t)
		require.NoError(t, r.Attach(3, r.host, "disk"))
		r.msiSetup()
		r.mem.Heal()
		r.mem.FailWrites(guestmem.Range{GPA: 0x8080080, Len: 4}, guestmem.ErrReadOnly)
		r.setup()
		r.host.Emit(fault(1))
		assert.Equal(t, uint32(1<<5), r.gerror(), "the address is not a doorbell of the VMM")
		assert.NotContains(t, r.irqs.msis, guestmem.GPA(0x8080080))
	})
}

// TestPulseFails shows that the log gets an error of Interrupts.Pulse, and that the device
// continues.
func TestPulseFails(t *testing.T) {
	log := newLog()
	r := newRig(t, func(c *Config) { c.Log = log.Logger; c.Interrupts = brokenWires{} })
	r.setup()
	r.run(cmdSyncIRQ, cmdSync)
	r.idle()
	assert.Equal(t, 1, log.count())
	assert.Contains(t, log.String(), "cut")
	assert.Zero(t, r.gerror())
}

type brokenWires struct{}

func (brokenWires) Pulse(Line) error                     { return errors.New("cut") }
func (brokenWires) SignalMSI(guestmem.GPA, uint32) error { return errors.New("cut") }

// TestLogIsLimited shows that a guest can cause log records at a limited rate only.
func TestLogIsLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newLog()
		r := newRig(t, func(c *Config) { c.Log = log.Logger; c.Interrupts = brokenWires{} })
		r.setup()
		cmds := make([]smmuv3.Command, 200)
		for i := range cmds {
			cmds[i] = cmdSyncIRQ
		}
		r.run(cmds...)
		r.idle()
		assert.Equal(t, logBurst, log.count())
		assert.EqualValues(t, 200-logBurst, r.Stats().LogDropped)
		time.Sleep(3 * logEvery)
		r.run(cmds...)
		r.idle()
		assert.Equal(t, logBurst+3, log.count())
	})
}
