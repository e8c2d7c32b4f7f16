//go:build linux && arm64

package vmm

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"net"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/testbed/labtest/machine"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/arm64image"
	"github.com/go-vsmmu/vsmmuv3/vsmmu"
)

// Instructions of the tests' guests (DDI 0487 §C6.2).
const (
	movX1Console = 0xd2a12001 // movz x1, #0x0900, lsl #16
	movX1Control = 0xd2a12021 // movz x1, #0x0901, lsl #16
	movW0O       = 0x528009e0 // movz w0, #'O'
	movW0K       = 0x52800960 // movz w0, #'K'
	strbW0       = 0x39000020 // strb w0, [x1]
	ldrFR        = 0xb9401822 // ldr w2, [x1, #0x18]
	ldp          = 0xa9400c22 // ldp x2, x3, [x1]
	movX0Off     = 0xd2800100 // movz x0, #0x8
	movX0Reset   = 0xd2800120 // movz x0, #0x9
	movkX0PSCI   = 0xf2b08000 // movk x0, #0x8400, lsl #16
	hvc          = 0xd4000002 // hvc #0
	wfi          = 0xd503207f
	bSelf        = 0x14000000 // b .
	bBack        = 0x17ffffff // b .-4
)

// program returns a kernel image of the given instructions.
func program(code ...uint32) []byte {
	image := make([]byte, 64)
	le := binary.LittleEndian
	le.PutUint32(image[0:], 0x1400_0010) // b .+64
	le.PutUint64(image[16:], 4096)
	copy(image[56:], "ARM\x64")
	for _, instruction := range code {
		image = le.AppendUint32(image, instruction)
	}
	return image
}

// TestMain lets the lab run this test binary as the init of its machine, which has KVM.
func TestMain(m *testing.M) {
	machine.Main(func(*machine.Machine) int { return m.Run() })
}

// newMachine returns a machine that runs code. It skips the test if there is no KVM.
func newMachine(t *testing.T, cfg Config, code ...uint32) *Machine {
	t.Helper()
	cfg.Kernel, cfg.Mem, cfg.CPUs = program(code...), 16<<20, 2
	m, err := New(cfg)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		t.Skip(err)
	}
	require.NoError(t, err)
	t.Cleanup(func() {
		if err := m.Close(); !errors.Is(err, bridge.ErrClosed) {
			assert.NoError(t, err)
		}
	})
	return m
}

func TestMachineEndsAsTheGuestAsks(t *testing.T) {
	for _, tt := range []struct {
		name string
		ask  uint32
		want error
	}{
		{"power off", movX0Off, nil},
		{"reset", movX0Reset, ErrGuestReset},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var console bytes.Buffer
			m := newMachine(t, Config{Console: &console}, movX1Console, movW0O, strbW0, movW0K, strbW0, tt.ask, movkX0PSCI, hvc, bSelf)
			assert.Equal(t, tt.want, m.Run(t.Context()))
			require.NoError(t, m.Close())
			assert.Equal(t, "OK", console.String())
		})
	}
}

// Reset replaces the interrupt controller and resets the devices.
func TestMachineBootsAgainAfterAReset(t *testing.T) {
	var console bytes.Buffer
	m := newMachine(t, Config{Console: &console}, movX1Console, movW0O, strbW0, movX0Reset, movkX0PSCI, hvc, bSelf)
	before := descriptors(t)
	for range 3 {
		assert.Equal(t, ErrGuestReset, m.Run(t.Context()))
		require.NoError(t, m.Reset())
		assert.Equal(t, before, descriptors(t))
		assert.NoError(t, m.SMMUInterrupts(0).Pulse(vsmmu.LineEventQ))
	}
	require.NoError(t, m.Close())
	assert.Equal(t, "OOO", console.String())
}

// The end of the context ends a guest in any state, and frees everything.
func TestMachineEndsWithItsContext(t *testing.T) {
	before := descriptors(t)
	for _, tt := range []struct {
		name string
		code []uint32
	}{
		{"in the guest", []uint32{bSelf}},
		{"in WFI", []uint32{wfi, bBack}},
		{"in MMIO exits", []uint32{ldrFR, bBack}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			host, guest := net.Pipe()
			code := append([]uint32{movX1Control, movW0O, strbW0, movX1Console}, tt.code...)
			m := newMachine(t, Config{Control: guest}, code...)
			ctx, cancel := context.WithCancelCause(t.Context())
			gone := errors.New("gone")
			go func() {
				_, _ = host.Read(make([]byte, 1)) // the guest is there
				cancel(gone)
			}()
			err := m.Run(ctx)
			assert.ErrorIs(t, err, gone)
			assert.Regexp(t, `^gone; vCPU 0 is at 0x400000[0-9a-f]{2}, called from 0x0, and left the guest [1-9][0-9]* times; vCPU 1 is at 0x0, .* 0 times$`, err)
			require.NoError(t, m.Close())
			_, err = host.Write([]byte("x"))
			assert.Error(t, err, "the control channel is closed")
		})
	}
	assert.Equal(t, before, descriptors(t))
}

func TestMachineWhoseContextHasEnded(t *testing.T) {
	m := newMachine(t, Config{}, bSelf)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	assert.ErrorIs(t, m.Run(ctx), context.Canceled)
}

func TestAccessThatCannotBeEmulatedEndsTheMachine(t *testing.T) {
	m := newMachine(t, Config{}, movX1Console, ldp, bSelf)
	assert.ErrorContains(t, m.Run(t.Context()), "cannot decode")
}

func TestMachineInterrupts(t *testing.T) {
	m := newMachine(t, Config{}, bSelf)
	for _, line := range []vsmmu.Line{vsmmu.LineEventQ, vsmmu.LinePRIQ, vsmmu.LineCmdSync, vsmmu.LineGError} {
		assert.NoError(t, m.SMMUInterrupts(0).Pulse(line))
	}
	// The SMMU writes MSIs to memory itself, so that they are in a dirty log.
	assert.ErrorIs(t, m.SMMUInterrupts(0).SignalMSI(RAMBase, 0x1234_5678), guestmem.ErrUnmapped)
	assert.Zero(t, m.Memory()[0])
	assert.ErrorIs(t, m.SMMUInterrupts(0).SignalMSI(0, 1), guestmem.ErrUnmapped)
	assert.NoError(t, m.SMMUInterrupts(0).SignalMSI(doorbell, 1), "the guest has not enabled its ITS")
	assert.NoError(t, m.SignalEndpointMSI(8, doorbell, 1))
	assert.ErrorIs(t, m.SignalEndpointMSI(8, smmuBase, 1), guestmem.ErrUnmapped, "a device can write to no register but the doorbell")
}

func TestNewRejects(t *testing.T) {
	good := Config{Kernel: program(bSelf), Mem: 16 << 20, CPUs: 1}
	for _, tt := range []struct {
		name string
		edit func(*Config)
		is   error
		says string
	}{
		{"no vCPU", func(c *Config) { c.CPUs = 0 }, nil, "vCPUs"},
		{"too many", func(c *Config) { c.CPUs = 9 }, nil, "vCPUs"},
		{"no kernel", func(c *Config) { c.Kernel = nil }, arm64image.ErrNotImage, "kernel"},
		{"too little memory", func(c *Config) { c.Mem = 2 << 20 }, ErrMemory, "too small"},
		{"odd memory", func(c *Config) { c.Mem++ }, ErrMemory, "multiple"},
		{"too large an initrd", func(c *Config) { c.Initrd = make([]byte, 16<<20) }, ErrMemory, "too small"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := good
			tt.edit(&cfg)
			_, err := New(cfg)
			require.ErrorContains(t, err, tt.says)
			if tt.is != nil {
				assert.ErrorIs(t, err, tt.is)
			}
		})
	}
}

// descriptors returns the number of open files.
func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(entries)
}
