package soft

import (
	"encoding/binary"
	"fmt"

	"github.com/go-vsmmu/vsmmuv3/guestmem"
)

// Load reads a little-endian word of 2, 4 or 8 bytes from iova, a multiple of its size,
// in one atomic step. Whatever the goroutine reads next is read after it: the entries
// of a ring after their index. It fails with a *Fault.
func (e *Endpoint) Load(iova uint64, size int) (uint64, error) {
	return e.With(Attrs{}).Load(iova, size)
}

// Store writes the low size bytes of v to iova, in one atomic step. It is Load's
// counterpart: what the goroutine wrote before, such as the entries of a ring, others
// see before they see the word. A word of 4 bytes may be an MSI.
func (e *Endpoint) Store(iova uint64, size int, v uint64) error {
	return e.With(Attrs{}).Store(iova, size, v)
}

// Load is Endpoint.Load with the port's attributes.
func (p Port) Load(iova uint64, size int) (uint64, error) {
	w := words.Get().(*[8]byte)
	defer words.Put(w)
	*w = [8]byte{}
	err := p.word(w, iova, size, false)
	return binary.LittleEndian.Uint64(w[:]), err
}

// Store is Endpoint.Store with the port's attributes.
func (p Port) Store(iova uint64, size int, v uint64) error {
	w := words.Get().(*[8]byte)
	defer words.Put(w)
	binary.LittleEndian.PutUint64(w[:], v)
	return p.word(w, iova, size, true)
}

// word moves an aligned word, which lies in one page, and is a single piece to
// guest memory.
func (p Port) word(w *[8]byte, iova uint64, size int, write bool) error {
	a := p.access(write)
	switch size {
	case 2, 4, 8:
		if iova%uint64(size) == 0 {
			return p.ep.dma(w[:size], iova, &a)
		}
	}
	f := &Fault{Err: fmt.Errorf("%w: %d bytes", guestmem.ErrMisaligned, size)}
	return f.at(iova, 0, &a)
}
