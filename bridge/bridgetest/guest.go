package bridgetest

import (
	"encoding/binary"

	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// guest writes the structures that a guest's driver would: it has nothing of
// the host's.
type guest struct {
	*rig
	granule smmuv3.Granule
	next    guestmem.GPA // the first address not given out
	asid    smmuv3.ASID  // the last one given out
}

// inputBits is the size of the addresses that the suite's tables translate.
const inputBits = 39

// alloc gives out zeroed memory, aligned to its size if that is a power of two.
func (g *guest) alloc(size int) guestmem.GPA {
	g.Helper()
	align := guestmem.GPA(1)
	for int(align) < size {
		align <<= 1
	}
	at := (g.next + align - 1) &^ (align - 1)
	g.next = at + guestmem.GPA(size)
	require.LessOrEqual(g, uint64(g.next), uint64(g.RAM)+RAMSize, "the suite runs out of memory")
	require.NoError(g, g.Memory.WriteAt(make([]byte, size), at))
	return at
}

func (r *rig) store(at guestmem.GPA, words ...uint64) {
	r.Helper()
	for i, w := range words {
		var p [8]byte
		binary.LittleEndian.PutUint64(p[:], w)
		require.NoError(r, r.Memory.WriteAt(p[:], at+guestmem.GPA(8*i)))
	}
}

func (r *rig) load(at guestmem.GPA) uint64 {
	r.Helper()
	var p [8]byte
	require.NoError(r, r.Memory.ReadAt(p[:], at))
	return binary.LittleEndian.Uint64(p[:])
}

// page gives out a page of the granule.
func (g *guest) page() guestmem.GPA { return g.alloc(1 << g.granule) }

// space is an address space of the guest: tables, with an ASID of their own.
type space struct {
	g    *guest
	root guestmem.GPA
	asid smmuv3.ASID
	cdAt guestmem.GPA // where stage has put the CD
}

func (g *guest) space() *space {
	g.asid++
	return &space{g: g, root: g.page(), asid: g.asid}
}

// leaf is where the last-level descriptor of an address lies; the tables on the
// way come into being.
func (s *space) leaf(iova uint64) guestmem.GPA {
	table, top := s.root, uint(inputBits)
	for level := s.g.granule.StartLevel(inputBits); ; level++ {
		shift := s.g.granule.LevelShift(level)
		at := table + guestmem.GPA(iova&(1<<top-1)>>shift*8)
		if level == 3 {
			return at
		}
		d := smmuv3.Desc(s.g.load(at))
		if d == 0 {
			d = smmuv3.TableDesc(uint64(s.g.page()))
			s.g.store(at, uint64(d))
		}
		table, top = guestmem.GPA(d.Addr(smmuv3.Format{Granule: s.g.granule}, level)), shift
	}
}

// set has a page translated, and unset no longer; neither withdraws anything.
func (s *space) set(iova uint64, pa guestmem.GPA, a smmuv3.LeafAttrs) {
	s.g.store(s.leaf(iova), uint64(smmuv3.LeafDesc(uint64(pa), 3, a)))
}

func (s *space) unset(iova uint64) { s.g.store(s.leaf(iova), 0) }

// cd is the CD of the space: coherent tables, TTB1 unused, faults recorded and
// aborted.
func (s *space) cd() (cd smmuv3.CD) {
	cd.SetV(true)
	cd.SetAA64(true)
	cd.SetA(true)
	cd.SetR(true)
	cd.SetASID(s.asid)
	cd.SetIPS(uint8(min(s.g.ids.Get(smmuv3.OAS), 5)))
	cd.SetTxSZ(0, 64-inputBits)
	cd.SetTGx(0, s.g.granule)
	cd.SetIRx(0, writeBack)
	cd.SetORx(0, writeBack)
	cd.SetSHx(0, innerShareable)
	cd.SetTTBx(0, uint64(s.root))
	cd.SetEPDx(1, true)
	cd.SetMAIR(0xff) // attribute 0: normal, write-back
	return cd
}

const (
	writeBack      = 0b01
	innerShareable = 0b11
)

// stage writes the CD, and is the stage of a stream with this one.
func (s *space) stage() bridge.GuestStage {
	s.cdAt = s.g.alloc(smmuv3.CDSize)
	cd := s.cd()
	s.g.store(s.cdAt, cd[:]...)
	return stageOf(s.cdAt)
}

func stageOf(cd guestmem.GPA) bridge.GuestStage {
	return bridge.GuestStage{
		Disposition: bridge.Translate, S1ContextPtr: cd,
		S1CIR: writeBack, S1COR: writeBack, S1CSH: innerShareable,
	}
}
