package soft_test

import (
	"cmp"
	"encoding/binary"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// withATS returns ID registers of an SMMU with ATS and PRI.
func withATS() smmuv3.IDRegs {
	ids := stalling(1)
	ids.Set(smmuv3.ATS, 1)
	ids.Set(smmuv3.PRI, 1)
	return ids
}

// atsCD is oneCD with EATS = 0b01.
var atsCD = func() bridge.GuestStage {
	g := oneCD
	g.EATS = smmuv3.EATSFull
	return g
}()

// newATSRig returns a rig whose endpoint has ATS, and caches no translation.
func newATSRig(t *testing.T, cfg soft.Config) *rig {
	cfg.IDs = withATS()
	cfg.ATCTimeout = cmp.Or(cfg.ATCTimeout, time.Hour) // on a busy machine, a second may be too short
	r := newRig(t, cfg)
	r.ep.EnableATS(soft.ATS{})
	return r
}

// Both tables of §3.9.1.2, and §5.5: A and S have no meaning. Where a transaction would fault, a
// translation grants nothing. Of the other errors, only F_BAD_ATS_TREQ records an event.
func TestTranslationRequests_3_9_1_2(t *testing.T) {
	type result = soft.Translation
	ur, ca := soft.ErrUnsupportedRequest, soft.ErrCompleterAbort
	nothing := result{IOVA: 0x1000, Len: 0x1000}
	stage := func(edit func(*bridge.GuestStage)) bridge.GuestStage { g := atsCD; edit(&g); return g }
	table := func(dss smmuv3.S1DSS) bridge.GuestStage {
		return stage(func(g *bridge.GuestStage) { g.S1CDMax, g.S1DSS = 4, dss })
	}
	badTReq := func(substream uint64) []smmuv3.Event { return []smmuv3.Event{{0x42_00000005 | substream, 0, 0x1000}} }
	five := soft.Attrs{Substream: 5, HasSubstream: true}
	for _, c := range []struct {
		name  string
		stage bridge.GuestStage
		attrs soft.Attrs
		cd    uint64 // dw0
		leaf  uint64 // of IOVA 0x1000
		want  result
		err   error
		event []smmuv3.Event
	}{
		{"success", atsCD, soft.Attrs{}, cd4K, 0x5000_0000 | pageRW, result{0x1000, 0x1000, 0x5000_0000, true, true, false}, nil, nil},

		{"SMMUEN is 0, bypass", bridge.GuestStage{Disposition: bridge.Bypass, Disabled: true}, soft.Attrs{}, 0, 0, result{}, ur, badTReq(0)},
		{"SMMUEN is 0, abort", bridge.GuestStage{Disabled: true}, soft.Attrs{}, 0, 0, result{}, ur, badTReq(0)},
		{"Config is 000", bridge.GuestStage{}, soft.Attrs{}, 0, 0, result{}, ur, nil},
		{"Config is 100", bridge.GuestStage{Disposition: bridge.Bypass}, soft.Attrs{}, 0, 0, result{}, ur, badTReq(0)},
		{"EATS is 00", oneCD, soft.Attrs{}, cd4K, 0x5000_0000 | pageRW, result{}, ur, badTReq(0)},
		{"EATS is 00, with a PASID", oneCD, five, cd4K, 0x5000_0000 | pageRW, result{}, ur, badTReq(5<<12 | 1<<11)},

		{"C_BAD_STREAMID", bridge.GuestStage{Cause: smmuv3.CBadStreamID}, soft.Attrs{}, 0, 0, result{}, ca, nil},
		{"C_BAD_STE", bridge.GuestStage{Cause: smmuv3.CBadSTE}, soft.Attrs{}, 0, 0, result{}, ca, nil},
		{"F_STE_FETCH", bridge.GuestStage{Cause: smmuv3.FSTEFetch}, soft.Attrs{}, 0, 0, result{}, ca, nil},
		{"C_BAD_SUBSTREAMID", atsCD, five, cd4K, 0x5000_0000 | pageRW, result{}, ca, nil},
		{"F_STREAM_DISABLED", table(smmuv3.S1DSSTerminate), soft.Attrs{}, cd4K, 0x5000_0000 | pageRW, result{}, ca, nil},
		{"F_CD_FETCH", stage(func(g *bridge.GuestStage) { g.S1ContextPtr = 0x7000_0000 }), soft.Attrs{}, 0, 0, result{}, ca, nil},
		{"C_BAD_CD", atsCD, soft.Attrs{}, 0, 0, result{}, ca, nil},

		{"F_TRANSLATION", atsCD, soft.Attrs{}, cd4K, 0, nothing, nil, nil},
		{"F_TRANSLATION, A is 0 and S is 1", atsCD, soft.Attrs{}, cdStalls &^ (1 << 46), 0, nothing, nil, nil},
		{"F_ACCESS", atsCD, soft.Attrs{}, cd4K, 0x5000_0000 | pageRW&^(1<<10), nothing, nil, nil},
		{"F_ADDR_SIZE", atsCD, soft.Attrs{}, cd4K &^ (7 << 32), 0x1_0000_0000 | pageRW, nothing, nil, nil},
		{"F_PERMISSION", atsCD, soft.Attrs{}, cd4K, 0x5000_0000 | pageRW&^(1<<6), nothing, nil, nil},

		{"S1DSS bypasses stage 1 (§13.6.4)", table(smmuv3.S1DSSBypass), soft.Attrs{}, 0, 0, result{0, 1 << 48, 0, true, true, false}, nil, nil},
		{"S1DSS selects CD 0", table(smmuv3.S1DSSSubstream0), soft.Attrs{}, cd4K, 0x5000_0000 | pageRW, result{0x1000, 0x1000, 0x5000_0000, true, true, false}, nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			mem := newRAM(t)
			r := newATSRig(t, soft.Config{Memory: mem})
			r.guest = mem
			r.map4K(c.cd, 0, c.leaf)
			r.bind(c.stage)
			got, err := r.ep.With(c.attrs).Translate(0x1abc, true)
			require.ErrorIs(t, err, c.err)
			assert.Equal(t, c.want, got)
			assert.Equal(t, c.event, r.taken())
		})
	}
	t.Run("F_WALK_EABT", func(t *testing.T) {
		mem := newRAM(t)
		r := newATSRig(t, soft.Config{Memory: mem})
		r.guest = mem
		r.map4K(cd4K, 0, 0)
		mem.SetWords(0x20000, 0x7000_0003)
		r.bind(atsCD)
		_, err := r.ep.Translate(0x1abc, true)
		require.ErrorIs(t, err, ca)
		assert.Empty(t, r.taken())
	})
	t.Run("F_ADDR_SIZE of a bypassing address", func(t *testing.T) {
		r := newATSRig(t, soft.Config{})
		r.bind(table(smmuv3.S1DSSBypass))
		got, err := r.ep.Translate(1<<48, true)
		require.NoError(t, err)
		assert.Equal(t, result{IOVA: 1 << 48, Len: 0x1000}, got)
	})
	t.Run("the smallest granule of the SMMU", func(t *testing.T) {
		cfg := soft.Config{IDs: withATS(), Memory: newRAM(t)}
		cfg.IDs.Set(smmuv3.GRAN4K, 0)
		r := newRig(t, cfg)
		r.ep.EnableATS(soft.ATS{})
		r.bind(table(smmuv3.S1DSSBypass))
		got, err := r.ep.Translate(1<<48|0x5abc, true)
		require.NoError(t, err)
		assert.Equal(t, result{IOVA: 1<<48 | 0x4000, Len: 0x4000}, got)
	})
}

func TestTranslationsOfBlocks(t *testing.T) {
	r := newATSRig(t, soft.Config{})
	r.map4K(cd4K)
	r.mem.SetWords(0x30008, 0x6000_0000|blockRW)
	r.bind(atsCD)
	got, err := r.ep.Translate(0x20_0000+0x1_2345, false)
	require.NoError(t, err)
	assert.Equal(t, soft.Translation{IOVA: 0x20_0000, Len: 0x20_0000, Addr: 0x6000_0000, Read: true, Write: true}, got)
}

// §13.7, §13.7.1: the permissions granted for each request. NW is 1 in requests without w.
func TestGrantedPermissions_13_7(t *testing.T) {
	const (
		user, ro, xn = 1 << 6, 1 << 7, 1<<54 | 1<<53
		af           = 1<<11 | 1<<10 | 3
	)
	for _, c := range []struct {
		ask  string // p: privileged, x: execute, w: write
		leaf uint64
		want string
	}{
		{"w", user, "RW"},
		{"", user, "RW"}, // W is granted too, since the page is writable-dirty
		{"w", user | ro, "R"},
		{"w", 0, ""},
		{"wp", 0, "RW"},
		{"wp", ro, "R"},
		{"wp", user, "RW"},
		{"wx", user, "RWX"},
		{"x", user | ro, "RX"},
		{"x", user | ro | xn, "R"},
		{"", user | ro, "R"},        // X is not requested
		{"wxp", user | 1<<54, "RW"}, // pages that are writable unprivileged imply PXN
		{"wxp", 1 << 54, "RWX"},
		{"xp", 1 << 53, "RW"},
		{"x", 0, ""}, // execute-only gives no access
	} {
		t.Run(c.ask, func(t *testing.T) {
			r := newATSRig(t, soft.Config{})
			r.map4K(cd4K)
			r.mem.SetWords(cdAt+3*64, r.mem.Words(cdAt, 2)...)
			r.mem.SetWords(0x40008, 0x5000_0000|af|c.leaf)
			g := atsCD
			g.S1CDMax = 2
			r.bind(g)
			has := func(letter byte) bool { return strings.IndexByte(c.ask, letter) >= 0 }
			attrs := soft.Attrs{Substream: 3, HasSubstream: true, Privileged: has('p'), Instruction: has('x')}
			got, err := r.ep.With(attrs).Translate(0x1000, has('w'))
			require.NoError(t, err)
			var text string
			for _, p := range []struct {
				letter  string
				granted bool
			}{{"R", got.Read}, {"W", got.Write}, {"X", got.Execute}} {
				if p.granted {
					text += p.letter
				}
			}
			assert.Equal(t, c.want, text, "%q of %#x", c.ask, c.leaf)
			if c.want != "" {
				assert.EqualValues(t, 0x5000_0000, got.Addr)
			}
			assert.Empty(t, r.taken())
		})
	}
	// Without a PASID a request is unprivileged, and for data.
	r := newATSRig(t, soft.Config{})
	r.map4K(cd4K, 0x5000_0000|af, 0x5000_0000|af|user)
	r.bind(atsCD)
	p := r.ep.With(soft.Attrs{Privileged: true, Instruction: true})
	got, err := p.Translate(0, true)
	require.NoError(t, err)
	assert.False(t, got.Read || got.Write || got.Execute)
	got, err = p.Translate(0x1000, true)
	require.NoError(t, err)
	assert.True(t, got.Read && got.Write && !got.Execute)
}

// §3.9.1, §13.7: only a request updates flags; a translated access does not.
func TestTranslationRequestsUpdateFlags_3_9_1(t *testing.T) {
	const (
		user, ro, dbm = 1 << 6, 1 << 7, 1 << 51
		base          = 0x5000_0000 | 1<<11 | 3
		af            = 1 << 10
		hahd          = 3 << 42
	)
	for _, c := range []struct {
		name         string
		cd           uint64
		before       uint64
		write, grant bool // grant: the translation grants Write
		after        uint64
	}{
		{"writable-clean, to read", hahd, base | user | ro | dbm, false, false, base | user | ro | dbm | af},
		{"writable-clean, to write", hahd, base | user | ro | dbm, true, true, base | user | dbm | af},
		{"writable-clean without HD", 1 << 43, base | user | ro | dbm, true, false, base | user | ro | dbm | af},
		{"read-only", hahd, base | user | ro, true, false, base | user | ro | af},
		{"writable-dirty, to read", hahd, base | user | dbm, false, true, base | user | dbm | af},
		{"nothing granted", hahd, base | ro | dbm, true, false, base | ro | dbm},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newATSRig(t, soft.Config{})
			r.map4K(cd4K|c.cd, c.before)
			r.bind(atsCD)
			got, err := r.ep.Translate(0, c.write)
			require.NoError(t, err)
			assert.Equal(t, c.grant, got.Write)
			assert.Equal(t, c.after, r.mem.Words(0x40000, 1)[0])
		})
	}
}

// §3.9.1.3: a translated transaction bypasses the tables, if the stage allows it.
func TestTranslatedTransactions_3_9_1_3(t *testing.T) {
	forbidden := []smmuv3.Event{{0x42_00000007, 1 << 35, 0x5000_0000}, {0x42_00000007, 0, 0x5000_0000}}
	for _, c := range []struct {
		name   string
		stage  bridge.GuestStage
		ok     bool
		events []smmuv3.Event // of a read, and of a write
	}{
		{"EATS is 01", atsCD, true, nil},
		{"EATS is 00", oneCD, false, forbidden},
		{"Config is 100", bridge.GuestStage{Disposition: bridge.Bypass}, false, forbidden},
		{"Config is 000", bridge.GuestStage{}, false, nil},
		{"C_BAD_STE", bridge.GuestStage{Cause: smmuv3.CBadSTE}, false, nil},
		{"SMMUEN is 0, bypass", bridge.GuestStage{Disposition: bridge.Bypass, Disabled: true}, false, forbidden},
		{"SMMUEN is 0, abort", bridge.GuestStage{Disabled: true}, false, forbidden},
	} {
		for _, kind := range []string{"copied", "sliced"} {
			t.Run(c.name+", memory "+kind, func(t *testing.T) {
				var cfg soft.Config
				mem := newRAM(t)
				if kind == "sliced" {
					cfg.Memory = mem
				}
				r := newATSRig(t, cfg)
				r.guest = r.mem
				if kind == "sliced" {
					r.guest = mem
				}
				r.guest.SetWords(0x5000_0000, 0xfeed)
				r.bind(c.stage)
				var p [8]byte
				rerr := r.ep.ReadTranslated(p[:], 0x5000_0000)
				werr := r.ep.WriteTranslated([]byte{1, 2, 3, 4, 5, 6, 7, 8}, 0x5000_0000)
				word := r.guest.Words(0x5000_0000, 1)[0]
				assert.Equal(t, c.events, r.taken())
				if c.ok {
					require.NoError(t, errors.Join(rerr, werr))
					assert.Equal(t, [8]byte{0xed, 0xfe}, p)
					assert.EqualValues(t, 0x0807060504030201, word)
					return
				}
				assert.ErrorIs(t, rerr, soft.ErrFault)
				assert.ErrorIs(t, werr, soft.ErrFault)
				assert.EqualValues(t, 0xfeed, word)
			})
		}
	}
	// §3.9.1.1: no event.
	r := newATSRig(t, soft.Config{})
	r.bind(atsCD)
	assert.ErrorIs(t, r.ep.ReadTranslated(make([]byte, 8), 1<<48), soft.ErrFault)
	assert.Empty(t, r.taken())
}

func TestTranslatedTransactionsReachMemory(t *testing.T) {
	var msis []uint32
	mem := newRAM(t)
	r := newATSRig(t, soft.Config{Memory: mem, MSI: func(_ smmuv3.StreamID, _ guestmem.GPA, data uint32) error {
		msis = append(msis, data)
		return nil
	}})
	r.bind(atsCD)
	var f *soft.Fault
	require.ErrorAs(t, r.ep.ReadTranslated(make([]byte, 16), 0x500f_fff8), &f)
	assert.Equal(t, "read", f.Op)
	assert.EqualValues(t, 8, f.Done)
	assert.EqualValues(t, 0x5010_0000, f.IOVA)
	assert.ErrorIs(t, f, guestmem.ErrUnmapped)
	require.NoError(t, r.ep.WriteTranslated([]byte{0x78, 0x56, 0x34, 0x12}, 0x808_0000))
	assert.Equal(t, []uint32{0x12345678}, msis)
}

// An endpoint without ATS, a host without ATS, and an endpoint that is not attached.
func TestNoATS(t *testing.T) {
	r := newRig(t, soft.Config{})
	r.bind(oneCD)
	r.ep.EnableATS(soft.ATS{})
	all := func(ep *soft.Endpoint) []error {
		_, err := ep.Translate(0, false)
		return []error{err, ep.ReadTranslated(make([]byte, 8), 0), ep.WriteTranslated(make([]byte, 8), 0), ep.RequestPage(smmuv3.PageRequest{})}
	}
	for _, err := range all(r.ep) {
		assert.ErrorIs(t, err, errors.ErrUnsupported, "a host without ATS")
		assert.ErrorContains(t, err, "the guest's IDR0.ATS is 0: unsupported operation")
	}
	r = newRig(t, soft.Config{IDs: withATS()})
	r.bind(atsCD)
	for _, err := range all(r.ep) {
		assert.ErrorIs(t, err, errors.ErrUnsupported, "an endpoint without ATS")
		assert.ErrorContains(t, err, "the endpoint has no ATS: unsupported operation (call EnableATS)")
	}
	r.invalidate(smmuv3.Command{0x42_00000040, 52}) // §3.9.1.5: no error
	for _, err := range all(soft.NewEndpoint()) {
		assert.ErrorIs(t, err, bridge.ErrClosed)
	}
}

// §4.5.1: the range that the device must drop.
func TestATCInvalidation_4_5_1(t *testing.T) {
	for _, c := range []struct {
		cmd  smmuv3.Command
		want soft.ATCRange
	}{
		{smmuv3.Command{0x42_00000040, 0x1000}, soft.ATCRange{First: 0x1000, Last: 0x1fff}},
		{smmuv3.Command{0x42_00000040, 0x7000 | 2}, soft.ATCRange{First: 0x4000, Last: 0x7fff}},
		{smmuv3.Command{0x42_00000040, 0xffff_ffff_ffff_f000}, soft.ATCRange{First: 0xffff_ffff_ffff_f000, Last: ^uint64(0)}},
		{smmuv3.Command{0x42_00000040, 0x1000 | 51}, soft.ATCRange{First: 0, Last: 1<<63 - 1}},
		{smmuv3.Command{0x42_00000040, 0x1000 | 52}, soft.ATCRange{First: 0, Last: ^uint64(0)}},
		{smmuv3.Command{0x42_00000040 | 9<<12 | 1<<11, 0}, soft.ATCRange{Last: 0xfff, Substream: 9, HasSubstream: true}},
		{smmuv3.Command{0x42_00000040 | 9<<12 | 1<<11 | 1<<9, 52}, soft.ATCRange{Last: ^uint64(0), Substream: 9, HasSubstream: true, Global: true}},
		{smmuv3.Command{0x42_00000040 | 1<<9, 0}, soft.ATCRange{Last: 0xfff}}, // Global is IGNORED
	} {
		r := newATSRig(t, soft.Config{})
		var got []soft.ATCRange
		r.ep.EnableATS(soft.ATS{Invalidate: func(a soft.ATCRange) { got = append(got, a) }})
		// A CFGI_CD of the same stream, a TLBI of all streams, and an ATC_INV of an unknown stream.
		r.invalidate(smmuv3.Command{0x42_00000006}, c.cmd, smmuv3.Command{0x10}, smmuv3.Command{0x43_00000040, 52})
		assert.Equal(t, []soft.ATCRange{c.want}, got, "%#x", c.cmd)
	}
}

func TestATCInvalidationOfAnEndpointWithoutACache(t *testing.T) {
	r := newATSRig(t, soft.Config{})
	r.ep.EnableATS(soft.ATS{})
	r.invalidate(smmuv3.Command{0x42_00000040, 52})
}

// §4.5.1: without IDR1.SSIDSIZE, SSV, SubstreamID and Global are ignored.
func TestATCInvalidationWithoutSSIDSIZE(t *testing.T) {
	for _, c := range []struct {
		size uint32
		want soft.ATCRange
	}{
		{0, soft.ATCRange{Last: 0xfff}},
		{4, soft.ATCRange{Last: 0xfff, Substream: 9, HasSubstream: true, Global: true}},
	} {
		r := newRigShown(t, soft.Config{IDs: withATS()}, lower(withATS(), smmuv3.SSIDSIZE, c.size))
		var got []soft.ATCRange
		r.ep.EnableATS(soft.ATS{Invalidate: func(a soft.ATCRange) { got = append(got, a) }})
		r.invalidate(smmuv3.Command{0x42_00000040 | 9<<12 | 1<<11 | 1<<9, 0})
		assert.Equal(t, []soft.ATCRange{c.want}, got)
	}
}

func TestATCRangeAppliesTo(t *testing.T) {
	for _, c := range []struct {
		r                     soft.ATCRange
		without, with9, with7 bool
	}{
		{soft.ATCRange{}, true, true, true},
		{soft.ATCRange{Substream: 9, HasSubstream: true}, false, true, false},
		{soft.ATCRange{Substream: 9, HasSubstream: true, Global: true}, false, true, true},
		{soft.ATCRange{HasSubstream: true}, false, false, false},
	} {
		assert.Equal(t, [3]bool{c.without, c.with9, c.with7},
			[3]bool{c.r.AppliesTo(0, false), c.r.AppliesTo(9, true), c.r.AppliesTo(7, true)}, "%+v", c.r)
	}
}

func TestATCRangeReaches(t *testing.T) {
	r := soft.ATCRange{First: 0x4000, Last: 0x7fff}
	for _, c := range []struct {
		iova, n uint64
		want    bool
	}{
		{0x3000, 0x1000, false}, {0x2000, 0x4000, true}, {0x4000, 0x1000, true}, {0x7000, 0x1000, true},
		{0x8000, 0x1000, false}, {0, 1 << 48, true}, {0x4000, 0, false},
	} {
		assert.Equal(t, c.want, r.Reaches(soft.Translation{IOVA: c.iova, Len: c.n}), "%#x", c)
	}
	all := soft.ATCRange{Last: ^uint64(0)}
	assert.True(t, all.Reaches(soft.Translation{IOVA: 0xffff_ffff_ffff_f000, Len: 0x1000}))
}

// A translation that the device requests during its invalidation is current, even if the same batch
// invalidates the TLB.
func TestATCsAreInvalidatedAfterTheTLB(t *testing.T) {
	r := newATSRig(t, soft.Config{})
	r.map4K(cd4K, 0x5000_0000|pageRW)
	r.bind(atsCD)
	_, err := word(r.ep, 0)
	require.NoError(t, err)
	var now soft.Translation
	r.ep.EnableATS(soft.ATS{Invalidate: func(soft.ATCRange) { now, err = r.ep.Translate(0, false) }})
	r.mem.SetWords(0x40000, 0x6000_0000|pageRW)
	r.invalidate(smmuv3.Command{0x42_00000040, 52}, smmuv3.Command{0x10})
	require.NoError(t, err)
	assert.EqualValues(t, 0x6000_0000, now.Addr)
}

// §4.5.1, §4.7.3: an invalidation of the TLB waits for in-flight translation requests. An
// invalidation of the ATC waits for in-flight translated accesses.
func TestATCInvalidationWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{open: make(chan struct{})}
		fake := new(guestmem.Fake)
		r := newATSRig(t, soft.Config{Memory: gatedFake{fake, g}, ATCTimeout: time.Hour})
		r.guest = fake
		r.map4K(cd4K, 0x5000_0000|pageRW)
		r.bind(atsCD)
		var told bool
		r.ep.EnableATS(soft.ATS{Invalidate: func(soft.ATCRange) { told = true }})

		until := func(over interface{ Load() bool }) {
			for !over.Load() {
				sleep()
				synctest.Wait()
			}
		}
		g.at.Store(0x40000)
		start(func() { _, _ = r.ep.Translate(0, false) })
		invalidated := start(func() { r.invalidate(smmuv3.Command{0x42_00000040, 52}) })
		sleep()
		assert.False(t, told, "the request may use the old translation")
		g.open <- struct{}{}
		until(invalidated)
		require.True(t, told)

		// The access began before ATS.Invalidate, and after the invalidation of the TLB.
		r.ep.EnableATS(soft.ATS{Invalidate: func(soft.ATCRange) {
			g.at.Store(0x5000_0000)
			go func() { _ = r.ep.ReadTranslated(make([]byte, 8), 0x5000_0000) }()
			time.Sleep(time.Millisecond)
		}})
		invalidated = start(func() { r.invalidate(smmuv3.Command{0x42_00000040, 52}) })
		time.Sleep(time.Second)
		assert.False(t, invalidated.Load(), "an access is in flight")
		g.open <- struct{}{}
		until(invalidated)
	})
}

// §3.9.1.4: the SYNC fails, and all commands except ATC_INVs are executed. The device's
// translations are invalid until the device is reset.
func TestATCTimeout_3_9_1_4(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newATSRig(t, soft.Config{ATCTimeout: time.Minute})
		r.map4K(cd4K, 0x5000_0000|pageRW)
		r.mem.SetWords(0x6000_0000, 0xfeed)
		r.bind(atsCD)
		_, err := word(r.ep, 0)
		require.NoError(t, err)
		stuck := make(chan struct{})
		var calls atomic.Int32
		r.ep.EnableATS(soft.ATS{Invalidate: func(soft.ATCRange) { calls.Add(1); <-stuck }})

		r.mem.SetWords(0x40000, 0x6000_0000|pageRW)
		inv := smmuv3.Command{0x42_00000040, 52}
		began := time.Now()
		require.ErrorIs(t, r.host.Invalidate([]smmuv3.Command{inv, inv, {0x10}}), bridge.ErrATCTimeout)
		assert.Equal(t, time.Minute, time.Since(began), "once")
		got, err := word(r.ep, 0)
		require.NoError(t, err)
		assert.EqualValues(t, 0xfeed, got)

		_, err = r.ep.Translate(0, false)
		assert.ErrorIs(t, err, soft.ErrFault)
		assert.ErrorIs(t, r.ep.ReadTranslated(make([]byte, 8), 0x5000_0000), soft.ErrFault)
		assert.ErrorIs(t, r.ep.RequestPage(smmuv3.PageRequest{}), soft.ErrFault)
		r.invalidate(inv) // the isolated ATC has no valid translation
		assert.EqualValues(t, 1, calls.Load())
		close(stuck)

		r.ep.EnableATS(soft.ATS{})
		_, err = r.ep.Translate(0, false)
		assert.NoError(t, err)
	})
}

// Chapter 8: requests get the endpoint's StreamID, and responses find the endpoint.
func TestPageRequests_8(t *testing.T) {
	r := newATSRig(t, soft.Config{})
	r.bind(atsCD)
	var p smmuv3.PageRequest
	p.SetStreamID(7)
	p.SetAddr(0x1000)
	p.SetPRGIndex(9)
	p.SetLast(true)
	assert.ErrorIs(t, r.ep.RequestPage(p), errors.ErrUnsupported, "there is no sink")

	var got []bridge.PageResponse
	r.ep.EnableATS(soft.ATS{Respond: func(a bridge.PageResponse) { got = append(got, a) }})
	require.NoError(t, r.host.PageRequests(func(q smmuv3.PageRequest) {
		assert.Equal(t, smmuv3.PageRequest{0x4000_0000_0000_0042, 0x1009}, q)
		assert.NoError(t, r.host.Respond(bridge.PageResponse{StreamID: q.StreamID(), SubstreamID: 5, SSV: true, PRGIndex: q.PRGIndex(), Response: smmuv3.PRGInvalid}))
	}))
	require.NoError(t, r.ep.RequestPage(p))
	require.NoError(t, r.host.Respond(bridge.PageResponse{StreamID: sid, PRGIndex: 3, Response: smmuv3.PRGSuccess}))
	require.NoError(t, r.host.Respond(bridge.PageResponse{StreamID: sid + 1, PRGIndex: 3, Response: smmuv3.PRGSuccess}))
	want := []bridge.PageResponse{
		{StreamID: sid, SubstreamID: 5, SSV: true, PRGIndex: 9, Response: smmuv3.PRGInvalid},
		{StreamID: sid, PRGIndex: 3, Response: smmuv3.PRGSuccess},
	}
	assert.Equal(t, want, got)
	require.NoError(t, r.stream.Close())
	require.NoError(t, r.host.Respond(bridge.PageResponse{StreamID: sid, PRGIndex: 3, Response: smmuv3.PRGSuccess}))
	assert.Equal(t, want, got)
	assert.ErrorIs(t, r.ep.RequestPage(p), bridge.ErrClosed)

	_, err := r.host.Attach(sid, r.ep)
	require.NoError(t, err)
	require.NoError(t, r.host.Close())
	assert.ErrorIs(t, r.host.Respond(bridge.PageResponse{StreamID: sid, PRGIndex: 3, Response: smmuv3.PRGSuccess}), bridge.ErrClosed)
	assert.Equal(t, want, got)

	ids := withATS()
	ids.Set(smmuv3.PRI, 0)
	r = newRig(t, soft.Config{IDs: ids})
	r.ep.EnableATS(soft.ATS{})
	require.NoError(t, r.host.PageRequests(func(smmuv3.PageRequest) { t.Error("a host without PRI") }))
	assert.ErrorIs(t, r.ep.RequestPage(p), errors.ErrUnsupported)
	assert.ErrorContains(t, r.ep.RequestPage(p), "the guest's IDR0.PRI is 0")
}

// A device caches the translation of a page that the guest moves: page k holds k. A read returns
// nothing older than the last invalidation that completed before the read began.
func TestNoStaleTranslationInAnATC(t *testing.T) {
	const pages, moves = 64, 5000
	mem := newRAM(t)
	r := newATSRig(t, soft.Config{Memory: mem})
	r.guest = mem
	leaf := r.map4K(cd4K, 0x5000_0000|pageRW)
	for k := range uint64(pages) {
		mem.SetWords(gpa(0x5000_0000+k<<12), k)
	}
	r.bind(atsCD)

	var mu sync.RWMutex
	var kept soft.Translation
	r.ep.EnableATS(soft.ATS{Invalidate: func(a soft.ATCRange) {
		mu.Lock()
		defer mu.Unlock()
		if a.Reaches(kept) {
			kept = soft.Translation{}
		}
	}})
	read := func() (uint64, error) {
		mu.RLock()
		for !kept.Read {
			mu.RUnlock()
			mu.Lock()
			var err error
			kept, err = r.ep.Translate(0, false)
			mu.Unlock()
			if err != nil {
				return 0, err
			}
			mu.RLock()
		}
		defer mu.RUnlock()
		var p [8]byte
		err := r.ep.ReadTranslated(p[:], kept.Addr)
		return binary.LittleEndian.Uint64(p[:]), err
	}

	neverStale(t, pages, moves, read, func(k uint64) {
		mem.SetWords(leaf, 0x5000_0000+k%pages<<12|pageRW)
		r.invalidate(smmuv3.Command{0x12 | 1<<48}, smmuv3.Command{0x42_00000040, 0})
	})
}
