package edu

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/edu/regs"
)

func TestINTxIsHighUntilAllCausesAreAcknowledged(t *testing.T) {
	r := newRig(t, Features{})
	r.window.Store(0x60, 4, 5)
	assert.True(t, r.intx())
	assert.EqualValues(t, 5, r.window.Load(0x24, 4))
	assert.EqualValues(t, 8, r.config(0x06, 2)&8, "interrupt status")
	r.window.Store(0x64, 4, 1)
	assert.True(t, r.intx())

	r.setConfig(0x04, 2, 6|1<<10)
	assert.False(t, r.intx(), "INTx is disabled")
	assert.EqualValues(t, 8, r.config(0x06, 2)&8)
	r.setConfig(0x04, 2, 6)
	assert.True(t, r.intx())
	r.window.Store(0x64, 4, 4)
	assert.False(t, r.intx())
	assert.Zero(t, r.config(0x06, 2)&8)
}

func TestDMAAndFactorialRaiseInterruptsOnRequest(t *testing.T) {
	r := newRig(t, Features{})
	r.mapPage(dataAt)
	r.window.Store(0x08, 4, 5)
	r.dma(true, iova, 8)
	assert.Zero(t, r.window.Load(0x24, 4), "nothing asks for one")
	r.window.Store(0x20, 4, 0xff)
	assert.EqualValues(t, 0x80, r.window.Load(0x20, 4))
	r.window.Store(0x08, 4, 5)
	assert.EqualValues(t, 0x001, r.window.Load(0x24, 4))
	r.store(0x98, 7)
	r.end()
	assert.EqualValues(t, 0x101, r.window.Load(0x24, 4))
	assert.True(t, r.intx())
}

// A message is a write of the function's DMA: the SMMU translates it.
func TestMSI(t *testing.T) {
	r := newRig(t, Features{})
	require.NoError(t, r.MapStage1(sid, 0x80_0000, doorbell&^0xfff, 4096))
	r.setConfig(0x44, 4, 0x80_0040)
	r.setConfig(0x48, 4, 0)
	r.setConfig(0x4c, 2, 0x1234)
	r.setConfig(0x42, 2, 1)
	r.window.Store(0x60, 4, 1)
	r.until(func() bool { return len(r.sent()) == 1 })
	assert.Equal(t, []string{"0x1234 to 0x8090040 from 0x10"}, r.sent())
	assert.False(t, r.intx())
	assert.Zero(t, r.config(0x06, 2)&8)

	r.setConfig(0x04, 2, 2)
	r.window.Store(0x60, 4, 2)
	assert.Len(t, r.sent(), 1, "without Bus Master Enable the message waits")
	r.setConfig(0x04, 2, 6)
	r.until(func() bool { return len(r.sent()) == 2 })
}

// The end of a DMA has vector 1, everything else vector 0. A message waits while its vector is
// masked.
func TestMSIX(t *testing.T) {
	r := newRig(t, all)
	r.mapPage(dataAt)
	require.NoError(t, r.MapStage1(sid, 0x80_0000, doorbell&^0xfff, 4096))
	table := func(off uint64) uint64 { return 0x20_0000 + off }
	for vector := range uint64(2) {
		r.window.Store(table(16*vector), 8, 0x80_0040)
		r.window.Store(table(16*vector+8), 4, 0x50+vector)
	}
	r.window.Store(table(12), 4, 0)
	r.setConfig(0x92, 2, 0x8000)

	r.window.Store(0x60, 4, 1)
	r.until(func() bool { return len(r.sent()) == 1 })
	r.begin(true, iova, 8)
	r.end()
	r.store(0x98, 7)
	assert.Equal(t, regs.OK, r.end().Code())
	assert.EqualValues(t, 2, r.window.Load(table(0x1000), 8), "pending bits")
	r.window.Store(table(28), 4, 0)
	r.until(func() bool { return len(r.sent()) == 2 })
	assert.Equal(t, []string{"0x50 to 0x8090040 from 0x10", "0x51 to 0x8090040 from 0x10"}, r.sent())
	assert.Zero(t, r.window.Load(table(0x1000), 8))
	assert.False(t, r.intx())
}

// A message whose address the guest does not map is lost, and the SMMU reports it.
func TestMessageThatFaultsIsLost(t *testing.T) {
	r := newRig(t, Features{})
	r.mapPage(dataAt)
	r.setConfig(0x44, 4, 0x80_0040)
	r.setConfig(0x42, 2, 1)
	r.window.Store(0x60, 4, 1)
	e, err := r.WaitEvent()
	require.NoError(t, err)
	assert.EqualValues(t, 0x80_0040, e.InputAddr())
	assert.Empty(t, r.sent())
}
