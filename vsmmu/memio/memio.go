// Package memio accesses the registers of a virtual SMMUv3 through u-root's package memio, so that
// tools and tests program the device like a real SMMU.
//
// A Registers reads and writes the registers of a vsmmu.Device or a transcript.Recorder. Addresses
// are offsets from the SMMU's base. Register accesses have 4 or 8 bytes and are aligned to their
// size. Any other access fails with an error that matches vsmmu.ErrAccess.
package memio

import (
	"encoding/binary"
	"fmt"

	"github.com/u-root/u-root/pkg/memio"

	"github.com/go-vsmmu/vsmmuv3/vsmmu"
)

// Registers is the register file of a device as a memio.Reader and memio.Writer.
type Registers struct{ Device vsmmu.RegisterFile }

var (
	_ memio.Reader = Registers{}
	_ memio.Writer = Registers{}
)

// Read reads the register at an offset into out: a *memio.Uint32, a *memio.Uint64, or a
// *memio.ByteSlice of 4 or 8 bytes.
func (r Registers) Read(out memio.UintN, off int64) error {
	regs := vsmmu.Registers{Device: r.Device}
	var p [8]byte
	switch out := out.(type) {
	case *memio.Uint32:
		err := regs.LoadBytes(uint64(off), p[:4])
		if err == nil {
			*out = memio.Uint32(binary.LittleEndian.Uint32(p[:4]))
		}
		return err
	case *memio.Uint64:
		err := regs.LoadBytes(uint64(off), p[:])
		if err == nil {
			*out = memio.Uint64(binary.LittleEndian.Uint64(p[:]))
		}
		return err
	case *memio.ByteSlice:
		if out != nil {
			return regs.LoadBytes(uint64(off), *out)
		}
	}
	return fmt.Errorf("memio: read %T at %#x: %w", out, off, vsmmu.ErrAccess)
}

// Write writes in to the register at an offset. It accepts the same types as Read.
func (r Registers) Write(in memio.UintN, off int64) error {
	regs := vsmmu.Registers{Device: r.Device}
	var p [8]byte
	switch in := in.(type) {
	case *memio.Uint32:
		binary.LittleEndian.PutUint32(p[:4], uint32(*in))
		return regs.StoreBytes(uint64(off), p[:4])
	case *memio.Uint64:
		binary.LittleEndian.PutUint64(p[:], uint64(*in))
		return regs.StoreBytes(uint64(off), p[:])
	case *memio.ByteSlice:
		if in != nil {
			return regs.StoreBytes(uint64(off), *in)
		}
	}
	return fmt.Errorf("memio: write %T at %#x: %w", in, off, vsmmu.ErrAccess)
}
