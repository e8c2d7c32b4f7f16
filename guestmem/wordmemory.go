package guestmem

import (
	"encoding/binary"
	"sync/atomic"
	"unsafe"
)

// WordMemory accesses guest memory in words of 8 bytes, the unit of queues, tables and descriptors
// (IHI 0070 §3.21.3). A device copies a structure once, into its own array, and then checks and
// uses the copy. The guest cannot change the copy.
//
// A WordMemory uses a Mapper in place, and any other Memory by ReadAt and WriteAt. The results are
// the same. It has no state: all methods may be called from any goroutine.
type WordMemory struct {
	mem      Memory
	mapper   Mapper    // mem, or nil
	sections *Sections // of mapper
}

// NewWordMemory returns mem as words. If mem is nil, all words are unmapped, as in a zero
// WordMemory.
func NewWordMemory(mem Memory) WordMemory {
	m := WordMemory{mem: mem}
	if mapper, ok := mem.(Mapper); ok && mapper.Sections() != nil {
		m.mapper, m.sections = mapper, mapper.Sections()
	}
	return m
}

// Read copies words of guest memory from gpa on, a multiple of 8. It is as atomic as ReadAt, and
// fails as ReadAt does. To avoid an allocation, words are part of an object on the heap.
func (m *WordMemory) Read(words []uint64, gpa GPA) error {
	if m.mapper != nil && gpa%wordSize == 0 {
		section := m.sections.Enter()
		mem, err := m.mapper.Slice(gpa, wordSize*len(words), false)
		if err == nil && len(mem) == wordSize*len(words) {
			loadWords(words, mem)
			section.Leave()
			return nil
		}
		section.Leave()
	}
	if m.mem == nil {
		return &AccessError{opRead, gpa, wordSize * len(words), ErrUnmapped}
	}
	return m.mem.ReadAt(bytesOf(words), gpa)
}

// Write copies words to guest memory from gpa on, a multiple of 8. It is as atomic as WriteAt, and
// fails as WriteAt does. Write is ordered with earlier accesses and with later stores, as a record
// of a queue requires. To avoid an allocation, words are part of an object on the heap.
func (m *WordMemory) Write(words []uint64, gpa GPA) error {
	if m.mapper != nil && gpa%wordSize == 0 {
		section := m.sections.Enter()
		mem, err := m.mapper.Slice(gpa, wordSize*len(words), true)
		if err == nil && len(mem) == wordSize*len(words) {
			storeWords(mem, words)
			section.Leave()
			return nil
		}
		section.Leave()
	}
	if m.mem == nil {
		return &AccessError{opWrite, gpa, wordSize * len(words), ErrUnmapped}
	}
	return m.mem.WriteAt(bytesOf(words), gpa)
}

// Store32 writes a word of 4 bytes at gpa, a multiple of 4, in one atomic step, in the order of
// Write. In a Mapper it fails with ErrUnmapped or ErrReadOnly, unwrapped and without an allocation,
// as Slice does. Otherwise it fails as WriteAt does. buf is scratch memory on the heap.
func (m *WordMemory) Store32(gpa GPA, v uint32, buf *[4]byte) error {
	if m.mem == nil {
		return &AccessError{opWrite, gpa, len(buf), ErrUnmapped}
	}
	if m.mapper == nil || gpa%4 != 0 {
		binary.LittleEndian.PutUint32(buf[:], v)
		return m.mem.WriteAt(buf[:], gpa)
	}
	section := m.sections.Enter()
	mem, err := m.mapper.Slice(gpa, 4, true)
	if err == nil {
		store32InOrder((*uint32)(unsafe.Pointer(unsafe.SliceData(mem[:4]))), v)
	}
	section.Leave()
	return err
}

// bytesOf returns words as bytes. Guest structures are little-endian (IHI 0070 §6.2), and so is the
// host.
func bytesOf(words []uint64) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(words))), wordSize*len(words))
}

// wordsOf returns bytes, which are aligned words, as words.
func wordsOf(mem []byte) []uint64 {
	return unsafe.Slice((*uint64)(unsafe.Pointer(unsafe.SliceData(mem))), len(mem)/wordSize)
}

// loadWords copies aligned words of guest memory, as atomically as Memory promises.
func loadWords(words []uint64, mem []byte) {
	from := wordsOf(mem)[:len(words)]
	if wordSize*len(words) > wordwise {
		copy(words, from)
		return
	}
	for i := range from {
		words[i] = atomic.LoadUint64(&from[i])
	}
}

// storeWords copies words to aligned words of guest memory, as Write promises.
func storeWords(mem []byte, words []uint64) {
	to := wordsOf(mem)[:len(words)]
	if wordSize*len(words) > wordwise {
		copy(to, words)
		return
	}
	for i, w := range words {
		storeInOrder(&to[i], w)
	}
}
