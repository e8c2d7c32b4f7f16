package vsmmu

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// ErrAccess is matched by errors of accesses that no register takes: of a size other than 4 or 8
// bytes, not aligned to it, or beyond the register pages.
var ErrAccess = errors.New("not a register access")

func checkAccess(op string, off uint64, size int) error {
	if size != 4 && size != 8 || off%uint64(size) != 0 || off >= smmuv3.RegisterSpace {
		return fmt.Errorf("vsmmu: %s %d bytes at %#x: %w", op, size, off, ErrAccess)
	}
	return nil
}

// LoadBytes is Load for a VMM that has an access as bytes in the guest's order. It fills p, whose
// length is the size of the access.
//
// An error matches ErrAccess, and p is then zero, as Load reads it. Any guest can cause that error:
// the VMM goes on, or makes it the vCPU's external abort.
func (d *Device) LoadBytes(off uint64, p []byte) error { return Registers{d}.LoadBytes(off, p) }

// StoreBytes is Store for a VMM that has an access as bytes in the guest's order. An error matches
// ErrAccess, and nothing was stored. See LoadBytes.
func (d *Device) StoreBytes(off uint64, p []byte) error { return Registers{d}.StoreBytes(off, p) }

// RegisterFile is what a vCPU accesses: a Device, or a transcript.Recorder in its place.
type RegisterFile interface {
	Load(off uint64, size int) uint64
	Store(off uint64, size int, v uint64)
}

// Registers accesses a register file as bytes in the guest's order. Package vsmmu/memio accesses it
// through u-root's package memio.
type Registers struct{ Device RegisterFile }

// LoadBytes is Device.LoadBytes for any register file.
func (r Registers) LoadBytes(off uint64, p []byte) error {
	if err := checkAccess("load", off, len(p)); err != nil {
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

// StoreBytes is Device.StoreBytes for any register file.
func (r Registers) StoreBytes(off uint64, p []byte) error {
	if err := checkAccess("store", off, len(p)); err != nil {
		return err
	}
	if len(p) == 4 {
		r.Device.Store(off, 4, uint64(binary.LittleEndian.Uint32(p)))
	} else {
		r.Device.Store(off, 8, binary.LittleEndian.Uint64(p))
	}
	return nil
}
