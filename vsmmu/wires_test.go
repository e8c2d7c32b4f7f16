package vsmmu

import (
	"bytes"
	"errors"
	"io"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// edge is a call of an embedder's set function.
type edge struct {
	spi   uint32
	level bool
}

// TestSPIsPulseEachLine shows that each line has an SPI of its own, in the order of the Lines, and
// that an edge rises and falls.
func TestSPIsPulseEachLine(t *testing.T) {
	var got []edge
	w := SPIs(74, func(spi uint32, level bool) error {
		got = append(got, edge{spi, level})
		return nil
	}, LineCmdSync)
	for _, l := range []Line{LineEventQ, LinePRIQ, LineCmdSync, LineGError} {
		require.NoError(t, w.Pulse(l))
	}
	assert.Equal(t, []edge{{74, true}, {74, false}, {75, true}, {75, false}, {77, true}, {77, false}}, got)
	assert.ErrorIs(t, w.SignalMSI(0x0808_0040, 1), guestmem.ErrUnmapped)
}

// TestSPIsPulseEndsAfterAnError shows that a line whose rise fails still falls, and that Pulse
// returns both errors.
func TestSPIsPulseEndsAfterAnError(t *testing.T) {
	up, down := errors.New("up"), errors.New("down")
	err := SPIs(0, func(_ uint32, level bool) error {
		if level {
			return up
		}
		return down
	}).Pulse(LineEventQ)
	assert.ErrorIs(t, err, up)
	assert.ErrorIs(t, err, down)
}

// TestEventFDsPulse shows that an edge is the 8-byte number 1, and that a line without an eventfd
// has no wire.
func TestEventFDsPulse(t *testing.T) {
	var eventq, gerror bytes.Buffer
	w := EventFDs([NumLines]io.Writer{LineEventQ: &eventq, LineGError: &gerror})
	for _, l := range []Line{LineEventQ, LinePRIQ, LineCmdSync, LineGError, LineEventQ} {
		require.NoError(t, w.Pulse(l))
	}
	assert.Equal(t, []byte{1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0}, eventq.Bytes())
	assert.Equal(t, []byte{1, 0, 0, 0, 0, 0, 0, 0}, gerror.Bytes())
	r, p, err := os.Pipe()
	require.NoError(t, err)
	require.NoError(t, r.Close())
	require.NoError(t, p.Close())
	w = EventFDs([NumLines]io.Writer{LinePRIQ: p})
	assert.ErrorIs(t, w.Pulse(LinePRIQ), os.ErrClosed)
	assert.ErrorContains(t, w.Pulse(LinePRIQ), "eventfd of priq: ")
}

// TestWithMSI shows that MSIs go to the function, and lines to the other Interrupts.
func TestWithMSI(t *testing.T) {
	var fd bytes.Buffer
	var sent []uint64
	w := WithMSI(EventFDs([NumLines]io.Writer{&fd}), func(addr guestmem.GPA, data uint32) error {
		sent = append(sent, uint64(addr), uint64(data))
		return nil
	})
	require.NoError(t, w.Pulse(LineEventQ))
	require.NoError(t, w.SignalMSI(0x0808_0040, 7))
	assert.Equal(t, 8, fd.Len())
	assert.Equal(t, []uint64{0x0808_0040, 7}, sent)
}

// TestPulseAllocatesNothing shows that an interrupt costs no allocation.
func TestPulseAllocatesNothing(t *testing.T) {
	for name, w := range map[string]Interrupts{
		"SPIs":     SPIs(0, func(uint32, bool) error { return nil }),
		"EventFDs": EventFDs([NumLines]io.Writer{io.Discard}),
	} {
		assert.Zero(t, testing.AllocsPerRun(100, func() { _ = w.Pulse(LineEventQ) }), name)
		assert.Zero(t, testing.AllocsPerRun(100, func() { _ = w.SignalMSI(0, 0) }), name)
	}
}

// TestNewRefusesWiresThatSignalNothing shows that New says what is wrong with Interrupts that the
// functions of this package return.
func TestNewRefusesWiresThatSignalNothing(t *testing.T) {
	set := func(uint32, bool) error { return nil }
	for text, w := range map[string]Interrupts{
		"SPIs with a nil set":                                    SPIs(8, nil),
		"SPIs 985 to 988: a GIC has SPIs 0 to 987":               SPIs(985, set),
		"SPIs 4294967295 to 4294967298: a GIC has SPIs 0 to 987": SPIs(^uint32(0), set),
		"SPIs without Line(4), which is not a Line":              SPIs(8, set, Line(4)),
		"EventFDs without any":                                   EventFDs([NumLines]io.Writer{}),
		"EventFDs whose gerror is a nil *os.File":                EventFDs([NumLines]io.Writer{LineGError: (*os.File)(nil)}),
		"WithMSI with a nil signal":                              WithMSI(SPIs(8, set), nil),
		"WithMSI of nil":                                         WithMSI(nil, func(guestmem.GPA, uint32) error { return nil }),
		"WithMSI of SPIs 985 to 988: a GIC has SPIs 0 to 987":    WithMSI(SPIs(985, set), func(guestmem.GPA, uint32) error { return nil }),
		"WithMSI of a nil *vsmmu.irqs":                           WithMSI((*irqs)(nil), func(guestmem.GPA, uint32) error { return nil }),
	} {
		d, err := New(Config{IDs: rigIDs, Memory: new(guestmem.Fake), Interrupts: w})
		assert.Nil(t, d)
		assert.ErrorIs(t, err, ErrConfig)
		assert.EqualError(t, err, "vsmmu: new device: invalid configuration: Config.Interrupts is "+text)
	}
	_, err := New(Config{IDs: smmuv3.IDRegs{}, Memory: new(guestmem.Fake), Interrupts: SPIs(984, set)})
	assert.ErrorContains(t, err, "Config.IDs are zero", "SPIs 984 to 987 exist")
}
