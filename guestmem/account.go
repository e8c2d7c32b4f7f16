package guestmem

import (
	"cmp"
	"iter"
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"
)

// DirtyPageSize is the size in bytes of a page of an Account. It is the smallest page size that
// guests use.
const DirtyPageSize = 4 << 10

// Account is a dirty log of a Tracked: the pages that devices wrote to during its epoch. It may
// name a page that was not written to. It never omits a page that was.
//
// A nil Account names no page. An account takes 32 KiB for each GiB of guest memory in which it
// names a page.
type Account struct {
	chunks atomic.Pointer[[]*chunk] // ascending; never changed in place
	mu     sync.Mutex               // held to replace chunks
}

// chunkPages is the number of pages of a chunk, which covers 1 GiB.
const chunkPages = 1 << 30 / DirtyPageSize

// chunk is a bitmap of chunkPages pages.
type chunk struct {
	index uint64 // of the first page, in units of chunkPages
	words [chunkPages / 64]atomic.Uint64
}

// successor returns an empty account with the same chunks as a, so that writers need not allocate
// them.
func (a *Account) successor() *Account {
	s := new(Account)
	old := a.list()
	chunks := make([]*chunk, len(old))
	for i, c := range old {
		chunks[i] = &chunk{index: c.index}
	}
	s.chunks.Store(&chunks)
	return s
}

func (a *Account) list() []*chunk {
	if a == nil {
		return nil
	}
	if l := a.chunks.Load(); l != nil {
		return *l
	}
	return nil
}

// find returns the index of the chunk in the list, or the index at which to insert it.
func find(list []*chunk, index uint64) (i int, ok bool) {
	return slices.BinarySearchFunc(list, index, func(c *chunk, index uint64) int {
		return cmp.Compare(c.index, index)
	})
}

// chunk returns the chunk with an index. It allocates the chunk if there is none.
func (a *Account) chunk(index uint64) *chunk {
	list := a.list()
	if i, ok := find(list, index); ok {
		return list[i]
	}
	return a.addChunk(index)
}

func (a *Account) addChunk(index uint64) *chunk {
	a.mu.Lock()
	defer a.mu.Unlock()
	list := a.list()
	i, ok := find(list, index)
	if !ok {
		list = slices.Insert(slices.Clone(list), i, &chunk{index: index})
		a.chunks.Store(&list)
	}
	return list[i]
}

// mark adds the pages that hold the n bytes from gpa on.
func (a *Account) mark(gpa GPA, n int) {
	if n == 0 {
		return
	}
	page, last := uint64(gpa)/DirtyPageSize, (uint64(gpa)+uint64(n)-1)/DirtyPageSize
	for page <= last {
		c := a.chunk(page / chunkPages)
		for end := min(last, page|(chunkPages-1)); page <= end; {
			of := min(end, page|63) // the last page of this word
			mask := ^uint64(0) >> (63 - (of - page)) << (page % 64)
			if w := &c.words[page%chunkPages/64]; w.Load()&mask != mask {
				w.Or(mask)
			}
			page = of + 1
		}
	}
}

// Contains reports whether the account names the page of gpa.
func (a *Account) Contains(gpa GPA) bool {
	page := uint64(gpa) / DirtyPageSize
	list := a.list()
	i, ok := find(list, page/chunkPages)
	return ok && list[i].words[page%chunkPages/64].Load()>>(page%64)&1 != 0
}

// Pages returns the number of pages that the account names.
func (a *Account) Pages() int {
	n := 0
	for _, c := range a.list() {
		for i := range c.words {
			n += bits.OnesCount64(c.words[i].Load())
		}
	}
	return n
}

// Ranges returns the pages that the account names, in ascending order. Adjacent pages form one
// range.
func (a *Account) Ranges() iter.Seq[Range] {
	return func(yield func(Range) bool) {
		var run Range
		for _, c := range a.list() {
			for i := range c.words {
				for w := c.words[i].Load(); w != 0; {
					first := bits.TrailingZeros64(w)
					n := bits.TrailingZeros64(^(w >> first))
					at := GPA(c.index*chunkPages+uint64(i)*64+uint64(first)) * DirtyPageSize
					if run.Len != 0 && at == run.GPA+GPA(run.Len) {
						run.Len += uint64(n) * DirtyPageSize
					} else {
						if run.Len != 0 && !yield(run) {
							return
						}
						run = Range{at, uint64(n) * DirtyPageSize}
					}
					w &= ^(^uint64(0) >> (64 - n) << first)
				}
			}
		}
		if run.Len != 0 {
			yield(run)
		}
	}
}
