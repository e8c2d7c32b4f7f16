package mix

import (
	"encoding/binary"

	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// Where the guest keeps its structures, from the start of its memory.
const (
	StreamTable = 0x0010_0000 // linear
	cdAt        = 0x0020_0000
	Page        = 0x0030_0000 // what every IOVA leads to
	tablesAt    = 0x0040_0000
	Queue       = 0x0100_0000
	MemorySize  = 0x0200_0000
)

// StreamTableLog2Size is log2 of the number of STEs.
const StreamTableLog2Size = 8

// Block is content of the guest's memory.
type Block struct {
	At   guestmem.GPA
	Data []byte
}

// Guest is what a guest with memory from base on has in it: a stream table in which StreamID has stage 1, its CD, and
// tables that map that many pages of 4 KiB, up to 2^18, from IOVA 0 on: the last block is those of the last level.
func Guest(base guestmem.GPA, pages int) []Block {
	const entries, table = 512, 0x1000
	at := func(off guestmem.GPA) uint64 { return uint64(base + off) }
	lasts := (pages + entries - 1) / entries // how many tables of the last level

	level2, last := make([]uint64, lasts), make([]uint64, pages)
	for i := range level2 {
		level2[i] = at(tablesAt+guestmem.GPA(3+i)*table) | descTable
	}
	for i := range last {
		last[i] = at(Page) | descPage
	}
	return []Block{
		// STE (§5.2): V, Config = stage 1, S1ContextPtr.
		block(base+StreamTable+guestmem.GPA(StreamID)*smmuv3.STESize, at(cdAt)|0b101<<1|1),
		// CD (§5.4): ASID 1, A, R, AA64, IPS = 48 bits, V, EPD1, 48 bits of 4 KiB pages by TTB0.
		block(base+cdAt, 0x0001_6205_c000_0010, at(tablesAt)),
		block(base+tablesAt, at(tablesAt+table)|descTable),
		block(base+tablesAt+table, at(tablesAt+2*table)|descTable),
		block(base+tablesAt+2*table, level2...),
		block(base+tablesAt+3*table, last...),
	}
}

// Descriptors: a table; a page that is unprivileged, not global, and has been accessed.
const (
	descTable = 0b11
	descPage  = 1<<11 | 1<<10 | 1<<6 | 0b11
)

func block(at guestmem.GPA, words ...uint64) Block {
	b := Block{At: at}
	for _, w := range words {
		b.Data = binary.LittleEndian.AppendUint64(b.Data, w)
	}
	return b
}

// Fill is a queue full of the mix.
func (m Mix) Fill() []byte {
	queue := make([]byte, 0, smmuv3.CommandSize<<Log2Size)
	for len(queue) < cap(queue) {
		for _, c := range m.Commands {
			queue = binary.LittleEndian.AppendUint64(queue, c[0])
			queue = binary.LittleEndian.AppendUint64(queue, c[1])
		}
	}
	return queue
}
