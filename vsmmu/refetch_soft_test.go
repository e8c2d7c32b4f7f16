package vsmmu_test

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// tables is the memory of the stream table and its second level, which the test adds and removes.
var tables = guestmem.Slot{GPA: 0x10_0000, Mem: make([]byte, 0x2000)}

// newUnfetchedRig returns a rig whose stream 3 has an STE that cannot be fetched, with or without a
// level-1 table. fetchable makes the STE readable; it allows everything.
func newUnfetchedRig(t *testing.T, twoLevel bool) (r *softRig, fetchable func()) {
	r = &softRig{TB: t, ram: new(guestmem.Slots), ep: soft.NewEndpoint()}
	require.NoError(t, r.ram.Add(guestmem.Slot{GPA: 0x20_0000, Mem: make([]byte, 14<<20)}))
	ids := soft.DefaultIDs()
	ids.Set(smmuv3.ATS, 1)
	r.words(0x40_0000, 0x0001_6205_c000_0010, 0x50_0000) // CD: T0SZ 16, EPD1, V, IPS, AA64, R, A, ASID 1
	r.words(0x50_0000, 0x51_0003)
	r.words(0x51_0000, 0x52_0003)
	r.words(0x52_0000, pte0|3)
	r.words(pte0, page|0x743) // AF, AP[1], a page
	r.ep.EnableATS(soft.ATS{})
	r.boot(ids, nil)
	if twoLevel {
		r.enable(0xc)
		r.Store(smmuv3.RegSTRTAB_BASE_CFG, 4, 1<<16|6<<6|7) // two levels, SPLIT 6
		r.enable(0xd)
	}
	return r, func() {
		require.NoError(t, r.ram.Add(guestmem.Slot{GPA: tables.GPA, Mem: make([]byte, len(tables.Mem))}))
		ste := guestmem.GPA(0x10_00c0)
		if twoLevel {
			r.words(0x10_0000, 0x10_1000|7)
			ste = 0x10_10c0
		}
		r.words(ste, 0x40_000b, 1<<28) // V, Config S1, EATS 01
	}
}

// TestFailedSTEFetchIsNotCached_3_21_3 shows that the transaction after the table has become
// readable succeeds, without a CFGI (§5.2.1). There is a case for each kind of transaction.
func TestFailedSTEFetchIsNotCached_3_21_3(t *testing.T) {
	var p [8]byte
	for _, levels := range []string{"STE", "L1STD"} {
		for name, access := range map[string]func(r *softRig) error{
			"read":       func(r *softRig) error { return r.ep.ReadAt(p[:], 0) },
			"write":      func(r *softRig) error { return r.ep.WriteAt(p[:], 0) },
			"privileged": func(r *softRig) error { return r.ep.With(soft.Attrs{Privileged: true}).ReadAt(p[:], 0) },
			"translate": func(r *softRig) error {
				_, err := r.ep.Translate(0, true)
				return err
			},
			"translated": func(r *softRig) error { return r.ep.ReadTranslated(p[:], page) },
			"map": func(r *softRig) error {
				m, err := r.ep.Map(0, 8, true, nil)
				m.Release()
				return err
			},
		} {
			t.Run(levels+"/"+name, func(t *testing.T) {
				r, fetchable := newUnfetchedRig(t, levels == "L1STD")
				for range 3 {
					require.Error(t, access(r))
				}
				fetchable()
				assert.NoError(t, access(r), "the transaction after")
				assert.NoError(t, access(r), "the one after that")
			})
		}
	}
}

// TestFailedSTEFetchIsReportedByEachTransaction_7_3_4 shows that each transaction whose STE cannot
// be fetched reports F_STE_FETCH.
func TestFailedSTEFetchIsReportedByEachTransaction_7_3_4(t *testing.T) {
	r, _ := newUnfetchedRig(t, false)
	for range 3 {
		assert.ErrorIs(t, r.ep.ReadAt(make([]byte, 8), 0), soft.ErrFault)
		assert.Equal(t, smmuv3.Event{3<<32 | 0x03, 0, 0, 0x10_00c0}, r.event())
	}
}

// TestSTEThatIsFetchedAgainDecides_3_21_3 shows that the refetched STE decides the outcome: an
// illegal STE, or one that aborts without an event.
func TestSTEThatIsFetchedAgainDecides_3_21_3(t *testing.T) {
	for name, tc := range map[string]struct {
		ste   uint64
		event smmuv3.EventType
	}{
		"V=0":          {0, smmuv3.CBadSTE},
		"Config=000":   {1, 0},
		"illegal":      {0xd, smmuv3.CBadSTE}, // stage 2, which the SMMU does not have
		"CD not there": {0x7000_000b, smmuv3.FCDFetch},
	} {
		t.Run(name, func(t *testing.T) {
			r, fetchable := newUnfetchedRig(t, false)
			fetchable()
			r.words(0x10_00c0, tc.ste)
			var f *soft.Fault
			require.ErrorAs(t, r.ep.ReadAt(make([]byte, 8), 0), &f)
			assert.Equal(t, tc.event, f.Event.Type())
		})
	}
}

// TestSTERefetchWhileAMappingIsHeld shows that a transaction whose goroutine holds a mapping that
// Bind waits for does not deadlock: the transaction waits for a bounded time only.
func TestSTERefetchWhileAMappingIsHeld(t *testing.T) {
	r, fetchable := newUnfetchedRig(t, false)
	other := soft.NewEndpoint()
	require.NoError(t, r.Attach(5, r.host, other))
	fetchable()
	r.words(0x10_0000+5*64, 0x9) // bypass
	require.NoError(t, other.ReadAt(make([]byte, 8), page))
	require.NoError(t, r.ram.Remove(tables.GPA))
	r.run(smmuv3.Command{3<<32 | 0x03, 1}, smmuv3.Command{0x46})
	m, err := other.Map(page, 8, true, nil)
	require.NoError(t, err)
	fetchable()
	began := time.Now()
	_ = r.ep.ReadAt(make([]byte, 8), 0) // it succeeds if the host has bound the stage, though Bind still waits
	assert.Less(t, time.Since(began), time.Minute)
	m.Release()
	assert.NoError(t, r.ep.ReadAt(make([]byte, 8), 0))
}

// TestSTERefetchWhileAnATCInvalidationWaits shows that no deadlock follows if an ATC invalidation
// waits for an endpoint that waits for its translation.
func TestSTERefetchWhileAnATCInvalidationWaits(t *testing.T) {
	r, fetchable := newUnfetchedRig(t, false)
	other := soft.NewEndpoint()
	require.NoError(t, r.Attach(5, r.host, other))
	var kept sync.Mutex // of a device with two functions, held from a translation request until its result is cached
	invalidates := make(chan struct{})
	other.EnableATS(soft.ATS{Invalidate: func(soft.ATCRange) {
		close(invalidates)
		kept.Lock()
		defer kept.Unlock()
	}})
	fetchable()
	r.words(0x10_0000+5*64, 0x40_000b, 1<<28)
	_, err := other.Translate(0, false)
	require.NoError(t, err)

	require.NoError(t, r.ram.Remove(tables.GPA))
	r.run(smmuv3.Command{3<<32 | 0x03, 1}, smmuv3.Command{0x46})
	fetchable()

	kept.Lock()
	consumed := make(chan struct{})
	go func() {
		defer close(consumed)
		r.run(smmuv3.Command{5<<32 | 0x40, 52}, smmuv3.Command{0x46})
	}()
	<-invalidates
	began := time.Now()
	_, _ = r.ep.Translate(0, false)
	assert.Less(t, time.Since(began), time.Minute, "no longer than a bound")
	kept.Unlock()
	<-consumed
	assert.Zero(t, r.Load(smmuv3.RegGERROR, 4))
}

// TestSTERefetchStarvesNothing shows that endpoints that keep failing to fetch an STE delay neither
// commands nor calls of the VMM.
func TestSTERefetchStarvesNothing(t *testing.T) {
	r, fetchable := newUnfetchedRig(t, false)
	stop := make(chan struct{})
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					_ = r.ep.ReadAt(make([]byte, 8), 0)
				}
			}
		})
	}
	flap := func() {
		fetchable()
		require.NoError(t, r.ram.Remove(tables.GPA))
	}
	for range 20 {
		r.run(smmuv3.Command{0x10}, smmuv3.Command{3<<32 | 0x03, 1}, smmuv3.Command{0x46})
		flap()
		_, err := r.Save()
		require.NoError(t, err)
		require.NoError(t, r.Detach(3))
		require.NoError(t, r.Attach(3, r.host, r.ep))
		flap()
	}
	require.NoError(t, r.Device.Close())
	close(stop)
	all.Wait()
	assert.ErrorIs(t, r.ep.ReadAt(make([]byte, 8), 0), bridge.ErrClosed)
}
