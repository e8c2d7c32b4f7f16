package soft

import (
	"encoding/binary"
	"fmt"

	"github.com/go-vsmmu/vsmmuv3/guestmem"
)

// Load reads a little-endian word of 2, 4 or 8 bytes in one atomic step. iova is a multiple of
// size. The goroutine's later reads are ordered after it. A device thus reads a driver's ring
// entries after their index. On failure it returns a *Fault. It matches guestmem.ErrMisaligned if
// size or iova is out of range.
func (e *Endpoint) Load(iova uint64, size int) (uint64, error) {
	return e.With(Attrs{}).Load(iova, size)
}

// Store writes the low size bytes of v to iova in one atomic step. The goroutine's earlier
// writes are ordered before it. A word of 4 bytes may be an MSI. See Load.
func (e *Endpoint) Store(iova uint64, size int, v uint64) error {
	return e.With(Attrs{}).Store(iova, size, v)
}

// Load reads as Endpoint.Load does, with the port's attributes.
func (p Port) Load(iova uint64, size int) (uint64, error) {
	if isWord(iova, size) {
		b, section := p.ep.begin()
		mem, count := b.microLookup(section, iova, p.attrs.who(p.attrs.need(false)))
		if len(mem) >= size {
			count.addOwn(1, size)
			v := guestmem.LoadWord(mem, size)
			section.Leave()
			return v, nil
		}
		section.Leave()
	}
	return p.load(iova, size)
}

// Store writes as Endpoint.Store does, with the port's attributes.
func (p Port) Store(iova uint64, size int, v uint64) error {
	if isWord(iova, size) {
		b, section := p.ep.begin()
		mem, count := b.microLookup(section, iova, p.attrs.who(p.attrs.need(true)))
		if len(mem) >= size {
			count.addOwn(1, size)
			guestmem.StoreWord(mem, size, v)
			section.Leave()
			return nil
		}
		section.Leave()
	}
	return p.store(iova, size, v)
}

// isWord reports whether size is that of a word, and iova a multiple of it.
func isWord(iova uint64, size int) bool {
	return (size == 8 || size == 4 || size == 2) && iova&uint64(size-1) == 0
}

// load is Load if the micro-TLB does not have the memory.
func (p Port) load(iova uint64, size int) (uint64, error) {
	w := words.Get().(*[8]byte)
	defer words.Put(w)
	*w = [8]byte{}
	err := p.word(w, iova, size, false)
	return binary.LittleEndian.Uint64(w[:]), err
}

// store is Store if the micro-TLB does not have the memory.
func (p Port) store(iova uint64, size int, v uint64) error {
	w := words.Get().(*[8]byte)
	defer words.Put(w)
	binary.LittleEndian.PutUint64(w[:], v)
	return p.word(w, iova, size, true)
}

// word moves an aligned word, which lies in one page, and therefore in one piece of memory.
func (p Port) word(w *[8]byte, iova uint64, size int, write bool) error {
	a := p.access(write)
	if isWord(iova, size) {
		return p.ep.dma(w[:size], iova, &a)
	}
	err := fmt.Errorf("%w: %d bytes", guestmem.ErrMisaligned, size)
	if !isWord(0, size) {
		err = fmt.Errorf("%w (a word has 2, 4 or 8 bytes)", err)
	}
	return p.ep.failed(p.ep.fault(err)).at(iova, 0, &a)
}
