package vsmmu

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/u-root/u-root/pkg/memio"

	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// ErrAccess is matched by errors of register accesses that no register takes:
// of a size other than 4 or 8 bytes, not aligned to it, or beyond the register
// pages.
var ErrAccess = errors.New("vsmmu: not a register access")

func checkAccess(off uint64, size int) error {
	if size != 4 && size != 8 || off%uint64(size) != 0 || off >= smmuv3.RegisterSpace {
		return fmt.Errorf("%w: %d bytes at %#x", ErrAccess, size, off)
	}
	return nil
}

// LoadBytes is Load for VMMs that have an access as bytes in the guest's order: it
// fills p, whose length is the access's size.
//
// The error matches ErrAccess, and p is then zero, as Load would have it. Any guest
// can bring that about: a VMM goes on, or makes it the vCPU's external abort.
func (d *Device) LoadBytes(off uint64, p []byte) error { return Registers{d}.LoadBytes(off, p) }

// StoreBytes is Store for VMMs that have an access as bytes in the guest's order. An
// error matches ErrAccess, and nothing was stored: see LoadBytes.
func (d *Device) StoreBytes(off uint64, p []byte) error { return Registers{d}.StoreBytes(off, p) }

// RegisterFile is what a vCPU's accesses go to: a Device, or in its place a
// transcript.Recorder.
type RegisterFile interface {
	Load(off uint64, size int) uint64
	Store(off uint64, size int, v uint64)
}

// Registers are the other forms in which a register file is accessed: as bytes, and for
// programs that use package memio, tools and tests that would program a real SMMU's
// registers the same way.
type Registers struct{ Device RegisterFile }

var (
	_ memio.Reader = Registers{}
	_ memio.Writer = Registers{}
)

// LoadBytes is Device.LoadBytes.
func (r Registers) LoadBytes(off uint64, p []byte) error {
	if err := checkAccess(off, len(p)); err != nil {
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

// StoreBytes is Device.StoreBytes.
func (r Registers) StoreBytes(off uint64, p []byte) error {
	if err := checkAccess(off, len(p)); err != nil {
		return err
	}
	if len(p) == 4 {
		r.Device.Store(off, 4, uint64(binary.LittleEndian.Uint32(p)))
	} else {
		r.Device.Store(off, 8, binary.LittleEndian.Uint64(p))
	}
	return nil
}

// Read implements memio.Reader for *memio.Uint32 and *memio.Uint64; addr is an
// offset from the SMMU's base. Other sizes are errors that match ErrAccess.
func (r Registers) Read(out memio.UintN, addr int64) error {
	if err := checkAccess(uint64(addr), int(out.Size())); err != nil {
		return err
	}
	switch out := out.(type) {
	case *memio.Uint32:
		*out = memio.Uint32(r.Device.Load(uint64(addr), 4))
	case *memio.Uint64:
		*out = memio.Uint64(r.Device.Load(uint64(addr), 8))
	case *memio.ByteSlice:
		return r.LoadBytes(uint64(addr), *out)
	}
	return nil
}

// Write implements memio.Writer, as Read implements memio.Reader.
func (r Registers) Write(in memio.UintN, addr int64) error {
	if err := checkAccess(uint64(addr), int(in.Size())); err != nil {
		return err
	}
	switch in := in.(type) {
	case *memio.Uint32:
		r.Device.Store(uint64(addr), 4, uint64(*in))
	case *memio.Uint64:
		r.Device.Store(uint64(addr), 8, uint64(*in))
	case *memio.ByteSlice:
		return r.StoreBytes(uint64(addr), *in)
	}
	return nil
}
