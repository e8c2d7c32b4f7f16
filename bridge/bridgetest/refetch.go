package bridgetest

import (
	"sync/atomic"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// refetchRig has a stream whose STE could not be fetched.
type refetchRig struct {
	*rig
	bridge.STERefetcher
	stream bridge.Stream
	page   guestmem.GPA
	asked  atomic.Int32
}

// unfetched is the stage of a stream whose STE could not be fetched.
var unfetched = bridge.GuestStage{Cause: smmuv3.FSTEFetch, FetchAddr: 0x1040}

// unfetched attaches a stream whose STE could not be fetched. answer is the device's reaction when
// the host asks it to fetch the STE again.
func (r *rig) unfetched(answer func(*refetchRig) bool) *refetchRig {
	r.Helper()
	host, ok := r.Host.(bridge.STERefetcher)
	if !ok {
		r.Skip(SkipNoRefetch)
	}
	f := &refetchRig{rig: r, STERefetcher: host, page: r.guest().page()}
	host.SetSTERefetch(func(got smmuv3.StreamID) bool {
		f.asked.Add(1)
		assert.Equal(r, sid, got)
		return answer(f)
	})
	f.stream = r.attach()
	r.bind(f.stream, unfetched)
	return f
}

// reads reports whether a read of the page succeeds.
func (f *refetchRig) reads() bool {
	f.Helper()
	return f.rig.reads(f.device(0), uint64(f.page), f.page)
}

// testSTERefetch tests bridge.STERefetcher (§3.21.3).
func testSTERefetch(s *suite) {
	bound := func(f *refetchRig) bool {
		done := make(chan error)
		go func() { done <- f.stream.Bind(bypass) }() // as the device does, on another goroutine
		return assert.NoError(f, <-done)
	}
	refused := func(*refetchRig) bool { return false }

	s.run("TransactionIsRetried", func(r *rig) {
		f := r.unfetched(bound)
		assert.True(r, f.reads(), "the transaction that asks")
		assert.True(r, f.reads(), "the next one")
		assert.EqualValues(r, 1, f.asked.Load())
		assert.Zero(r, r.log.total())
	})
	s.run("FailureIsNotRemembered", func(r *rig) {
		fetchable := false
		f := r.unfetched(func(f *refetchRig) bool { return fetchable && bound(f) })
		for n := range int32(3) {
			assert.False(r, f.reads())
			assert.Equal(r, n+1, f.asked.Load(), "once for each transaction")
			e := r.event(smmuv3.FSTEFetch)
			assert.Equal(r, sid, e.StreamID())
			assert.EqualValues(r, unfetched.FetchAddr, e.FetchAddr())
		}
		fetchable = true
		assert.True(r, f.reads())
	})
	s.run("AnotherFailureEndsTheTransaction", func(r *rig) {
		f := r.unfetched(func(f *refetchRig) bool {
			other := unfetched
			other.FetchAddr += 0x40
			return assert.NoError(f, f.stream.Bind(other))
		})
		assert.False(r, f.reads())
		assert.Equal(r, sid, r.event(smmuv3.FSTEFetch).StreamID())
	})
	s.run("OtherStagesDoNotAsk", func(r *rig) {
		f := r.unfetched(refused)
		disabled := unfetched
		disabled.Disabled = true
		for _, stage := range []bridge.GuestStage{abort, {Cause: smmuv3.CBadSTE}, disabled} {
			r.bind(f.stream, stage)
			assert.False(r, f.reads(), "%v", stage)
		}
		assert.Zero(r, f.asked.Load())
	})
	s.run("NilReleases", func(r *rig) {
		f := r.unfetched(bound)
		f.SetSTERefetch(nil)
		assert.False(r, f.reads())
		assert.Zero(r, f.asked.Load())
		require.NoError(r, r.Host.Close())
		f.SetSTERefetch(nil) // has no effect on a closed host
	})
}
