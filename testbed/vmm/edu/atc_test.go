package edu

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/edu/regs"
	"github.com/go-vsmmu/vsmmuv3/vsmmutest"
)

// Attributes, bits of the register 0x1010.
const (
	hasPASID   = 1 << 0
	privileged = 1 << 1
	byATS      = 1 << 3
	askForPage = 1 << 4
	force      = 1 << 5
)

func pasid(p uint64) uint64 { return hasPASID | p<<32 }

// newATSRig returns a function whose ATS, PRI and PASIDs are enabled by the guest, in its
// configuration space and in its STE.
func newATSRig(t testing.TB) *rig {
	t.Helper()
	return newATSRigWith(t, Config{Features: all})
}

func newATSRigWith(t testing.TB, cfg Config) *rig {
	t.Helper()
	r := newRigWith(t, cfg)
	r.enableAll()
	r.mapPage(dataAt)
	e := r.STE(sid)
	e.SetEATS(smmuv3.EATSFull)
	require.NoError(t, r.SetSTE(sid, e))
	return r
}

// enableAll enables PASIDs, ATS and PRI with all 32 requests.
func (r *rig) enableAll() {
	r.setConfig(0x106, 2, 7)
	r.setConfig(0x116, 2, 0x8000)
	r.setConfig(0x12c, 4, 32)
	r.setConfig(0x124, 2, 1)
}

func TestDMAByATSKeepsTheTranslation(t *testing.T) {
	r := newATSRig(t)
	r.store(0x1010, byATS)
	r.setWord(dataAt, 0x0807_0605_0403_0201)
	require.Equal(t, regs.NewOutcome(regs.OK, 8), r.dma(false, iova, 8))
	require.Equal(t, regs.NewOutcome(regs.OK, 8), r.dma(true, iova+8, 8))
	assert.Equal(t, pattern, r.word(dataAt+8))
	assert.EqualValues(t, 1, r.load(0x1080), "one translation")

	// A guest that does not invalidate keeps reaching the old page.
	s := r.Stage1(sid)
	leaf, err := s.Entry(iova, 3)
	require.NoError(t, err)
	old, err := r.Load(leaf)
	require.NoError(t, err)
	require.NoError(t, r.Store(leaf, old+4096))
	require.Equal(t, regs.OK, r.dma(true, iova+0x10, 8).Code())
	assert.Equal(t, pattern, r.word(dataAt+0x10), "the translation is stale")
}

// Unmap invalidates, and waits for the ATC. The log has the range.
func TestInvalidationDropsTranslations(t *testing.T) {
	r := newATSRig(t)
	require.NoError(t, r.MapStage1(sid, iova+4096, dataAt+4096, 4096))
	r.store(0x1010, byATS)
	require.Equal(t, regs.OK, r.dma(true, iova, 8).Code())
	require.Equal(t, regs.OK, r.dma(true, iova+4096, 8).Code())
	require.EqualValues(t, 2, r.load(0x1080))
	before := r.load(0x1088)

	require.NoError(t, r.Unmap(sid, iova, 4096))
	assert.EqualValues(t, 1, r.load(0x1080), "only one page was unmapped")
	assert.Equal(t, before+1, r.load(0x1088))
	for r.load(0x10a0)&(1<<63) != 0 && r.load(0x1090) != iova {
		r.store(0x10a0, 0) // earlier ones, of the STE
	}
	assert.EqualValues(t, iova, r.load(0x1090))
	assert.EqualValues(t, iova+0xfff, r.load(0x1098))
	assert.EqualValues(t, uint64(1<<63), r.load(0x10a0), "without a PASID")
	r.store(0x10a0, 0)
	assert.Zero(t, r.load(0x10a0))
	assert.Equal(t, regs.NewOutcome(regs.NotGranted, 0), r.dma(true, iova, 8))
}

func TestTranslationsOfPASIDsAreSeparate(t *testing.T) {
	var c atc
	page := soft.Translation{IOVA: iova, Len: 4096, Addr: dataAt, Read: true, Write: true}
	one, two := tagOf(regs.Attrs(0).WithPASID(1)), tagOf(regs.Attrs(0).WithPASID(2))
	plain, kernel := tagOf(0), tagOf(regs.Attrs(0).WithPASID(1)|regs.Privileged)
	fill := func() {
		c.clear()
		for _, g := range []tag{one, two, plain, kernel} {
			c.add(c.now(), g, page)
		}
	}
	held := func(g tag) bool {
		hit, _ := c.use(g, iova+8, true, func(addr guestmem.GPA) error {
			assert.EqualValues(t, dataAt+8, addr)
			return nil
		})
		return hit
	}
	for _, tt := range []struct {
		name                    string
		r                       soft.ATCRange
		one, two, plain, kernel bool
	}{
		{"PASID 1", soft.ATCRange{First: iova, Last: iova + 0xfff, HasSubstream: true, Substream: 1}, false, true, true, false},
		{"all PASIDs", soft.ATCRange{First: iova, Last: iova + 0xfff, HasSubstream: true, Global: true}, false, false, true, false},
		{"everything", soft.ATCRange{First: 0, Last: ^uint64(0)}, false, false, false, false},
		{"another page", soft.ATCRange{First: iova + 0x1000, Last: iova + 0x1fff}, true, true, true, true},
	} {
		fill()
		c.invalidate(tt.r)
		assert.Equal(t, []bool{tt.one, tt.two, tt.plain, tt.kernel}, []bool{held(one), held(two), held(plain), held(kernel)}, tt.name)
	}
	fill()
	assert.False(t, held(tagOf(regs.Attrs(0).WithPASID(3))))
}

// A translation that was requested before an invalidation and arrives after it is not kept.
func TestTranslationThatAnInvalidationOvertakesIsNotKept(t *testing.T) {
	var c atc
	page := soft.Translation{IOVA: iova, Len: 4096, Read: true}
	requested := c.now()
	c.invalidate(soft.ATCRange{First: 0, Last: 1})
	c.add(requested, tag{}, page)
	assert.Zero(t, c.len())
	c.add(c.now(), tag{}, page)
	assert.Equal(t, 1, c.len())
}

// A translation grants what the response grants: a read-only one is requested again for a write.
func TestATCObeysPermissions(t *testing.T) {
	access := func(guestmem.GPA) error { return nil }
	for _, tt := range []struct {
		name        string
		t           soft.Translation
		g           tag
		read, write bool
	}{
		{"read and write", soft.Translation{Len: 4096, Read: true, Write: true}, tag{}, true, true},
		{"read", soft.Translation{Len: 4096, Read: true}, tag{}, true, false},
		{"write", soft.Translation{Len: 4096, Write: true}, tag{}, false, true},
		{"fetch without execute", soft.Translation{Len: 4096, Read: true, Write: true}, tag{execute: true}, false, true},
		{"fetch", soft.Translation{Len: 4096, Read: true, Execute: true}, tag{execute: true}, true, false},
	} {
		var c atc
		c.add(0, tt.g, tt.t)
		read, _ := c.use(tt.g, 8, false, access)
		write, _ := c.use(tt.g, 8, true, access)
		assert.Equal(t, tt.read, read, tt.name)
		assert.Equal(t, tt.write, write, tt.name)
	}
}

func TestATCIsBounded(t *testing.T) {
	var c atc
	for page := range uint64(1000) {
		c.add(0, tag{}, soft.Translation{IOVA: page << 12, Len: 4096, Read: true})
	}
	assert.Equal(t, 64, c.len())
	hit, _ := c.use(tag{}, 999<<12, false, func(guestmem.GPA) error { return nil })
	assert.True(t, hit, "the newest")
	c.add(0, tag{}, soft.Translation{IOVA: 0, Len: 1 << 30, Read: true})
	assert.Equal(t, 1, c.len(), "a block replaces its pages")
}

func TestATSFollowsTheGuestsConfiguration(t *testing.T) {
	r := newATSRig(t)
	r.store(0x1010, byATS)
	require.Equal(t, regs.OK, r.dma(true, iova, 8).Code())
	require.EqualValues(t, 1, r.load(0x1080))

	r.setConfig(0x116, 2, 0)
	assert.Zero(t, r.load(0x1080), "an ATC is empty while ATS is disabled")
	assert.Equal(t, regs.NotEnabled, r.dma(true, iova, 8).Code())
	assert.Equal(t, regs.NotEnabled, r.run(1, iova).Code(), "translate")
	r.store(0x1010, byATS|force)
	assert.Equal(t, regs.OK, r.dma(true, iova, 8).Code(), "a broken device")
	r.store(0x1018, 6)
	r.end()
	assert.Zero(t, r.load(0x1080), "cleared")

	e := r.STE(sid)
	e.SetEATS(smmuv3.EATSNone)
	require.NoError(t, r.SetSTE(sid, e))
	assert.Equal(t, regs.Unsupported, r.dma(true, iova, 8).Code(), "the STE forbids ATS")
	event, err := r.WaitEvent()
	require.NoError(t, err)
	assert.Equal(t, smmuv3.FBadATSTReq, event.Type())
}

func TestTranslateCommand(t *testing.T) {
	r := newATSRig(t)
	require.Equal(t, regs.OK, r.run(1|1<<8, iova+0x123).Code())
	assert.EqualValues(t, dataAt|3, r.load(0x1040), "readable and writable")
	assert.EqualValues(t, 4096, r.load(0x1048))
	assert.Zero(t, r.load(0x1080), "not kept")

	require.Equal(t, regs.OK, r.run(1, iova+0x1000).Code())
	assert.Zero(t, r.load(0x1040), "nothing granted")

	r.fill()
	r.store(0x80, 0x4_0000)
	r.store(0x90, 8)
	assert.Equal(t, regs.NewOutcome(regs.OK, 8), r.run(3, dataAt+0x40), "a translated write")
	assert.Equal(t, pattern, r.word(dataAt+0x40))
	r.setWord(dataAt+0x48, 0x55)
	r.store(0x88, 0x4_0ff8)
	assert.Equal(t, regs.NewOutcome(regs.OK, 8), r.run(2, dataAt+0x48), "a translated read")
	assert.EqualValues(t, 0x55, r.f.buffer[0xff8])
	r.store(0x88, 0x4_0ff9)
	assert.Equal(t, regs.NewOutcome(regs.Invalid, 0), r.run(2, dataAt), "past the end of the buffer")
}

func TestPASIDsFollowTheGuestsConfiguration(t *testing.T) {
	r := newRig(t, all)
	table, err := vsmmutest.NewCDTable(r.RAM, smmuv3.S1FmtLinear, 4)
	require.NoError(t, err)
	one, err := r.NewStage1()
	require.NoError(t, err)
	require.NoError(t, one.Map(iova, dataAt, 4096, smmuv3.LeafAttrs{}))
	require.NoError(t, r.SetSTE(sid, table.STE()))
	require.NoError(t, r.SetCD(sid, table, 7, one.CD()))
	r.fill()

	r.store(0x1010, pasid(7))
	assert.Equal(t, regs.NotEnabled, r.dma(true, iova, 8).Code())
	r.setConfig(0x106, 2, 1)
	assert.Equal(t, regs.OK, r.dma(true, iova, 8).Code())
	assert.Equal(t, pattern, r.word(dataAt))
	r.store(0x1010, pasid(7)|privileged)
	assert.Equal(t, regs.NotEnabled, r.dma(true, iova, 8).Code(), "privileged mode is another enable")
	r.setConfig(0x106, 2, 5)
	assert.Equal(t, regs.OK, r.dma(true, iova, 8).Code())

	for p, want := range map[uint64]smmuv3.EventType{8: smmuv3.CBadCD, 16: smmuv3.CBadSubstreamID, 0xf_ffff: smmuv3.CBadSubstreamID} {
		r.store(0x1010, pasid(p))
		assert.Equal(t, regs.Aborted, r.dma(true, iova, 8).Code())
		e, err := r.WaitEvent()
		require.NoError(t, err)
		assert.Equal(t, want, e.Type())
		assert.EqualValues(t, p, e.SubstreamID())
	}
}

// The host waits a second for an invalidation (soft.Config.ATCTimeout), and isolates the device
// from ATS until its next reset.
func TestATCThatHangsIsIsolatedUntilAReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newATSRig(t)
		r.store(0x1010, byATS)
		require.Equal(t, regs.OK, r.dma(true, iova, 8).Code())
		r.store(0x1030, 1)
		assert.EqualValues(t, 1, r.load(0x1030))
		start := time.Now()
		assert.ErrorContains(t, r.Unmap(sid, iova, 4096), "CERROR_ATC_INV_SYNC")
		assert.Equal(t, time.Second, time.Since(start).Round(100*time.Millisecond))
		assert.Equal(t, regs.Isolated, r.dma(true, iova, 8).Code())

		r.store(0x1030, 0)
		synctest.Wait()
		assert.Zero(t, r.load(0x1080), "the invalidation completes late")
		assert.Equal(t, regs.Isolated, r.dma(true, iova, 8).Code())

		r.setConfig(0x58, 2, 0x8000)
		r.place()
		r.enableAll()
		r.store(0x1010, byATS)
		require.NoError(t, r.SkipCommand())
		r.mapPage(dataAt)
		assert.Equal(t, regs.OK, r.dma(true, iova, 8).Code())
	})
}

// A reset ends an invalidation that hangs.
func TestResetEndsAHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newATSRig(t)
		r.store(0x1010, byATS)
		require.Equal(t, regs.OK, r.dma(true, iova, 8).Code())
		r.store(0x1030, 1)
		unmapped := make(chan error)
		go func() { unmapped <- r.Unmap(sid, iova, 4096) }()
		time.Sleep(100 * time.Millisecond)
		r.host.Reset()
		assert.NoError(t, <-unmapped)
	})
}
