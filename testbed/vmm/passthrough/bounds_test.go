//go:build linux && (amd64 || arm64)

package passthrough

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/pci"
)

// The guest repeats a store that fails on the host.
func TestLogOfADeviceIsBounded(t *testing.T) {
	var log bytes.Buffer
	p := newPhysical()
	d, err := New(Config{
		Physical: p, Machine: newMachine(), Stream: noStream, Log: slog.New(slog.NewTextHandler(&log, nil)),
	})
	require.NoError(t, err)
	h, err := pci.NewHost(1, pci.Window{Base: windowBase, Size: 0x1000_0000})
	require.NoError(t, err)
	require.NoError(t, h.Add(1, false, d, d.Connect))
	p.fail["WriteRegion"], p.fail["Reset"] = errBroken, errBroken
	for range 1000 {
		h.ECAM().Store(1<<15|0x0c, 1, 1) // cache line size, a register of the device
		h.Reset()
	}
	assert.Equal(t, 32, strings.Count(log.String(), "\n"))
	require.NoError(t, d.Close())
}

// A device has one eventfd for each vector of its table, for any vectors that the guest enables.
func TestEventfdsAreBoundedByTheMSIXTable(t *testing.T) {
	r := newRig(t, newPhysical())
	r.store(0x10, 4, windowBase)
	r.store(0x04, 2, pci.CommandMemory)
	before := descriptors(t) // with two of INTx
	for i := range uint64(100) {
		r.store(0x52, 2, pci.MSIXEnable)
		for vector := range uint64(3) {
			r.vectorOf(vector, i, 0)
		}
		assert.Len(t, r.connected(), 3)
		assert.LessOrEqual(t, descriptors(t), before+1)
		r.store(0x52, 2, 0)
		assert.Equal(t, before, descriptors(t))
	}
}

// Each directly mapped area takes one range of the machine's memory, at any address that the guest
// chooses.
func TestMappedMemoryIsBoundedByTheAreasOfTheDevice(t *testing.T) {
	r := newRig(t, newPhysical())
	r.store(0x04, 2, pci.CommandMemory)
	for i := range uint64(100) {
		r.store(0x10, 4, windowBase+i*4*page)
		assert.Len(t, r.machine.memory, 1)
	}
}
