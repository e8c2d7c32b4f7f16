package vsmmu

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/record"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

const (
	priqBase = 0xc0
	priqProd = 0x100c8
	priqCons = 0x100cc
	priqAt   = 0x500000 // 2^2 records
	priqOn   = 0xf      // CR0: SMMUEN, PRIQEN, EVENTQEN, CMDQEN
)

// withPRI adds ATS, PRI and a PRI queue of up to 2^4 to the rig's SMMU.
func withPRI(c *Config) {
	c.IDs.Set(smmuv3.ATS, 1)
	c.IDs.Set(smmuv3.PRI, 1)
	c.IDs.Set(smmuv3.PRIQS, 4)
}

func withPPS(c *Config) { withPRI(c); c.IDs.Set(smmuv3.PPS, 1) }

func withoutPASID(c *Config) {
	withPRI(c)
	c.IDs.Set(smmuv3.SSIDSIZE, 0)
	c.IDs.Set(smmuv3.CD2L, 0)
}

// newPRIRig returns a rig whose stream 3 sends page requests, with a PRI queue of 4.
func newPRIRig(t testing.TB, change ...func(*Config)) *rig {
	r := newRig(t, change...)
	r.ste(3, 0xb|cdAt|4<<59, 1<<28)
	require.NoError(t, r.Attach(3, r.host, "NVMe"))
	r.w64(priqBase, priqAt|2)
	r.setup()
	r.w32(irqCtrl, 7)
	r.enable(priqOn)
	r.host.Forget()
	r.irqs.take()
	return r
}

// Page requests of stream 3: a read by group 5, as parts of dw0.
const (
	prFirst = 3 | 1<<60           // R
	prLast  = 3 | 1<<60 | 1<<62   // R, Last
	prPASID = 1<<63 | 0xabc<<32   // SSV, SubstreamID
	prStop  = prPASID | 3 | 1<<62 // LWR = 0b100
)

func request(dw0 uint64) smmuv3.PageRequest { return smmuv3.PageRequest{dw0, 0x7000 | 5} }

// responses returns the answers that the host got since the last call.
func (r *rig) responses() (all []bridge.PageResponse) {
	for _, c := range r.host.Forget() {
		if c.Op == record.Respond {
			all = append(all, c.Response)
		}
	}
	return all
}

// Answers to group 5.
var (
	failure      = bridge.PageResponse{StreamID: 3, PRGIndex: 5, Response: 0}
	success      = bridge.PageResponse{StreamID: 3, PRGIndex: 5, Response: 2}
	successPASID = bridge.PageResponse{StreamID: 3, SubstreamID: 0xabc, SSV: true, PRGIndex: 5, Response: 2}
)

// fill fills the queue.
func (r *rig) fill() {
	for range 4 {
		r.host.Request(request(prFirst))
	}
	r.irqs.take()
}

// TestPageRequestRecords_8 shows that a record in memory equals the endpoint's message without
// reserved bits.
func TestPageRequestRecords_8(t *testing.T) {
	r := newPRIRig(t, withPRI)
	for i, tc := range []struct{ in, want smmuv3.PageRequest }{
		{smmuv3.PageRequest{0x1000_0000_0000_0003, 0x7005}, smmuv3.PageRequest{0x1000_0000_0000_0003, 0x7005}},
		{smmuv3.PageRequest{0xdc00_0abc_0000_0003, 0xffff_f1ff}, smmuv3.PageRequest{0xdc00_0abc_0000_0003, 0xffff_f1ff}},
		{smmuv3.PageRequest{0xffff_ffff_ffff_ffff, 0xffff_ffff_ffff_ffff}, smmuv3.PageRequest{0xfc0f_ffff_ffff_ffff, 0xffff_ffff_ffff_f1ff}},
		{smmuv3.PageRequest{0x7fff_ffff_ffff_ffff, 0}, smmuv3.PageRequest{0x7000_0000_ffff_ffff, 0}}, // no SSV: no X, no Priv
	} {
		r.host.Request(tc.in)
		assert.Equal(t, tc.want[:], r.mem.Words(priqAt+16*guestmem.GPA(i), 2))
		assert.Equal(t, uint32(i+1), r.r32(priqProd))
	}
	assert.Equal(t, []Line{LinePRIQ}, r.irqs.take(), "only when the queue was empty")
	assert.Empty(t, r.responses())
	assert.EqualValues(t, 4, r.Stats().PageRequests[Recorded])
}

// TestPageRequestsWithoutSubstreams_8 shows that SSV is 0 on an SMMU without substreams, and that
// there are no stop markers.
func TestPageRequestsWithoutSubstreams_8(t *testing.T) {
	r := newPRIRig(t, withoutPASID)
	r.host.Request(request(prStop))
	assert.Zero(t, r.r32(priqProd))
	r.host.Request(request(prLast | prPASID | 1<<59))
	assert.Equal(t, []uint64{prLast, 0x7005}, r.mem.Words(priqAt, 2))
	r.run(smmuv3.Command{0x41 | 1<<11 | 0xabc<<12 | 3<<32, 5 | 2<<12})
	assert.Equal(t, []bridge.PageResponse{success}, r.responses(), "§4.5.2: as though SSV were 0")
}

// TestAutoResponses_8_1_8_2 tests every reason for an automatic response, with each kind of
// message.
func TestAutoResponses_8_1_8_2(t *testing.T) {
	disabled := func(cr0 uint32) func(*rig) { return func(r *rig) { r.enable(cr0) } }
	ppar := func(r *rig) { r.ste(3, 0xb|cdAt|4<<59, 1<<28|1<<18) }
	aborts := func(r *rig) { r.mem.FailWrites(guestmem.Range{GPA: priqAt, Len: 64}, nil) }
	for _, tc := range []struct {
		name                  string
		ids                   func(*Config)
		before                func(*rig)
		first, last, withSSID []bridge.PageResponse
		fate                  Fate
	}{
		{"§8.2 PRIQEN=0", withPRI, disabled(0xd), []bridge.PageResponse{failure}, []bridge.PageResponse{failure}, []bridge.PageResponse{failure}, Discarded},
		{"§8.2 SMMUEN=0", withPRI, disabled(0xe), []bridge.PageResponse{failure}, []bridge.PageResponse{failure}, []bridge.PageResponse{failure}, Discarded},
		{"§8.2 the write is aborted, and PRIQ_ABT_ERR then", withPRI, aborts, []bridge.PageResponse{failure}, []bridge.PageResponse{failure}, []bridge.PageResponse{failure}, Aborted},
		{"§8.1 overflow, PPAR=0", withPRI, (*rig).fill, nil, []bridge.PageResponse{success}, []bridge.PageResponse{success}, Overflowed},
		{"§8.1 overflow, PPAR=1", withPRI, func(r *rig) { r.fill(); ppar(r) }, nil, []bridge.PageResponse{success}, []bridge.PageResponse{successPASID}, Overflowed},
		{"§8.1 overflow, PPS=1", withPPS, (*rig).fill, nil, []bridge.PageResponse{success}, []bridge.PageResponse{successPASID}, Overflowed},
		{"§8.1 overflow, illegal STE", withPRI, func(r *rig) { r.fill(); r.ste(3, 0) }, nil, []bridge.PageResponse{success}, []bridge.PageResponse{failure}, Overflowed},
		{"§8.1 overflow, illegal STE, PPS=1", withPPS, func(r *rig) { r.fill(); r.ste(3, 0) }, nil, []bridge.PageResponse{success}, []bridge.PageResponse{successPASID}, Overflowed},
		{"§8.1 overflow, no STE", withPRI, func(r *rig) { r.fill(); r.mem.FailReads(everywhere, nil) }, nil, []bridge.PageResponse{success}, []bridge.PageResponse{failure}, Overflowed},
		{"§8.1 overflow without substreams", withoutPASID, (*rig).fill, nil, []bridge.PageResponse{success}, []bridge.PageResponse{success}, Overflowed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for dw0, want := range map[uint64][]bridge.PageResponse{
				prFirst: tc.first, prLast: tc.last, prFirst | prPASID: tc.first, prLast | prPASID: tc.withSSID, prStop: nil,
			} {
				r := newPRIRig(t, tc.ids)
				tc.before(r)
				r.host.Forget()
				prod := r.r32(priqProd) & 7
				r.host.Request(request(dw0))
				assert.Equal(t, want, r.responses(), "%v", request(dw0))
				assert.Equal(t, prod, r.r32(priqProd)&7, "nothing is recorded")
				if dw0 != prStop {
					assert.EqualValues(t, 1, r.Stats().PageRequests[tc.fate])
				}
			}
		})
	}
}

// TestPRIQOverflowBlocks_8_1 shows that an overflow blocks the queue until it is acknowledged,
// even if it has room, unlike the event queue's.
func TestPRIQOverflowBlocks_8_1(t *testing.T) {
	var fates []Fate
	r := newPRIRig(t, withPRI, func(c *Config) {
		c.Trace.PageRequest = func(_ smmuv3.PageRequest, f Fate) { fates = append(fates, f) }
	})
	defer func() {
		assert.Equal(t, []Fate{Recorded, Recorded, Recorded, Recorded, Overflowed, Overflowed, Overflowed, Recorded}, fates)
	}()
	r.fill()
	assert.Equal(t, uint32(4), r.r32(priqProd), "a full queue is not an overflow")
	r.host.Request(request(prLast))
	assert.Equal(t, uint32(1<<31|4), r.r32(priqProd))
	r.host.Request(request(prLast))
	assert.Equal(t, uint32(1<<31|4), r.r32(priqProd), "one at a time")
	r.w32(priqCons, 4)
	r.host.Request(request(prLast))
	assert.Equal(t, uint32(1<<31|4), r.r32(priqProd), "empty, and blocked")
	assert.Len(t, r.responses(), 3)
	r.w32(priqCons, 1<<31|4)
	r.host.Request(request(prLast))
	assert.Equal(t, uint32(1<<31|5), r.r32(priqProd))
	assert.Empty(t, r.responses())
	assert.Equal(t, []Line{LinePRIQ}, r.irqs.take())
}

// TestPRIQ_ABT_8_2 shows that nothing is written while the error is active, and that the queue
// continues afterwards.
func TestPRIQ_ABT_8_2(t *testing.T) {
	r := newPRIRig(t, withPRI)
	r.mem.FailWrites(guestmem.Range{GPA: priqAt, Len: 64}, nil)
	r.host.Request(request(prLast))
	assert.Equal(t, uint32(1<<3), r.gerror())
	assert.Equal(t, []Line{LineGError}, r.irqs.take())
	r.mem.Heal()
	r.host.Request(request(prFirst))
	assert.Zero(t, r.r32(priqProd))
	assert.Equal(t, []bridge.PageResponse{failure, failure}, r.responses())
	r.w32(gerrorn, 1<<3)
	r.host.Request(request(prLast))
	assert.Equal(t, uint32(1), r.r32(priqProd))
}

// TestPRIQ_IRQ_CFG2_LO_6_3_36 shows that with LO the interrupt comes with the last request of a
// group, even if it is lost to an overflow.
func TestPRIQ_IRQ_CFG2_LO_6_3_36(t *testing.T) {
	r := newPRIRig(t, withPRI)
	r.w32(irqCtrl, 0)
	r.w32(0xdc, 1<<31|0x3f)
	assert.Equal(t, uint32(1<<31|0x3f), r.r32(0xdc))
	r.w32(irqCtrl, 7)
	for _, tc := range []struct {
		dw0  uint64
		want []Line
	}{
		{prFirst, nil}, {prLast, []Line{LinePRIQ}}, {prLast, []Line{LinePRIQ}}, {prStop, []Line{LinePRIQ}}, // full
		{prFirst, nil}, {prLast, []Line{LinePRIQ}}, {prLast, []Line{LinePRIQ}}, // overflowing
	} {
		r.host.Request(request(tc.dw0))
		assert.Equal(t, tc.want, r.irqs.take(), "%#x", tc.dw0)
	}
	r.enable(0xd)
	r.host.Request(request(prLast))
	assert.Empty(t, r.irqs.take(), "discarded for another reason")
}

// TestPRIQ_MSI_3_18 shows the queue's MSI, and the error of one that aborts.
func TestPRIQ_MSI_3_18(t *testing.T) {
	r := newPRIRig(t, withPRI)
	r.doorbells()
	r.w32(irqCtrl, 0)
	r.w64(0xd0, 0x8080040)
	r.w32(0xd8, 0x77)
	r.w32(irqCtrl, 7)
	r.host.Request(request(prLast))
	assert.Equal(t, map[guestmem.GPA]uint32{0x8080040: 0x77}, r.irqs.msis)
	r.irqs.abort = assert.AnError
	r.w32(priqCons, 1)
	r.host.Request(request(prLast))
	assert.Equal(t, uint32(1<<6), r.gerror(), "MSI_PRIQ_ABT_ERR")
}

// writablePRI has the words that withPRI adds to writable.
var writablePRI = []writableWord{
	{0xc0, "PRIQ_BASE[31:0]", 0xffffffff, 0x2, 0},
	{0xc4, "PRIQ_BASE[63:32]", 0x40ffffff, 0x2, 0},
	{0xd0, "PRIQ_IRQ_CFG0[31:0]", 0xfffffffc, 0, 0x2},
	{0xd4, "PRIQ_IRQ_CFG0[63:32]", 0x00ffffff, 0, 0x2},
	{0xd8, "PRIQ_IRQ_CFG1", 0xffffffff, 0, 0x2},
	{0xdc, "PRIQ_IRQ_CFG2", 0x8000003f, 0, 0x2},
	{0x100c8, "PRIQ_PROD", 0x8000001f, 0x2, 0},
	{0x100cc, "PRIQ_CONS", 0x8000001f, 0, 0},
}

// aliasesPRI are on page 0 (§6.2.2).
var aliasesPRI = []writableWord{
	{0xc8, "PRIQ_PROD, page 0 alias", 0x8000001f, 0x2, 0},
	{0xcc, "PRIQ_CONS, page 0 alias", 0x8000001f, 0, 0},
}

// TestPRIQRegisters_6_3_33 shows which bits the registers of §6.3.33 to §6.3.36, §6.3.97 and
// §6.3.98 keep, and which conditions guard them.
func TestPRIQRegisters_6_3_33(t *testing.T) {
	for _, w := range append(writablePRI, aliasesPRI...) {
		t.Run(w.name, func(t *testing.T) {
			r := newRig(t, withPRI)
			r.w32(0xc0, 4)
			r.w32(w.off, ^uint32(0))
			assert.Equal(t, w.mask, r.r32(w.off))
			r.w32(w.off, 0)
			r.w32(0xc0, 4)
			r.w32(irqCtrl, w.irq)
			r.enable(w.cr0)
			old := r.r32(w.off)
			r.w32(w.off, ^uint32(0))
			want := w.mask
			if w.cr0|w.irq != 0 {
				want = 0
			}
			assert.Equal(t, want, r.r32(w.off)&^old, "guarded")

			r = newRig(t)
			r.w32(w.off, ^uint32(0))
			assert.Zero(t, r.r32(w.off), "RES0 without IDR0.PRI")
		})
	}
	r := newRig(t, withPRI)
	r.w32(cr0, ^uint32(0))
	r.eventually(func() bool { return r.r32(0x24) == 0x1f }, "SMMUEN, PRIQEN, EVENTQEN, CMDQEN, ATSCHK")
	r.w32(irqCtrl, ^uint32(0))
	assert.Equal(t, uint32(7), r.r32(0x54))
	r.w32(gerrorn, ^uint32(0))
	assert.Equal(t, uint32(0x1fd), r.r32(gerrorn), "with PRIQ_ABT_ERR and MSI_PRIQ_ABT_ERR")
}

// TestPRIQENFollowsSMMUEN_6_3_9_5 shows that the effective value is 0 while SMMUEN is, and that the
// acknowledgement follows the bit itself.
func TestPRIQENFollowsSMMUEN_6_3_9_5(t *testing.T) {
	r := newPRIRig(t, withPRI)
	r.enable(0xe)
	r.host.Request(request(prLast))
	assert.Equal(t, []bridge.PageResponse{failure}, r.responses())
	r.w32(priqProd, 3)
	assert.Zero(t, r.r32(priqProd), "guarded by the bit itself")
	r.enable(0xf)
	r.host.Request(request(prLast))
	assert.Equal(t, uint32(1), r.r32(priqProd))
	require.NoError(t, r.Reset())
	r.host.Forget()
	r.host.Request(request(prLast))
	assert.Equal(t, []bridge.PageResponse{failure}, r.responses(), "after reset")
}

// TestPRI_RESP_4_5_2 shows the codes, and when the command has no effect.
func TestPRI_RESP_4_5_2(t *testing.T) {
	r := newPRIRig(t, withPRI)
	r.run(smmuv3.Command{0x41 | 3<<32, 0x1ff}, smmuv3.Command{0x41 | 3<<32, 5 | 1<<12},
		smmuv3.Command{0x41 | 1<<11 | 0xabc<<12 | 3<<32, 5 | 2<<12}, smmuv3.Command{0x41 | 0xabc<<12 | 3<<32, 5 | 2<<12},
		smmuv3.Command{0x41 | 4<<32, 5}) // not attached
	r.idle()
	assert.Equal(t, []bridge.PageResponse{{StreamID: 3, PRGIndex: 0x1ff, Response: 0}, {StreamID: 3, PRGIndex: 5, Response: 1}, successPASID, success}, r.responses())

	r.host.FailWith(func(record.Call) error { return bridge.ErrGone })
	r.run(smmuv3.Command{0x41 | 3<<32, 5})
	assert.Zero(t, r.gerror(), "the guest does not see that a host failed to answer")
	assert.EqualValues(t, 1, r.Stats().HostErrors)
	r.host.FailWith(nil)
	r.host.Forget()

	r.run(smmuv3.Command{0x41 | 3<<32, 3 << 12})
	assert.Equal(t, uint32(1), r.gerror(), "a reserved code is CERROR_ILL")
	r.w32(gerrorn, 1)
	r = newPRIRig(t, withPRI)
	r.enable(0xe)
	r.host.Forget()
	r.run(smmuv3.Command{0x41 | 3<<32, 5 | 2<<12})
	assert.Empty(t, r.responses(), "ignored while SMMUEN=0")
	assert.Zero(t, r.gerror())
}

// TestPRINeedsAPageRequester shows that a host that offers IDR0.PRI without being a
// bridge.PageRequester is refused.
func TestPRINeedsAPageRequester(t *testing.T) {
	r := newRig(t, withPRI)
	h := &countingHost{Host: r.host}
	err := r.Attach(3, h, "NVMe")
	assert.ErrorIs(t, err, ErrConfig)
	assert.ErrorContains(t, err, "PageRequester")
	assert.Zero(t, h.events)
}
