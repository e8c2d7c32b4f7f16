package guestmem

import (
	"encoding/binary"
	"math"
	"sync/atomic"
	"unsafe"
)

// wordSize is the width in bytes of the widest single-copy atomic access.
const wordSize = 8

// Load copies len(p) bytes of guest memory to p, as atomically as Memory promises. mem is a slice
// of a Mapper, at least as long as p.
func Load(p, mem []byte) {
	_ = mem[len(p):]
	if len(p) > wordwise {
		copy(p, mem)
		return
	}
	for len(p) > 0 {
		at := unsafe.Pointer(unsafe.SliceData(mem))
		n := piece(uintptr(at), len(p))
		switch n {
		case 8:
			binary.LittleEndian.PutUint64(p, atomic.LoadUint64((*uint64)(at)))
		case 4:
			binary.LittleEndian.PutUint32(p, atomic.LoadUint32((*uint32)(at)))
		case 2:
			w, shift := around(at)
			binary.LittleEndian.PutUint16(p, uint16(atomic.LoadUint32(w)>>shift))
		default:
			p[0] = loadByte(at)
		}
		p, mem = p[n:], mem[n:]
	}
}

// Store copies p to guest memory, as atomically as Memory promises. mem is a writable slice of a
// Mapper, at least as long as p.
func Store(mem, p []byte) {
	_ = mem[len(p):]
	if len(p) > wordwise {
		copy(mem, p)
		return
	}
	for len(p) > 0 {
		at := unsafe.Pointer(unsafe.SliceData(mem))
		n := piece(uintptr(at), len(p))
		switch n {
		case 8:
			atomic.StoreUint64((*uint64)(at), binary.LittleEndian.Uint64(p))
		case 4:
			atomic.StoreUint32((*uint32)(at), binary.LittleEndian.Uint32(p))
		case 2:
			store16(at, binary.LittleEndian.Uint16(p))
		default:
			storeByte(at, p[0])
		}
		p, mem = p[n:], mem[n:]
	}
}

// LoadWord returns the little-endian word of size bytes at the start of mem, in one atomic step.
// mem is a slice of a Mapper. size is 2, 4 or 8, and the address of mem is a multiple of it.
func LoadWord(mem []byte, size int) uint64 {
	_ = mem[size:]
	at := unsafe.Pointer(unsafe.SliceData(mem))
	switch size {
	case 8:
		return atomic.LoadUint64((*uint64)(at))
	case 4:
		return uint64(atomic.LoadUint32((*uint32)(at)))
	}
	w, shift := around(at)
	return uint64(uint16(atomic.LoadUint32(w) >> shift))
}

// StoreWord stores the low size bytes of v at the start of mem, in one atomic step, as a
// little-endian word. mem is a writable slice of a Mapper. See LoadWord.
func StoreWord(mem []byte, size int, v uint64) {
	_ = mem[size:]
	at := unsafe.Pointer(unsafe.SliceData(mem))
	switch size {
	case 8:
		atomic.StoreUint64((*uint64)(at), v)
	case 4:
		atomic.StoreUint32((*uint32)(at), uint32(v))
	default:
		store16(at, uint16(v))
	}
}

// store16 stores 2 bytes in one atomic step. Package atomic has no function for that. at is a
// multiple of 2.
func store16(at unsafe.Pointer, v uint16) { storePart(at, uint32(v), math.MaxUint16) }

// storePart replaces part of an aligned 4-byte word. The part begins at at, and mask selects its
// bits. If the guest writes to the rest of the word at the same time, storePart tries again.
func storePart(at unsafe.Pointer, v, mask uint32) {
	w, shift := around(at)
	for {
		old := atomic.LoadUint32(w)
		if atomic.CompareAndSwapUint32(w, old, old&^(mask<<shift)|v<<shift) {
			return
		}
	}
}

// around returns the aligned 4-byte word that contains at, and the offset of at in it, in bits.
// Slots consist of 8-byte words, so the whole word belongs to the guest.
func around(at unsafe.Pointer) (w *uint32, shift uint) {
	off := uintptr(at) & 3
	return (*uint32)(unsafe.Add(at, -int(off))), uint(off) * 8
}

// piece returns the width of the widest naturally aligned access at addr, at most n bytes.
func piece(addr uintptr, n int) int {
	switch {
	case addr%8 == 0 && n >= 8:
		return 8
	case addr%4 == 0 && n >= 4:
		return 4
	case addr%2 == 0 && n >= 2:
		return 2
	}
	return 1
}
