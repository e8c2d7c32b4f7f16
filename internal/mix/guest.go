package mix

import (
	"encoding/binary"
	"fmt"

	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmutest"
)

// Offsets of the guest's structures from the start of its memory.
const (
	StreamTable = 0x0010_0000 // linear
	Page        = 0x0030_0000 // all IOVAs map to this page
	tables      = 0x0040_0000 // the CD and the translation tables
	Queue       = 0x0100_0000
	MemorySize  = 0x0200_0000
)

// StreamTableLog2Size is log2 of the number of STEs.
const StreamTableLog2Size = 8

// Block is a piece of the guest's memory.
type Block struct {
	At   guestmem.GPA
	Data []byte
}

// Guest returns the content of a guest's memory that starts at base. Stage 1 of StreamID maps pages
// of 4 KiB from IOVA 0 on, at most 2^18 pages. The last block has the tables of the last level.
func Guest(base guestmem.GPA, pages int) []Block {
	blocks, err := guest(base, pages)
	if err != nil {
		panic(fmt.Sprintf("mix: guest with %d pages: %v", pages, err)) // the memory is a fake
	}
	return blocks
}

// ids are the features that the structures use: OAS of 48 bits and the 4 KiB granule (§6.3.6).
var ids = smmuv3.IDRegs{IDR: [6]uint32{5: 0x15}}

func guest(base guestmem.GPA, pages int) ([]Block, error) {
	const perTable = 512
	var mem guestmem.Fake
	ram := vsmmutest.NewRAM(&mem, guestmem.Range{GPA: base + tables, Len: Queue - tables})
	space, err := vsmmutest.NewStage1(ram, ids, vsmmutest.Layout{}, HeldASID)
	if err != nil {
		return nil, err
	}
	cds, err := vsmmutest.NewCDTable(ram, smmuv3.S1FmtLinear, 0)
	if err != nil {
		return nil, err
	}
	if err := cds.Set(0, space.CD()); err != nil {
		return nil, err
	}
	// The tables of the last level are allocated last, and in order.
	first, err := space.Entry(0, 3)
	if err != nil {
		return nil, err
	}
	leaf := uint64(smmuv3.LeafDesc(uint64(base+Page), 3, smmuv3.LeafAttrs{}))
	for i := range pages {
		at := first + guestmem.GPA(8*i)
		if i%perTable == 0 {
			if at, err = space.Entry(uint64(i)<<space.Granule(), 3); err != nil {
				return nil, err
			}
		}
		if err := ram.Store(at, leaf); err != nil {
			return nil, err
		}
	}
	streams, err := vsmmutest.PlaceStreamTable(ram, base+StreamTable, StreamTableLog2Size, 0)
	if err != nil {
		return nil, err
	}
	if err := streams.Set(StreamID, cds.STE()); err != nil {
		return nil, err
	}
	ste, err := streams.Entry(StreamID)
	if err != nil {
		return nil, err
	}
	upper := ram.Allocated()
	return []Block{
		block(&mem, ste, smmuv3.STESize),
		block(&mem, upper.GPA, uint64(first-upper.GPA)),
		block(&mem, first, uint64(8*pages)),
	}, nil
}

// block copies n bytes of memory.
func block(mem *guestmem.Fake, at guestmem.GPA, n uint64) Block {
	b := Block{At: at}
	for _, w := range mem.Words(at, int(n/8)) {
		b.Data = binary.LittleEndian.AppendUint64(b.Data, w)
	}
	return b
}

// Fill returns a queue full of the mix.
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
