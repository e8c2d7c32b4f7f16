package vsmmu

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// ErrAccess means that an access cannot reach a register: its size is not 4 or 8 bytes, its offset
// is not aligned to the size, or it lies beyond the register pages.
var ErrAccess = errors.New("not a register access")

func (r Registers) check(op string, off uint64, size int) error {
	if d, ok := r.Device.(*Device); r.Device == nil || ok && (d == nil || d.ids == nil) {
		return fmt.Errorf("vsmmu: %s %d bytes at %#x: %w", op, size, off, errNotMade)
	}
	if size != 4 && size != 8 || off%uint64(size) != 0 || off >= smmuv3.RegisterSpace {
		return fmt.Errorf("vsmmu: %s %d bytes at %#x: %w", op, size, off, ErrAccess)
	}
	return nil
}

// LoadBytes fills p with the registers at an offset, in the guest's byte order. A VMM that gets
// accesses as bytes calls it instead of Load. The length of p is the size of the access.
//
// An error matches ErrAccess. p is then zero, like the result of Load. Any guest can cause this
// error: the VMM ignores it, or injects an external abort into the vCPU.
func (d *Device) LoadBytes(off uint64, p []byte) error { return Registers{d}.LoadBytes(off, p) }

// StoreBytes writes p, in the guest's byte order, to the registers at an offset. A VMM that gets
// accesses as bytes calls it instead of Store. An error matches ErrAccess, and means that nothing
// was stored. See LoadBytes.
func (d *Device) StoreBytes(off uint64, p []byte) error { return Registers{d}.StoreBytes(off, p) }

// RegisterFile has the registers that a vCPU accesses: a Device, or a transcript.Recorder in its
// place.
type RegisterFile interface {
	Load(off uint64, size int) uint64
	Store(off uint64, size int, v uint64)
}

// Registers accesses a register file as bytes in the guest's byte order. Package vsmmu/memio uses
// it for VMMs that use u-root's package memio.
type Registers struct{ Device RegisterFile }

// LoadBytes loads as Device.LoadBytes does.
func (r Registers) LoadBytes(off uint64, p []byte) error {
	if err := r.check("load", off, len(p)); err != nil {
		clear(p)
		return err
	}
	v := r.Device.Load(off, len(p))
	if len(p) == 4 {
		binary.LittleEndian.PutUint32(p, uint32(v))
	} else {
		binary.LittleEndian.PutUint64(p, v)
	}
	return nil
}

// StoreBytes stores as Device.StoreBytes does.
func (r Registers) StoreBytes(off uint64, p []byte) error {
	if err := r.check("store", off, len(p)); err != nil {
		return err
	}
	if len(p) == 4 {
		r.Device.Store(off, 4, uint64(binary.LittleEndian.Uint32(p)))
	} else {
		r.Device.Store(off, 8, binary.LittleEndian.Uint64(p))
	}
	return nil
}
