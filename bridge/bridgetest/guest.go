package bridgetest

import (
	"errors"

	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmutest"
)

// guest is a vsmmutest.RAM that fails the test on an error. It does not use the host.
type guest struct {
	*rig
	ram     *vsmmutest.RAM
	granule smmuv3.Granule
	asid    smmuv3.ASID // the last ASID in use
}

// inputBits is the size of the addresses that the suite's tables translate.
const inputBits = 39

// layout is the shape of the guest's tables. Every mapping is a page.
func (g *guest) layout() vsmmutest.Layout {
	return vsmmutest.Layout{Granule: g.granule, InputBits: inputBits, PagesOnly: true}
}

func (g *guest) alloc(size uint64) guestmem.GPA {
	g.Helper()
	at, err := g.ram.Alloc(size)
	require.NoError(g, err)
	return at
}

// page allocates a page of the granule.
func (g *guest) page() guestmem.GPA { return g.alloc(1 << g.granule) }

func (r *rig) store(at guestmem.GPA, words ...uint64) {
	r.Helper()
	require.NoError(r, r.newRAM().Store(at, words...))
}

func (r *rig) load(at guestmem.GPA) uint64 {
	r.Helper()
	w, err := r.newRAM().Load(at)
	require.NoError(r, err)
	return w
}

// space is an address space of the guest.
type space struct {
	g *guest
	*vsmmutest.Stage1
	cdAt guestmem.GPA // where stage wrote the CD
}

func (g *guest) space() *space {
	g.Helper()
	g.asid++
	s, err := vsmmutest.NewStage1(g.ram, g.ids, g.layout(), g.asid)
	require.NoError(g, err)
	return &space{g: g, Stage1: s}
}

// leaf returns the address of the level 3 descriptor for an IOVA.
func (s *space) leaf(iova uint64) guestmem.GPA { return s.g.leaf(&s.Tables, iova) }

func (g *guest) leaf(t *vsmmutest.Tables, addr uint64) guestmem.GPA {
	g.Helper()
	at, err := t.Entry(addr, lastLevel)
	require.NoError(g, err)
	return at
}

const lastLevel = 3

// set maps a page, whether the IOVA is mapped or not. Neither set nor unset invalidates anything.
func (s *space) set(iova uint64, pa guestmem.GPA, a smmuv3.LeafAttrs) {
	s.g.Helper()
	s.g.store(s.leaf(iova), uint64(smmuv3.LeafDesc(uint64(pa), lastLevel, a)))
}

func (s *space) unset(iova uint64) { s.g.store(s.leaf(iova), 0) }

// stage writes the CD and returns the stage of a stream with this CD alone.
func (s *space) stage() bridge.GuestStage { return s.stageWith(s.CD()) }

// stageWith writes the given CD and returns the stage of a stream with it.
func (s *space) stageWith(cd smmuv3.CD) bridge.GuestStage {
	s.g.Helper()
	s.cdAt = s.g.alloc(smmuv3.CDSize)
	s.g.store(s.cdAt, cd[:]...)
	return stageOf(s.cdAt)
}

// stageATS returns the stage of an endpoint that may use ATS.
func (s *space) stageATS() bridge.GuestStage {
	g := s.stage()
	g.EATS = smmuv3.EATSFull
	return g
}

// Attributes of accesses to CDs, as Linux's driver sets them: S1CIR, S1COR and S1CSH (§5.2).
const (
	writeBack      = 0b01
	innerShareable = 0b11
)

func stageOf(cd guestmem.GPA) bridge.GuestStage {
	return bridge.GuestStage{
		Disposition: bridge.Translate, S1ContextPtr: cd,
		S1CIR: writeBack, S1COR: writeBack, S1CSH: innerShareable,
	}
}

// stage2 is the guest's own stage 2.
type stage2 struct {
	g *guest
	*vsmmutest.Stage2
}

func (g *guest) stage2(vmid smmuv3.VMID) *stage2 {
	g.Helper()
	s, err := vsmmutest.NewStage2(g.ram, g.ids, g.layout(), vmid)
	if errors.Is(err, vsmmutest.ErrUnsupported) {
		g.Skip(SkipNoStage2)
	}
	require.NoError(g, err)
	return &stage2{g, s}
}

func (t *stage2) leaf(ipa uint64) guestmem.GPA { return t.g.leaf(&t.Tables, ipa) }

// set maps a page, whether the IPA is mapped or not. Neither set nor unset invalidates anything.
func (t *stage2) set(ipa uint64, pa guestmem.GPA, a vsmmutest.Access) {
	t.g.Helper()
	t.g.store(t.leaf(ipa), uint64(vsmmutest.Stage2Leaf(uint64(pa), lastLevel, a)))
}

func (t *stage2) unset(ipa uint64) { t.g.store(t.leaf(ipa), 0) }

// identity maps each page that the guest has allocated so far to its own address.
func (t *stage2) identity() {
	used := t.g.ram.Allocated()
	for at := uint64(0); at < used.Len; at += t.PageSize() {
		t.set(uint64(used.GPA)+at, used.GPA+guestmem.GPA(at), vsmmutest.ReadWrite)
	}
}

// alone returns the stage of a stream that stage 2 alone translates.
func (t *stage2) alone() bridge.GuestStage {
	return bridge.GuestStage{Disposition: bridge.TranslateS2, S2VMID: t.VMID, S2: t.Fields()}
}

// nested returns a stage with its stage 1 nested on this stage 2.
func (t *stage2) nested(g bridge.GuestStage) bridge.GuestStage {
	g.Disposition, g.S2VMID, g.S2 = bridge.TranslateNested, t.VMID, t.Fields()
	return g
}
