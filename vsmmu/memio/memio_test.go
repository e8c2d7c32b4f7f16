package memio_test

import (
	"fmt"
	"log"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	umemio "github.com/u-root/u-root/pkg/memio"

	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmu"
	"github.com/go-vsmmu/vsmmuv3/vsmmu/memio"
)

type wires struct{}

func (wires) Pulse(vsmmu.Line) error               { return nil }
func (wires) SignalMSI(guestmem.GPA, uint32) error { return nil }

// ids is an SMMU with stage 1, AArch64 tables, MSIs, two-level tables and 44-bit addresses.
var ids = smmuv3.IDRegs{IDR: [6]uint32{0: 0x0908301a, 1: 0x026a0290, 5: 0x00000074}}

func newDevice() (*vsmmu.Device, error) {
	return vsmmu.New(vsmmu.Config{IDs: ids, Memory: new(guestmem.Fake), Interrupts: wires{}})
}

func TestRegistersAreReadAndWritten(t *testing.T) {
	d, err := newDevice()
	require.NoError(t, err)
	defer d.Close()
	regs := memio.Registers{Device: d}
	w32, w64, wb := umemio.Uint32(0x00abcdef), umemio.Uint64(0x1234_5678_0000_0040), umemio.ByteSlice{1, 0, 0, 0}
	require.NoError(t, regs.Write(&w64, 0x80))
	require.NoError(t, regs.Write(&w32, 0x84))
	require.NoError(t, regs.Write(&wb, 0x98))

	var r32 umemio.Uint32
	var r64 umemio.Uint64
	rb := make(umemio.ByteSlice, 4)
	require.NoError(t, regs.Read(&r32, 0x98))
	require.NoError(t, regs.Read(&r64, 0x80))
	require.NoError(t, regs.Read(&rb, 0x84))
	assert.Equal(t, umemio.Uint32(1), r32)
	assert.Equal(t, umemio.Uint64(0x00abcdef_00000040), r64)
	assert.Equal(t, umemio.ByteSlice{0xef, 0xcd, 0xab, 0}, rb)
}

func TestInvalidAccessesFail(t *testing.T) {
	d, err := newDevice()
	require.NoError(t, err)
	defer d.Close()
	regs := memio.Registers{Device: d}
	var r8 umemio.Uint8
	var r16 umemio.Uint16
	r32, r64, odd := umemio.Uint32(7), umemio.Uint64(7), make(umemio.ByteSlice, 3)
	for _, tc := range []struct {
		v   umemio.UintN
		off int64
	}{{&r8, 0x80}, {&r16, 0x80}, {&odd, 0x80}, {&r32, -4}, {&r32, 0x82}, {&r64, 0x84}, {&r32, 0x20000}, {(*umemio.ByteSlice)(nil), 0x80}, {nil, 0x80}} {
		assert.ErrorIs(t, regs.Read(tc.v, tc.off), vsmmu.ErrAccess, "read %T at %#x", tc.v, tc.off)
		assert.ErrorIs(t, regs.Write(tc.v, tc.off), vsmmu.ErrAccess, "write %T at %#x", tc.v, tc.off)
	}
	assert.Zero(t, d.Load(0x80, 8))
	assert.Equal(t, umemio.Uint32(7), r32, "a failed read does not change its argument")
}

func Example() {
	d, err := newDevice()
	if err != nil {
		log.Fatal(err)
	}
	defer d.Close()
	regs := memio.Registers{Device: d}
	gbpa := umemio.Uint32(smmuv3.GBPA_Update | smmuv3.GBPA_ABORT)
	if err := regs.Write(&gbpa, smmuv3.RegGBPA); err != nil {
		log.Fatal(err)
	}
	var idr5 umemio.Uint32
	if err := regs.Read(&idr5, smmuv3.RegIDR5); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("IDR5 %#x\n", uint32(idr5))
	// Output: IDR5 0x74
}
