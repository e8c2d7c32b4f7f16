package virtio

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestNilArgumentsAreErrors(t *testing.T) {
	mem, irq := newMemory(), func(bool) {}
	for _, tt := range []struct {
		name  string
		model Model
		dma   DMA
		want  string
	}{
		{"no model", nil, mem, "no model"},
		{"a nil pointer as the model", (*Block)(nil), mem, "no model"},
		{"no DMA", &echo{}, nil, "no DMA"},
		{"a nil pointer as the DMA", &echo{}, (*memory)(nil), "no DMA"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := NewMMIO(tt.model, tt.dma, false, irq)
			assert.EqualError(t, err, "virtio: new MMIO device: "+tt.want)
			_, err = NewFunction(tt.model, tt.dma, false, 0)
			assert.EqualError(t, err, "virtio: new PCI function: "+tt.want)
		})
	}
	_, err := NewMMIO(&echo{}, mem, false, nil)
	assert.EqualError(t, err, "virtio: new MMIO device: no function to set the interrupt")
}

func TestPASIDsHaveAtMost20Bits(t *testing.T) {
	f, err := NewFunction(&echo{}, newMemory(), false, 20)
	require.NoError(t, err)
	assert.NoError(t, f.Close())
	_, err = NewFunction(&echo{}, newMemory(), false, 21)
	assert.EqualError(t, err, "virtio: new PCI function: 21 PASID bits: more than 20")
}

func TestSegmentsOfARequestAreBoundedByTheDescriptorTable(t *testing.T) {
	for _, flags := range []uint16{1, 1 | 2} { // readable and writable, each with a successor
		mem := newMemory()
		for i := range 8 {
			mem.putDesc(i, desc{0x4000, 1, flags, uint16(i+1) % 8}) // a loop
		}
		mem.offer(0, 8, 0)
		r, err := newRing(mem, 8, descAt, availAt, usedAt)
		require.NoError(t, err)
		for range 1000 {
			_, _, err = r.pop()
			require.ErrorIs(t, err, errRing)
		}
		assert.LessOrEqual(t, cap(r.readable)+cap(r.writable), 8)
	}
}

func TestNotificationsThatWaitAreBounded(t *testing.T) {
	model := &echo{hold: make(chan struct{})}
	d := newDriver(t, model)
	d.mem.chain(desc{addr: 0x4000, len: 1})
	d.mem.offer(0, 8, 0)
	d.start(8)
	before := runtime.NumGoroutine()
	for range 10_000 {
		d.store(0x50, 0)
	}
	assert.LessOrEqual(t, len(d.dev.kick), 1)
	assert.LessOrEqual(t, runtime.NumGoroutine(), before)
	close(model.hold)
}
