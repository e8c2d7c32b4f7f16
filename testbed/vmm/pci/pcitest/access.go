// Package pcitest makes a guest's accesses to a PCI function, for fuzzers.
package pcitest

import "encoding/binary"

// Access is an access by the guest. A fuzzer's input is a list of them.
type Access struct {
	kind  byte // bit 0: a store; bit 1: to the configuration space
	size  byte // log2
	off   uint32
	value uint64
}

// Load returns a load of 1<<log2 bytes from a BAR.
func Load(off uint32, log2 byte) Access { return Access{0, log2, off, 0} }

// Store returns a store to a BAR.
func Store(off uint32, log2 byte, v uint64) Access { return Access{1, log2, off, v} }

// LoadConfig returns a load from the configuration space.
func LoadConfig(off uint32, log2 byte) Access { return Access{2, log2, off, 0} }

// StoreConfig returns a store to the configuration space.
func StoreConfig(off uint32, log2 byte, v uint64) Access { return Access{3, log2, off, v} }

// inputSize is the number of bytes of an Access in an input.
const inputSize = 14

// Input returns the fuzzer's input with these accesses.
func Input(accesses ...Access) (input []byte) {
	for _, a := range accesses {
		input = append(input, a.kind, a.size)
		input = binary.LittleEndian.AppendUint32(input, a.off)
		input = binary.LittleEndian.AppendUint64(input, a.value)
	}
	return input
}

// Function is the guest's side of a PCI function. Offsets in the configuration space are below
// 4096, and sizes are 1, 2, 4 or 8.
type Function struct {
	Load, LoadConfig   func(off uint64, size int) uint64
	Store, StoreConfig func(off uint64, size int, v uint64)
}

// Do makes the accesses of a fuzzer's input, up to a number of them.
func Do(input []byte, most int, f Function) {
	for ; most > 0 && len(input) >= inputSize; most, input = most-1, input[inputSize:] {
		size, off := 1<<(input[1]&3), uint64(binary.LittleEndian.Uint32(input[2:]))
		value := binary.LittleEndian.Uint64(input[6:])
		switch input[0] & 3 {
		case 0:
			f.Load(off, size)
		case 1:
			f.Store(off, size, value)
		case 2:
			f.LoadConfig(off%0x1000, size)
		case 3:
			f.StoreConfig(off%0x1000, size, value)
		}
	}
}
