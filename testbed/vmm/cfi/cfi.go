// Package cfi emulates a bank of NOR flash with Intel's command set, of two 16-bit chips side by
// side. EDK2 keeps its variables there.
//
// In array mode the guest reads the bank as memory. In the other modes its loads, and in all modes
// its stores, are accesses of the register file.
package cfi

import (
	"sync"
)

// Flash is a bank. Load and Store may be called from any goroutine.
type Flash struct {
	mem   []byte
	array func(readable bool) error
	fail  func(error)

	mu     sync.Mutex
	mode   mode
	buffer map[uint64]uint32
	left   int // words until the buffer is complete
}

// mode decides the effect of the next access: it is a command of the guest, or a step of a command.
type mode uint16

// Commands (JESD68.01 and Intel's command set 0001).
const (
	modeArray     mode = 0xff
	modeStatus    mode = 0x70
	modeID        mode = 0x90
	modeErase     mode = 0x20
	modeLock      mode = 0x60
	modeProgram   mode = 0x40
	modeBuffered  mode = 0xe8
	clearStatus   mode = 0x50
	programOld    mode = 0x10
	confirm            = 0xd0
	modeData      mode = 0x100 // words of a buffer
	modeConfirm   mode = 0x101 // the end of a buffer
	ready              = 0x0080_0080
	erasedByte         = 0xff
	maxBufferWord      = 512
)

// Block is the size of an erase block in bytes.
const Block = 256 << 10

// New returns a bank whose contents are mem, a multiple of Block. array makes mem readable for the
// guest, or stops this. New calls array first. fail receives later errors of array.
func New(mem []byte, array func(readable bool) error, fail func(error)) (*Flash, error) {
	f := &Flash{mem: mem, array: array, fail: fail, mode: modeArray}
	return f, array(true)
}

// Reset puts the bank into array mode. The contents stay. array is the function of the new machine.
func (f *Flash) Reset(array func(readable bool) error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.array, f.mode = array, modeArray
	return array(true)
}

// Erase fills a memory with the contents of erased flash.
func Erase(mem []byte) {
	for i := range mem {
		mem[i] = erasedByte
	}
}

// Load reads the status, or the contents if the bank is in array mode.
func (f *Flash) Load(off uint64, size int) (v uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case off+uint64(size) > uint64(len(f.mem)):
	case f.mode == modeArray:
		for i := range size {
			v |= uint64(f.mem[off+uint64(i)]) << (8 * i)
		}
	case f.mode == modeID: // no block is locked
	default:
		v = ready & (1<<(8*size) - 1)
	}
	return v
}

// Store executes a command or a step of one, in words of 32 bits.
func (f *Flash) Store(off uint64, size int, value uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if off+uint64(size) > uint64(len(f.mem)) {
		return
	}
	word := uint32(value)
	switch f.mode {
	case modeProgram:
		f.program(off&^3, word)
		f.enter(modeStatus)
	case modeErase:
		if word&0xff == confirm {
			Erase(f.mem[off&^(Block-1):][:Block])
		}
		f.enter(modeStatus)
	case modeLock:
		f.enter(modeStatus)
	case modeBuffered:
		f.left = min(int(word&0xffff)+1, maxBufferWord)
		f.buffer = map[uint64]uint32{}
		f.enter(modeData)
	case modeData:
		f.buffer[off&^3] = word
		if f.left--; f.left == 0 {
			f.enter(modeConfirm)
		}
	case modeConfirm:
		if word&0xff == confirm {
			for at, w := range f.buffer {
				f.program(at, w)
			}
		}
		f.buffer = nil
		f.enter(modeStatus)
	default:
		f.command(mode(word & 0xff))
	}
}

func (f *Flash) command(c mode) {
	switch c {
	case modeArray, modeStatus, modeID, modeErase, modeLock, modeProgram, modeBuffered:
		f.enter(c)
	case programOld:
		f.enter(modeProgram)
	case clearStatus:
	default:
		f.enter(modeStatus)
	}
}

// program clears bits: flash only sets them by erasing.
func (f *Flash) program(off uint64, word uint32) {
	for i := range uint64(4) {
		f.mem[off+i] &= byte(word >> (8 * i))
	}
}

func (f *Flash) enter(m mode) {
	was := f.mode == modeArray
	f.mode = m
	if now := m == modeArray; now != was {
		if err := f.array(now); err != nil {
			f.fail(err)
		}
	}
}
