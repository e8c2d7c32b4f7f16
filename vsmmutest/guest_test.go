package vsmmutest_test

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/record"
	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmu"
	"github.com/go-vsmmu/vsmmuv3/vsmmu/idr"
	"github.com/go-vsmmu/vsmmuv3/vsmmutest"
)

const sid smmuv3.StreamID = 0x10

var area = guestmem.Range{GPA: ramAt, Len: 16 << 20}

type noInterrupts struct{}

func (noInterrupts) Pulse(vsmmu.Line) error               { return nil }
func (noInterrupts) SignalMSI(guestmem.GPA, uint32) error { return nil }

// rig is a guest with a device whose stream is attached to a fake host.
type rig struct {
	*vsmmutest.Guest
	dev  *vsmmu.Device
	mem  *guestmem.Fake
	host *record.Host
}

// newRig returns a rig whose ID registers are allIDs without stage 2 and with page requests.
func newRig(t testing.TB) *rig {
	ids := allIDs
	ids.Set(smmuv3.S2P, 0)
	ids.Set(smmuv3.VMID16, 0)
	ids.Set(smmuv3.ATS, 1)
	ids.Set(smmuv3.PRI, 1)
	ids.Set(smmuv3.SIDSIZE, 16)
	ids.Set(smmuv3.RIL, 0)
	r := &rig{mem: new(guestmem.Fake), host: record.New(bridge.Capabilities{IDs: ids})}
	var err error
	r.dev, err = vsmmu.New(vsmmu.Config{IDs: ids, Memory: r.mem, Interrupts: noInterrupts{}})
	require.NoError(t, err)
	t.Cleanup(func() { _ = r.dev.Close() })
	require.NoError(t, r.dev.Attach(sid, r.host, "nic"))
	r.Guest = vsmmutest.NewGuest(r.mem, area, r.dev)
	require.NoError(t, r.Enable())
	return r
}

// stages returns the stages that the device bound on the host since the last call.
func (r *rig) stages() (all []string) {
	for _, c := range r.host.Forget() {
		if c.Op == record.Bind {
			all = append(all, c.Stage.Disposition.String())
		}
	}
	return all
}

// cutBus loses the upper half of 8-byte stores to a register.
type cutBus struct {
	*vsmmu.Device
	off uint64
}

func (b cutBus) Store(off uint64, size int, v uint64) {
	if off == b.off {
		v &= 1<<32 - 1
	}
	b.Device.Store(off, size, v)
}

// TestEnableFindsAnMMIOPathThatCutsTo32Bits shows that Enable fails if the upper half of a base
// register is lost, even if all structures are below 4 GiB.
func TestEnableFindsAnMMIOPathThatCutsTo32Bits(t *testing.T) {
	for off, want := range map[uint64]string{
		0x80: "an 8-byte store of 0x4000000040000000 to 0x80 reads back as 0x40000000",
		0x90: " to 0x90 reads back as 0x4000", 0xa0: " to 0xa0 reads back as 0x4000", 0xc0: " to 0xc0 reads back as 0x4000",
	} {
		r := newRig(t)
		require.NoError(t, r.Disable())
		g := vsmmutest.NewGuest(r.mem, area, cutBus{r.dev, off})
		err := g.Enable()
		assert.ErrorContains(t, err, want)
		assert.ErrorContains(t, err, "vsmmutest: enable the SMMU: an 8-byte store")
		assert.ErrorContains(t, err, " (does the MMIO path cut to 32 bits?)")
	}
}

// registers is a register file that acknowledges at once. It consumes commands without executing
// them.
type registers struct {
	t      testing.TB
	values map[uint64]uint64
	stores []uint64 // offsets
}

func (r *registers) Load(off uint64, size int) uint64 {
	switch off {
	case 0x24: // CR0ACK
		return r.values[0x20]
	case 0x54: // IRQ_CTRLACK
		return r.values[0x50]
	case 0x9c: // CMDQ_CONS
		return r.values[0x98]
	}
	return r.values[off]
}

func (r *registers) Store(off uint64, size int, v uint64) {
	r.stores = append(r.stores, off)
	r.values[off] = v
	// §6.3.24, §6.3.26: the bases are guarded by the enables.
	switch cr0 := r.values[0x20]; off {
	case 0x80, 0x88:
		assert.Zero(r.t, cr0&1, "SMMUEN")
	case 0x90, 0x9c:
		assert.Zero(r.t, cr0&8, "CMDQEN")
	case 0xa0, 0x100a8:
		assert.Zero(r.t, cr0&4, "EVENTQEN")
	case 0xc0, 0x100c8:
		assert.Zero(r.t, cr0&2, "PRIQEN")
	}
}

// §3.11: tables and queues, then the enables one after the other.
func TestEnableFollowsADriversOrder(t *testing.T) {
	smmu := &registers{t: t, values: map[uint64]uint64{0x0: 0x0909_141a, 0x4: 0x0273_9d10, 0x14: 0x75}} // with ATS and PRI
	var mem guestmem.Fake
	g := vsmmutest.NewGuest(&mem, area, smmu)
	g.CR2 = 2
	require.NoError(t, g.Enable())
	assert.Equal(t, []uint64{
		0x20, 0x2c, 0x80, 0x88, 0x90, 0x98, 0x9c, 0x20, // CR0, CR2, STRTAB_BASE, CFG, CMDQ_BASE, PROD, CONS, CR0
		0x98,                                                 // invalidate everything
		0xa0, 0x100a8, 0x100ac, 0xc0, 0x100c8, 0x100cc, 0x20, // EVENTQ, PRIQ, CR0
		0x50, 0x20, // IRQ_CTRL, CR0
	}, smmu.stores)
	assert.Equal(t, map[uint64]uint64{
		0x0: 0x0909_141a, 0x4: 0x0273_9d10, 0x14: 0x75,
		0x20: 0x1f, 0x2c: 2, 0x50: 7,
		0x80: 0x4000_0000_4000_0000, 0x88: 0x1_0210, // two levels: 2^16 STEs, 2^8 L1STDs of 8 bytes
		0x90: 0x4000_0000_4000_1008, 0x98: 3, 0x9c: 0, // 2^8 commands of 16 bytes
		0xa0: 0x4000_0000_4000_2007, 0x100a8: 0, 0x100ac: 0, // 2^7 records of 32 bytes
		0xc0: 0x4000_0000_4000_3007, 0x100c8: 0, 0x100cc: 0, // 2^7 requests of 16 bytes
	}, smmu.values)
	// CFGI_ALL, TLBI_NSNH_ALL, SYNC (§4.3.6, §4.4.5, §4.7.3).
	assert.Equal(t, []uint64{0x04, 31, 0x30, 0, 0x46, 0}, mem.Words(0x4000_1000, 6))

	smmu.stores = nil
	require.NoError(t, g.Disable())
	assert.Equal(t, []uint64{0x20}, smmu.stores)
	assert.Zero(t, smmu.values[0x20])
}

// The words of the commands that the driver submits (Chapter 4).
func TestCommandsOfADriver(t *testing.T) {
	r := newRig(t)
	r.dev.Store(smmuv3.RegCR0, 4, 0) // disable the SMMU, to move the queue to a known address
	r.CommandQueue = vsmmutest.Queue{At: 0x4080_0000, Log2Size: 4}
	require.NoError(t, r.Enable())
	at := guestmem.GPA(0x4080_0000 + 3*16)
	check := func(want ...uint64) {
		t.Helper()
		assert.Equal(t, want, r.mem.Words(at, len(want)))
		at = 0x4080_0000 + (at-0x4080_0000+guestmem.GPA(8*len(want)))%0x100
	}
	r.stages()
	require.NoError(t, r.MapStage1(sid, 0x8000_0000, 0x4090_0000, 0x2000))
	check(0x10_0000_0003, 1, 0x46, 0) // CFGI_STE with Leaf, SYNC
	require.NoError(t, r.Unmap(sid, 0x8000_0000, 0x2000))
	check(
		0x0001_0000_0000_0012, 0x8000_0001, 0x0001_0000_0000_0012, 0x8000_1001, 0x46, 0, // TLBI_NH_VA with Leaf, SYNC
		0x10_0000_0040, 0x8000_0001, 0x46, 0, // ATC_INV of 2^1 pages, SYNC
	)
	require.NoError(t, r.Bypass(sid))
	check(0x10_0000_0003, 1, 0x46, 0)
	require.NoError(t, r.Sync())
	check(0x46, 0)
	assert.Equal(t, []string{"translate", "bypass"}, r.stages())

	var q smmuv3.PageRequest
	q.SetStreamID(sid)
	q.SetSubstream(0x12345)
	q.SetPRGIndex(0x1ab)
	require.NoError(t, r.Respond(q, smmuv3.PRGSuccess))
	check(0x10_1234_5841, 0x21ab, 0x46, 0) // CMD_PRI_RESP: SSV [11], SubstreamID [31:12], PRGIndex [72:64], Resp [77:76]
}

func TestRunSubmitsInBatchesThatFitTheQueue(t *testing.T) {
	r := newRig(t)
	cmds := make([]smmuv3.Command, 1000)
	for i := range cmds {
		cmds[i] = smmuv3.Command{0x10}
	}
	require.NoError(t, r.Run(cmds...))
	assert.EqualValues(t, (1000+1+3)%512, r.dev.Load(smmuv3.RegCMDQ_PROD, 4))
	_, err := r.Submit(cmds[:257]...)
	assert.EqualError(t, err, "vsmmutest: submit 257 commands: room for 256")
}

// §7.1: the queue stops at an ILLEGAL command, and continues when the guest acknowledges the error.
func TestCommandErrorStopsTheQueueUntilSkipped(t *testing.T) {
	r := newRig(t)
	err := r.Run(smmuv3.Command{0x10}, smmuv3.Command{0xff}, smmuv3.Command{0x10})
	var stopped *vsmmutest.CommandError
	require.ErrorAs(t, err, &stopped)
	assert.Equal(t, &vsmmutest.CommandError{Code: smmuv3.CERROR_ILL, Command: smmuv3.Command{0xff}}, stopped)
	assert.ErrorAs(t, r.Sync(), &stopped)
	assert.EqualValues(t, smmuv3.GERROR_CMDQ_ERR, r.ActiveErrors())
	require.NoError(t, r.SkipCommand())
	assert.NoError(t, r.Sync())
	assert.Zero(t, r.ActiveErrors())
}

func TestWaitTimesOut(t *testing.T) {
	r := newRig(t)
	r.Timeout = time.Millisecond
	polls := 0
	r.Poll = func() { polls++; time.Sleep(time.Millisecond) }
	_, err := r.WaitEvent()
	assert.ErrorIs(t, err, vsmmutest.ErrTimeout)
	assert.EqualError(t, err, "vsmmutest: wait for an event: timed out after 1ms")
	assert.NotZero(t, polls)
	_, err = r.WaitPageRequest()
	assert.ErrorIs(t, err, vsmmutest.ErrTimeout)
	require.NoError(t, r.SetCR0(0))
	assert.ErrorIs(t, r.Sync(), vsmmutest.ErrTimeout, "CMDQEN is 0")
}

func TestEventsComeInOrderAndOnce(t *testing.T) {
	r := newRig(t)
	_, ok, err := r.Event()
	require.NoError(t, err)
	assert.False(t, ok)
	for i := range uint64(3) {
		r.host.Emit(smmuv3.Event{0x10 | uint64(sid)<<32, 0, i << 12})
	}
	e, err := r.WaitEvent()
	require.NoError(t, err)
	assert.Equal(t, smmuv3.Event{0x10 | uint64(sid)<<32}, e)
	all, err := r.Events()
	require.NoError(t, err)
	assert.Equal(t, []smmuv3.Event{{0x10 | uint64(sid)<<32, 0, 0x1000}, {0x10 | uint64(sid)<<32, 0, 0x2000}}, all)
	assert.False(t, r.Overflowed())
}

// §7.4: the guest acknowledges OVFLG by an equal OVACKFLG.
func TestOverflowIsSeenAndAcknowledged(t *testing.T) {
	r := newRig(t)
	for range 2 {
		for i := range uint64(130) {
			r.host.Emit(smmuv3.Event{0x10 | uint64(sid)<<32, 0, i << 12})
		}
		all, err := r.Events()
		require.NoError(t, err)
		assert.Len(t, all, 128)
		assert.True(t, r.Overflowed())
		assert.False(t, r.Overflowed(), "once")
		assert.Zero(t, (r.dev.Load(smmuv3.RegEVENTQ_PROD, 4)^r.dev.Load(smmuv3.RegEVENTQ_CONS, 4))>>31)
	}
}

func TestPageRequestsAreReadAndAnswered(t *testing.T) {
	r := newRig(t)
	var q smmuv3.PageRequest
	q.SetStreamID(sid)
	q.SetAddr(0x1000)
	q.SetR(true)
	q.SetLast(true)
	q.SetPRGIndex(9)
	r.host.Request(q)
	got, err := r.WaitPageRequest()
	require.NoError(t, err)
	assert.Equal(t, q, got)
	_, ok, err := r.PageRequest()
	require.NoError(t, err)
	assert.False(t, ok)
	require.NoError(t, r.Respond(got, smmuv3.PRGSuccess))
	calls := r.host.Calls()
	want := bridge.PageResponse{StreamID: sid, PRGIndex: 9, Response: smmuv3.PRGSuccess}
	assert.Equal(t, want, calls[len(calls)-1].Response)
}

func TestErrorsNameTheMissingPart(t *testing.T) {
	g := vsmmutest.NewGuest(new(guestmem.Fake), area, nil)
	assert.EqualError(t, g.Enable(), "vsmmutest: enable the SMMU: Guest.SMMU is nil")
	g.SMMU = (*vsmmu.Device)(nil)
	assert.EqualError(t, g.Enable(), "vsmmutest: enable the SMMU: Guest.SMMU is nil")
	smmu := &registers{t: t, values: map[uint64]uint64{}}
	for _, mem := range []guestmem.Memory{nil, (*guestmem.Slots)(nil)} {
		g := vsmmutest.NewGuest(mem, area, smmu)
		assert.EqualError(t, g.Enable(), "vsmmutest: allocate memory: the guest's memory is nil")
	}
	assert.EqualError(t, g.SetStage1(sid, nil), "vsmmutest: set stage 1 of stream 0x10: the stage is nil")
	assert.EqualError(t, g.SetStage2(sid, nil), "vsmmutest: set stage 2 of stream 0x10: the stage is nil")
	assert.EqualError(t, g.SetCD(sid, nil, 0, smmuv3.CD{}), "vsmmutest: set CD 0 of stream 0x10: the CD table is nil")
	assert.EqualError(t, g.Bypass(sid), "vsmmutest: set STE of stream 0x10: the SMMU has not been enabled")
	assert.EqualError(t, g.MapStage1(sid, 0, 0, 0x1000), "vsmmutest: map for stream 0x10: the SMMU has not been enabled")
	assert.EqualError(t, g.MapStage2(sid, 0, 0, 0x1000), "vsmmutest: map for stream 0x10: the SMMU has not been enabled")
	assert.EqualError(t, g.Sync(), "vsmmutest: submit commands: there is no command queue (call Enable first)")
	assert.EqualError(t, g.Unmap(sid, 0, 0x1000),
		"vsmmutest: unmap for stream 0x10: the SMMU has not been enabled")
}

func TestEnableFailsWithoutAnSMMU(t *testing.T) {
	smmu := &registers{t: t, values: map[uint64]uint64{}}
	g := vsmmutest.NewGuest(new(guestmem.Fake), area, smmu)
	assert.EqualError(t, g.Enable(), "vsmmutest: enable the SMMU: its ID registers read as zero "+
		"(Guest.SMMU is not its register file, or the device is closed)")
}

func TestStage2NeedsS2P(t *testing.T) {
	g, _ := newSoft(t, soft.DefaultIDs(), nil)
	require.NoError(t, g.Enable())
	err := g.MapStage2(sid, 0, 0, 0x1000)
	assert.EqualError(t, err, "vsmmutest: new stage 2: not supported by the SMMU: a stage 2 (IDR0.S2P)")
	assert.ErrorIs(t, err, vsmmutest.ErrUnsupported)
}

func TestErrorsNameThePackageOnce(t *testing.T) {
	g, _ := newSoft(t, soft.DefaultIDs(), nil)
	require.NoError(t, g.Enable())
	assert.EqualError(t, g.Bypass(1<<20), "vsmmutest: STE of stream 0x100000: the table has 2^16 STEs")
	_, err := g.Words(area.GPA, -1)
	assert.EqualError(t, err, "vsmmutest: load -1 words at "+area.GPA.String()+": size out of range")
	assert.ErrorIs(t, err, guestmem.ErrSize)
	_, err = vsmmutest.NewCDTable(g.RAM, 3, 5)
	assert.EqualError(t, err, "vsmmutest: new CD table: format 3, not 0 to 2")
}

// newSoft returns a guest and an endpoint. The guest's SMMU is a device with a host in software.
func newSoft(t testing.TB, ids smmuv3.IDRegs, policy idr.Policy) (*vsmmutest.Guest, *soft.Endpoint) {
	mem := newSlots(t)
	host, err := soft.New(soft.Config{Memory: mem, IDs: ids})
	require.NoError(t, err)
	t.Cleanup(func() { _ = host.Close() })
	caps, err := host.Capabilities()
	require.NoError(t, err)
	derived, err := idr.Derive(policy, caps)
	require.NoError(t, err)
	dev, err := vsmmu.New(vsmmu.Config{IDs: derived.IDs, Memory: mem, Interrupts: noInterrupts{}})
	require.NoError(t, err)
	t.Cleanup(func() { _ = dev.Close() })
	ep := soft.NewEndpoint()
	require.NoError(t, dev.Attach(sid, host, ep))
	return vsmmutest.NewGuest(mem, area, dev), ep
}

// An SMMU translates by the tables, with each granule and at both ends of pages and blocks.
func TestTablesTranslate(t *testing.T) {
	for _, stage2 := range []bool{false, true} {
		for _, granule := range []smmuv3.Granule{smmuv3.Granule4K, smmuv3.Granule16K, smmuv3.Granule64K} {
			ids, policy := soft.DefaultIDs(), idr.Policy(nil)
			if stage2 {
				ids, policy = soft.Stage2IDs(), idr.Policy{smmuv3.S2P: 1}
			}
			if !ids.HasGranule(granule) {
				continue
			}
			g, ep := newSoft(t, ids, policy)
			g.Layout.Granule = granule
			require.NoError(t, g.Enable())
			mapAll, size := g.MapStage1, uint64(1)<<granule
			if stage2 {
				mapAll = g.MapStage2
			}
			page, err := g.Alloc(2 * size)
			require.NoError(t, err)
			const iova = 0x12_3400_0000
			require.NoError(t, mapAll(sid, iova, page, 2*size))
			for _, off := range []uint64{0, size - 8, size, 2*size - 8} {
				require.NoError(t, g.Store(page+guestmem.GPA(off), 0x0807_0605_0403_0201+off))
				var p [8]byte
				require.NoError(t, ep.ReadAt(p[:], iova+off), "granule 2^%d, stage 2 %t, offset %#x", granule, stage2, off)
				assert.Equal(t, byte(1+off), p[0])
			}
			var p [8]byte
			assert.Error(t, ep.ReadAt(p[:], iova+2*size))
			require.NoError(t, g.Unmap(sid, iova, 2*size))
			for _, off := range []uint64{0, size} {
				assert.Error(t, ep.ReadAt(p[:], iova+off), "unmapped")
			}
			require.NoError(t, mapAll(sid, iova, page, size))
			assert.NoError(t, ep.ReadAt(p[:], iova), "mapped again")
			require.NoError(t, g.Abort(sid))
			assert.Error(t, ep.ReadAt(p[:], iova))
			require.NoError(t, g.Bypass(sid))
			assert.NoError(t, ep.ReadAt(p[:], uint64(page)))
		}
	}
}

// §5.2, §5.4: each SubstreamID uses its CD, with each layout of a CD table.
func TestCDTablesTranslate(t *testing.T) {
	for _, f := range []smmuv3.S1Fmt{smmuv3.S1FmtLinear, smmuv3.S1Fmt4K, smmuv3.S1Fmt64K} {
		ids := soft.DefaultIDs()
		ids.Set(smmuv3.SSIDSIZE, 12)
		ids.Set(smmuv3.CD2L, 1)
		g, ep := newSoft(t, ids, nil)
		require.NoError(t, g.Enable())
		cds, err := vsmmutest.NewCDTable(g.RAM, f, 12)
		require.NoError(t, err)
		require.NoError(t, g.SetSTE(sid, cds.STE()))
		for _, ssid := range []smmuv3.SubstreamID{0, 1, 0xfff} {
			s, err := g.NewStage1()
			require.NoError(t, err)
			page, err := g.Alloc(0x1000)
			require.NoError(t, err)
			require.NoError(t, g.Store(page, uint64(ssid)+0x55))
			require.NoError(t, s.Map(0x1000, page, 0x1000, smmuv3.LeafAttrs{}))
			require.NoError(t, g.SetCD(sid, cds, ssid, s.CD()))
			var p [2]byte
			// CD 0 is for transactions without a SubstreamID (S1DSS = 10).
			require.NoError(t, ep.With(soft.Attrs{Substream: ssid, HasSubstream: ssid != 0}).ReadAt(p[:], 0x1000))
			assert.Equal(t, [2]byte{byte(ssid + 0x55), byte((ssid + 0x55) >> 8)}, p)
		}
		assert.Error(t, ep.With(soft.Attrs{Substream: 2, HasSubstream: true}).ReadAt(make([]byte, 1), 0x1000))
		e, err := g.WaitEvent()
		require.NoError(t, err)
		assert.Equal(t, sid, e.StreamID())
	}
}

// §3.3.1: a linear Stream table works. The other tests use two levels.
func TestLinearStreamTable(t *testing.T) {
	g, ep := newSoft(t, soft.DefaultIDs(), idr.Policy{smmuv3.STLevel: 0, smmuv3.SIDSIZE: 6})
	require.NoError(t, g.Enable())
	assert.EqualValues(t, 6, g.Streams.Config())
	require.NoError(t, g.Bypass(sid))
	assert.NoError(t, ep.ReadAt(make([]byte, 8), uint64(ramAt)))
}

// §6.3.30, §6.3.31, §6.3.32.
func TestSetMSI(t *testing.T) {
	smmu := &registers{t: t, values: map[uint64]uint64{}}
	g := vsmmutest.NewGuest(new(guestmem.Fake), area, smmu)
	for cfg0, want := range map[uint64][]uint64{
		smmuv3.RegGERROR_IRQ_CFG0: {0x68, 0x70, 0x74},
		smmuv3.RegEVENTQ_IRQ_CFG0: {0xb0, 0xb8, 0xbc},
		smmuv3.RegPRIQ_IRQ_CFG0:   {0xd0, 0xd8, 0xdc},
	} {
		smmu.stores = nil
		g.SetMSI(cfg0, 0x808_0040, 77)
		assert.Equal(t, want, smmu.stores)
		assert.EqualValues(t, 0x808_0040, smmu.values[want[0]])
		assert.EqualValues(t, 77, smmu.values[want[1]])
		assert.Zero(t, smmu.values[want[2]])
	}
}

// A stalled transaction waits until the guest has mapped its page.
func TestResume(t *testing.T) {
	ids := soft.DefaultIDs()
	ids.Set(smmuv3.StallModel, smmuv3.StallBoth)
	ids.Set(smmuv3.StallMax, 4)
	g, ep := newSoft(t, ids, idr.Policy{smmuv3.StallModel: smmuv3.StallBoth})
	ep.AllowStalls(t.Context())
	require.NoError(t, g.Enable())
	s, err := g.NewStage1()
	require.NoError(t, err)
	cds, err := vsmmutest.NewCDTable(g.RAM, smmuv3.S1FmtLinear, 0)
	require.NoError(t, err)
	cd := s.CD()
	cd.SetS(true)
	require.NoError(t, cds.Set(0, cd))
	require.NoError(t, g.SetSTE(sid, cds.STE()))

	over := make(chan error)
	read := func() { over <- ep.ReadAt(make([]byte, 8), 0x1000) }
	go read()
	e, err := g.WaitEvent()
	require.NoError(t, err)
	require.NoError(t, g.Resume(e, smmuv3.ResumeAbort))
	assert.ErrorIs(t, <-over, soft.ErrFault)
	go read()
	e, err = g.WaitEvent()
	require.NoError(t, err)
	require.NoError(t, s.Map(0x1000, ramAt, 0x1000, smmuv3.LeafAttrs{}))
	require.NoError(t, g.Resume(e, smmuv3.ResumeRetry))
	assert.NoError(t, <-over)
}

func TestSetGBPA(t *testing.T) {
	g, ep := newSoft(t, soft.DefaultIDs(), nil)
	require.NoError(t, g.Enable())
	require.NoError(t, g.Disable())
	require.NoError(t, g.SetGBPA(true))
	assert.Error(t, ep.ReadAt(make([]byte, 8), uint64(ramAt)))
	require.NoError(t, g.SetGBPA(false))
	assert.NoError(t, ep.ReadAt(make([]byte, 8), uint64(ramAt)))
}

// An error of guest memory is returned with its address.
func TestErrorsOfMemoryAreReturned(t *testing.T) {
	smmu := &registers{t: t, values: map[uint64]uint64{0x4: 0x0273_9d10, 0x14: 0x75}}
	g := vsmmutest.NewGuest(broken{}, area, smmu)
	assert.ErrorIs(t, g.Enable(), errBroken)
	g.Streams, _ = vsmmutest.PlaceStreamTable(g.RAM, ramAt, 8, 0)
	g.CommandQueue, g.EventQueue = vsmmutest.Queue{At: ramAt, Log2Size: 4}, vsmmutest.Queue{At: ramAt, Log2Size: 4}
	assert.ErrorIs(t, g.Enable(), errBroken)
	smmu.values[0x100a8] = 1 // an event
	_, _, err := g.Event()
	assert.ErrorIs(t, err, errBroken)
	smmu.values[0x100a8] = 0x1e
	_, _, err = g.Event()
	assert.EqualError(t, err, "vsmmutest: read an event: PROD 0x1e with CONS 0x0 in a queue of 2^4 entries")
}

type broken struct{}

var errBroken = errors.New("broken")

func (broken) ReadAt([]byte, guestmem.GPA) error  { return errBroken }
func (broken) WriteAt([]byte, guestmem.GPA) error { return errBroken }

// TestMoveContinuesTheGuest shows that a guest uses the memory and the SMMU of Move, and keeps its
// structures.
func TestMoveContinuesTheGuest(t *testing.T) {
	here := newRig(t)
	require.NoError(t, here.MapStage1(sid, 0x1000, ramAt+32<<20, 0x1000))
	state, err := here.dev.Save()
	require.NoError(t, err)
	there := newRig(t)
	require.NoError(t, there.dev.Reset())
	used := here.Allocated()
	there.mem.SetWords(used.GPA, here.mem.Words(used.GPA, int(used.Len/8))...)
	require.NoError(t, there.dev.Restore(state))
	before := here.mem.Words(used.GPA, int(used.Len/8))

	g := here.Guest
	g.Move(there.mem, there.dev)
	require.NoError(t, g.Unmap(sid, 0x1000, 0x1000))
	require.NoError(t, g.MapStage1(sid, 0x2000, ramAt+32<<20, 0x1000))
	assert.Equal(t, before, here.mem.Words(used.GPA, int(used.Len/8)), "the source is untouched")
	assert.Equal(t, there.mem, g.Memory())
	(*vsmmutest.Guest)(nil).Move(nil, nil)
}
