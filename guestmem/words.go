package guestmem

import (
	"encoding/binary"
	"sync/atomic"
	"unsafe"
)

// wordSize is the width in bytes of the widest single-copy atomic access.
const wordSize = 8

// load copies len(p) bytes of guest memory to p. What is written to mem
// meanwhile is seen in the pieces that Memory promises.
func load(p, mem []byte) {
	if len(p) > wordwise {
		copy(p, mem)
		return
	}
	for len(p) > 0 {
		at := unsafe.Pointer(unsafe.SliceData(mem))
		n := piece(uintptr(at), len(p))
		switch n {
		case 8:
			binary.NativeEndian.PutUint64(p, atomic.LoadUint64((*uint64)(at)))
		case 4:
			binary.NativeEndian.PutUint32(p, atomic.LoadUint32((*uint32)(at)))
		case 2:
			binary.NativeEndian.PutUint16(p, *(*uint16)(at))
		default:
			p[0] = mem[0]
		}
		p, mem = p[n:], mem[n:]
	}
}

// store is load's counterpart: it copies p to guest memory.
func store(mem, p []byte) {
	if len(p) > wordwise {
		copy(mem, p)
		return
	}
	for len(p) > 0 {
		at := unsafe.Pointer(unsafe.SliceData(mem))
		n := piece(uintptr(at), len(p))
		switch n {
		case 8:
			atomic.StoreUint64((*uint64)(at), binary.NativeEndian.Uint64(p))
		case 4:
			atomic.StoreUint32((*uint32)(at), binary.NativeEndian.Uint32(p))
		case 2:
			*(*uint16)(at) = binary.NativeEndian.Uint16(p)
		default:
			mem[0] = p[0]
		}
		p, mem = p[n:], mem[n:]
	}
}

// piece is the width of the widest naturally aligned access at an address that
// takes no more than n bytes.
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
