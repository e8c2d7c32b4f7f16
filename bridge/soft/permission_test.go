package soft_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// accesses are the six kinds, by their letter in the tables below: read, write and execute, upper
// case if privileged.
var accesses = []struct {
	letter string
	attrs  soft.Attrs
	write  bool
}{
	{"R", soft.Attrs{Privileged: true}, false},
	{"W", soft.Attrs{Privileged: true}, true},
	{"X", soft.Attrs{Privileged: true, Instruction: true}, false},
	{"r", soft.Attrs{}, false},
	{"w", soft.Attrs{}, true},
	{"x", soft.Attrs{Instruction: true}, false},
}

// permitted tries all accesses to an address, and returns the letters of the successful accesses.
// The others must raise the event want, and no other.
func permitted(t *testing.T, r *rig, iova uint64, want smmuv3.EventType) string {
	var s strings.Builder
	for _, a := range accesses {
		p := r.ep.With(a.attrs)
		do := p.ReadAt
		if a.write {
			do = p.WriteAt
		}
		err := do(make([]byte, 4), iova)
		events := r.taken()
		if err == nil {
			s.WriteString(a.letter)
			assert.Empty(t, events, a.letter)
			continue
		}
		e := smmuv3.NewEvent(want, sid)
		e.SetPnU(a.attrs.Privileged)
		e.SetInD(a.attrs.Instruction)
		e.SetRnW(!a.write)
		e.SetClass(smmuv3.ClassIN)
		e.SetInputAddr(iova)
		assert.Equal(t, []smmuv3.Event{e}, events, a.letter)
	}
	return s.String()
}

const (
	uxn = 1 << 54
	pxn = 1 << 53
	wxn = 1 << 36 // of the CD
	pan = 1 << 40
)

// DDI 0487, Table D8-65: every row, with AP[2:1] at [7:6].
func TestDirectPermissions(t *testing.T) {
	for _, c := range []struct {
		leaf, cd uint64
		want     string
	}{
		{0b00 << 6, 0, "RWXx"},
		{0b00 << 6, wxn, "RWx"},
		{0b01 << 6, 0, "RWrwx"},
		{0b01 << 6, wxn, "RWrw"},
		{0b10 << 6, 0, "RXx"},
		{0b10 << 6, wxn, "RXx"},
		{0b11 << 6, 0, "RXrx"},
		{0b11 << 6, wxn, "RXrx"},
		{pxn | 0b00<<6, 0, "RWx"},
		{pxn | 0b01<<6, 0, "RWrwx"},
		{pxn | 0b01<<6, wxn, "RWrw"},
		{pxn | 0b10<<6, 0, "Rx"},
		{pxn | 0b11<<6, 0, "Rrx"},
		{uxn | 0b00<<6, 0, "RWX"},
		{uxn | 0b00<<6, wxn, "RW"},
		{uxn | 0b01<<6, 0, "RWrw"},
		{uxn | 0b10<<6, 0, "RX"},
		{uxn | 0b11<<6, 0, "RXr"},
		{uxn | pxn | 0b00<<6, 0, "RW"},
		{uxn | pxn | 0b01<<6, 0, "RWrw"},
		{uxn | pxn | 0b10<<6, 0, "R"},
		{uxn | pxn | 0b11<<6, 0, "Rr"},
		// D8.4.5.1: privileged data accesses cannot reach pages that are accessible unprivileged.
		{0b00 << 6, pan, "RWXx"},
		{0b01 << 6, pan, "rwx"},
		{0b10 << 6, pan, "RXx"},
		{0b11 << 6, pan, "Xrx"},
	} {
		t.Run(fmt.Sprintf("leaf %#x cd %#x", c.leaf, c.cd), func(t *testing.T) {
			r := newRig(t, soft.Config{})
			r.map4K(cd4K|c.cd, 0x5000_0c03|c.leaf)
			r.bind(oneCD)
			assert.Equal(t, c.want, permitted(t, r, 0x10, smmuv3.FPermission))
			assert.Equal(t, c.want, permitted(t, r, 0x10, smmuv3.FPermission), "from the TLB")
		})
	}
}

// DDI 0487, Table D8-64 and D8.4.1.2.3: table descriptors of any level remove permissions. With
// CD.HAD they remove none.
func TestHierarchicalPermissions(t *testing.T) {
	const (
		apTable  = 1 << 61
		uxnTable = 1 << 60
		pxnTable = 1 << 59
		had      = 1 << 1 // of the CD's dw1
	)
	for _, c := range []struct {
		table, leaf uint64
		want        string
	}{
		{0b01 * apTable, 0b01 << 6, "RWXx"},
		{0b10 * apTable, 0b01 << 6, "RXrx"},
		{0b11 * apTable, 0b01 << 6, "RXx"},
		{0b10 * apTable, 0b00 << 6, "RXx"},
		{uxnTable, 0b11 << 6, "RXr"},
		{pxnTable, 0b11 << 6, "Rrx"},
		{uxnTable | pxnTable, 0b00 << 6, "RW"},
	} {
		for level, at := range []guestmem.GPA{0x10000, 0x20000, 0x30000} {
			t.Run(fmt.Sprintf("table %#x at level %d", c.table, level), func(t *testing.T) {
				r := newRig(t, soft.Config{})
				r.map4K(cd4K, 0x5000_0c03|c.leaf)
				r.mem.SetWords(at, r.mem.Words(at, 1)[0]|c.table)
				r.bind(oneCD)
				assert.Equal(t, c.want, permitted(t, r, 0x10, smmuv3.FPermission))

				r.mem.SetWords(cdAt+8, 0x10000|had)
				r.invalidate(smmuv3.Command{0x42_00000005}, smmuv3.Command{0x10})
				without := map[uint64]string{0b00 << 6: "RWXx", 0b01 << 6: "RWrwx", 0b11 << 6: "RXrx"}[c.leaf]
				assert.Equal(t, without, permitted(t, r, 0x10, smmuv3.FPermission), "with HAD0")
			})
		}
	}
}

// §5.4, EPAN: PAN also applies to pages that unprivileged software may execute.
func TestEnhancedPAN(t *testing.T) {
	for _, c := range []struct {
		leaf uint64
		want string
	}{
		{0b00 << 6, "Xx"},
		{uxn | 0b00<<6, "RWX"},
	} {
		r := newRig(t, soft.Config{})
		r.map4K(cd4K|pan, 0x5000_0c03|c.leaf)
		r.mem.SetWords(cdAt+8, 0x10000|1<<59)
		r.bind(oneCD)
		assert.Equal(t, c.want, permitted(t, r, 0x10, smmuv3.FPermission))
	}
}

// §5.4, E0PD0: an unprivileged access gets F_TRANSLATION, whether the page is mapped or not, and
// whether the TLB holds it or not.
func TestE0PD(t *testing.T) {
	r := newRig(t, soft.Config{})
	r.map4K(cd4K, 0x5000_0cc3)
	r.mem.SetWords(cdAt+8, 0x10000|1<<2)
	r.bind(oneCD)
	for _, a := range accesses {
		for _, iova := range []uint64{0x10, 0x2010} {
			do := r.ep.With(a.attrs).ReadAt
			if a.write {
				do = r.ep.With(a.attrs).WriteAt
			}
			err := do(make([]byte, 4), iova)
			var f *soft.Fault
			switch r.taken(); {
			case !a.attrs.Privileged:
				if assert.ErrorAs(t, err, &f) {
					assert.Equal(t, smmuv3.FTranslation, f.Event.Type(), "%s at %#x", a.letter, iova)
				}
			case !a.write && iova == 0x10:
				assert.NoError(t, err, a.letter)
			}
		}
	}
}

// §3.13: hardware update of Access flag and dirty state. The words are the descriptor before and
// after.
func TestHardwareUpdate(t *testing.T) {
	const (
		ha  = 1 << 43
		hd  = 1 << 42
		dbm = 1 << 51
		ro  = 1 << 7 // AP[2]
		af  = 1 << 10
		pg  = 0x5000_0843 // no AF
	)
	for _, c := range []struct {
		name          string
		cd            uint64
		before, after uint64
		write         bool
		fails         smmuv3.EventType
	}{
		{"HA: the first access sets AF", ha, pg, pg | af, false, 0},
		{"without HA: F_ACCESS", 0, pg, pg, false, smmuv3.FAccess},
		{"AFFD: AF counts as 1", 1 << 35, pg, pg, false, 0},
		{"HD without HA has no effect", hd, pg, pg, false, smmuv3.FAccess},
		{"HA alone leaves DBM to software", ha, pg | af | ro | dbm, pg | af | ro | dbm, true, smmuv3.FPermission},
		{"HD: a write makes writable-clean dirty", ha | hd, pg | af | ro | dbm, pg | af | dbm, true, 0},
		{"HD: a write sets AF, too", ha | hd, pg | ro | dbm, pg | af | dbm, true, 0},
		{"HD: a read leaves it clean", ha | hd, pg | ro | dbm, pg | af | ro | dbm, false, 0},
		{"HD: without DBM it is read-only", ha | hd, pg | af | ro, pg | af | ro, true, smmuv3.FPermission},
		{"a permission fault updates nothing", ha | hd, pg&^(1<<6) | ro | dbm, pg&^(1<<6) | ro | dbm, true, smmuv3.FPermission},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, soft.Config{})
			at := r.map4K(cd4K|c.cd, c.before)
			r.bind(oneCD)
			do := r.ep.ReadAt
			if c.write {
				do = r.ep.WriteAt
			}
			err := do(make([]byte, 4), 0x10)
			assert.Equal(t, c.after, r.mem.Words(at, 1)[0])
			events := r.taken()
			if c.fails == 0 {
				assert.NoError(t, err)
				assert.Empty(t, events)
				return
			}
			assert.ErrorIs(t, err, soft.ErrFault)
			if assert.Len(t, events, 1) {
				assert.Equal(t, c.fails, events[0].Type())
			}
		})
	}
}

// The first write marks a clean page dirty, even if the TLB holds the page after a read.
func TestWriteAfterReadMarksThePageDirty(t *testing.T) {
	r := newRig(t, soft.Config{})
	at := r.map4K(cd4K|1<<43|1<<42, 0x5000_0843|1<<7|1<<51)
	r.bind(oneCD)
	for range 2 {
		_, err := word(r.ep, 0)
		assert.NoError(t, err)
	}
	assert.NotZero(t, r.mem.Words(at, 1)[0]&(1<<7))
	assert.NoError(t, r.ep.WriteAt(make([]byte, 1), 0))
	assert.Zero(t, r.mem.Words(at, 1)[0]&(1<<7))
}

// WXN treats writable-clean as writable (DDI 0487, D8.5.2.2).
func TestWXNTreatsCleanPagesAsWritable(t *testing.T) {
	r := newRig(t, soft.Config{})
	r.map4K(cd4K|1<<43|1<<42|wxn, 0x5000_0c43|1<<7|1<<51)
	r.bind(oneCD)
	err := r.ep.With(soft.Attrs{Instruction: true}).ReadAt(make([]byte, 4), 0)
	assert.ErrorIs(t, err, soft.ErrFault)
}

// §3.13.6: with HAFT the table descriptors of a walk get their Access flag, at bit 10, before the
// leaf does.
func TestAccessFlagsOfTables(t *testing.T) {
	const (
		ha   = 1 << 43
		haft = 1 << 3 // of the CD's dw1
		af   = 1 << 10
	)
	tables := []guestmem.GPA{0x10000, 0x20000, 0x30000}
	all := soft.DefaultIDs()
	all.Set(smmuv3.HTTU, 3)
	flags := func(r *rig) (f [4]bool) {
		for i, at := range append(tables, 0x40000) {
			f[i] = r.mem.Words(at, 1)[0]&af != 0
		}
		return f
	}
	for _, c := range []struct {
		name     string
		cd0, cd1 uint64
		httu     uint32
		leaf     uint64
		fails    bool
		want     [4]bool // levels 0 to 3
	}{
		{"HAFT", ha, haft, 3, 0x5000_0843, false, [4]bool{true, true, true, true}},
		{"without HAFT", ha, 0, 3, 0x5000_0843, false, [4]bool{false, false, false, true}},
		{"HAFT on HTTU 10: RES0", ha, haft, 2, 0x5000_0843, false, [4]bool{false, false, false, true}},
		{"a walk that faults has set the flags of tables", ha, haft, 3, 0, true, [4]bool{true, true, true, false}},
		{"no permission", ha, haft, 3, 0x5000_0803, true, [4]bool{true, true, true, false}},
	} {
		t.Run(c.name, func(t *testing.T) {
			ids := soft.DefaultIDs()
			ids.Set(smmuv3.HTTU, c.httu)
			r := newRig(t, soft.Config{IDs: ids})
			r.map4K(cd4K|c.cd0, c.leaf)
			r.mem.SetWords(cdAt+8, 0x10000|c.cd1)
			r.bind(oneCD)
			_, err := word(r.ep, 0x10)
			assert.Equal(t, c.fails, err != nil, "%v", err)
			assert.Equal(t, c.want, flags(r))
		})
	}

	t.Run("an update that aborts", func(t *testing.T) {
		r := newRig(t, soft.Config{IDs: all})
		r.map4K(cd4K|ha, 0x5000_0843)
		r.mem.SetWords(cdAt+8, 0x10000|haft)
		r.mem.FailWrites(guestmem.Range{GPA: 0x20000, Len: 8}, nil)
		r.bind(oneCD)
		_, err := word(r.ep, 0x10)
		assert.ErrorIs(t, err, soft.ErrFault)
		assert.Equal(t, []smmuv3.Event{{0x42_0000000b, 1<<35 | 1<<40, 0x10, 0x20000}}, r.taken())
		assert.Equal(t, [4]bool{true, false, false, false}, flags(r))
	})
	t.Run("a table replaced during the update is read again", func(t *testing.T) {
		mem := &replacing{Fake: new(guestmem.Fake)}
		r := newRig(t, soft.Config{Memory: mem, IDs: all})
		r.mem = mem.Fake
		r.map4K(cd4K|ha, 0x5000_0843)
		r.mem.SetWords(cdAt+8, 0x10000|haft)
		r.mem.SetWords(0x38000, 0x48003)
		r.mem.SetWords(0x48000, 0x6000_0843)
		r.mem.SetWords(0x6000_0010, 0x2e3)
		mem.at, mem.by = 0x20000, 0x38003
		r.bind(oneCD)
		got, err := word(r.ep, 0x10)
		assert.NoError(t, err)
		assert.EqualValues(t, 0x2e3, got)
		assert.EqualValues(t, 0x38003|af, r.mem.Words(0x20000, 1)[0])
	})
}

// replacing is memory in which the guest changes one descriptor before the SMMU updates it, once.
type replacing struct {
	*guestmem.Fake
	at guestmem.GPA
	by uint64
}

func (m *replacing) CompareAndSwap(at guestmem.GPA, old, new uint64) (bool, error) {
	if at == m.at {
		m.at = 0
		m.SetWords(at, m.by)
	}
	return m.Fake.CompareAndSwap(at, old, new)
}

// racing is memory in which the guest always changes a descriptor before the SMMU updates it.
type racing struct {
	*guestmem.Fake
	swaps int
}

func (m *racing) CompareAndSwap(guestmem.GPA, uint64, uint64) (bool, error) {
	m.swaps++
	return false, nil
}

func TestWalkEndsIfUpdatesNeverSucceed(t *testing.T) {
	mem := &racing{Fake: new(guestmem.Fake)}
	r := newRig(t, soft.Config{Memory: mem})
	r.mem = mem.Fake
	r.map4K(cd4K|1<<43, 0x5000_0843)
	r.bind(oneCD)
	_, err := word(r.ep, 0x10)
	assert.ErrorIs(t, err, soft.ErrFault)
	assert.Equal(t, 16, mem.swaps)
	assert.Equal(t, []smmuv3.Event{{0x42_0000000b, 1<<35 | 1<<40, 0x10, 0x40000}}, r.taken())
}

func TestUpdateThatAbortsIsF_WALK_EABT(t *testing.T) {
	r := newRig(t, soft.Config{})
	at := r.map4K(cd4K|1<<43, 0x5000_0843)
	r.mem.FailWrites(guestmem.Range{GPA: at, Len: 8}, nil)
	r.bind(oneCD)
	_, err := word(r.ep, 0x10)
	assert.ErrorIs(t, err, soft.ErrFault)
	assert.Equal(t, []smmuv3.Event{{0x42_0000000b, 1<<35 | 1<<40, 0x10, 0x40000}}, r.taken())
}

// §5.4: fields of features that the SMMU does not have are RES0 or IGNORED.
func TestFieldsOfMissingFeaturesAreIgnored(t *testing.T) {
	for _, c := range []struct {
		name          string
		feature       smmuv3.IDField
		cd0, dw1      uint64
		level2, leaf  uint64
		with, without string
		event         smmuv3.EventType // with the feature
	}{
		{"E0PD0", smmuv3.E0PD, 0, 1 << 2, 0x40003, 0x5000_0c03, "RWX", "RWXx", smmuv3.FTranslation},
		{"EPAN", smmuv3.EPAN, pan, 1 << 59, 0x40003, 0x5000_0c03, "Xx", "RWXx", smmuv3.FPermission},
		{"HAD0, APTable read-only", smmuv3.HAD, 0, 1 << 1, 0x4000_0000_0004_0003, 0x5000_0c43, "RWrwx", "RXrx", smmuv3.FPermission},
	} {
		for _, has := range []bool{true, false} {
			ids := soft.DefaultIDs()
			ids.Set(smmuv3.ArchMinor, 0)
			want, event := c.with, c.event
			if !has {
				ids.Set(c.feature, 0)
				want, event = c.without, smmuv3.FPermission
			}
			r := newRig(t, soft.Config{IDs: ids})
			r.map4K(cd4K|c.cd0, c.leaf)
			r.mem.SetWords(0x30000, c.level2)
			r.mem.SetWords(cdAt+8, 0x10000|c.dw1)
			r.bind(oneCD)
			assert.Equal(t, want, permitted(t, r, 0x10, event), "%s: %v", c.name, has)
		}
	}
}

// §5.4, HA and HD: HD without HA has no effect.
func TestHDWithoutHAHasNoEffect(t *testing.T) {
	const clean = 1<<51 | 0x5000_0cc3 // DBM, read-only
	r := newRig(t, soft.Config{})
	leaf := r.map4K(cd4K|1<<42, clean)
	r.bind(oneCD)
	var f *soft.Fault
	require.ErrorAs(t, r.ep.WriteAt([]byte{1}, 0), &f)
	assert.Equal(t, smmuv3.FPermission, f.Event.Type())
	assert.Equal(t, []uint64{clean}, r.mem.Words(leaf, 1))
}
