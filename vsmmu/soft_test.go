package vsmmu_test

import (
	"encoding/binary"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmu"
	"github.com/go-vsmmu/vsmmuv3/vsmmu/idr"
	"github.com/go-vsmmu/vsmmuv3/vsmmutest"
)

// softRig is a device with a software host that has every feature, and an endpoint that uses the
// features. The guest has a stream table at 1 MiB, 16 commands at 2 MiB, and 4 events at 3 MiB.
// Stream 3 has a CD at 4 MiB with S = 1, and tables that map nothing. pte0 translates IOVA 0.
type softRig struct {
	testing.TB
	*vsmmu.Device
	ram  *guestmem.Slots
	host *soft.Host
	ep   *soft.Endpoint

	driver *vsmmutest.Guest
}

const (
	pte0 = 0x53_0000
	page = 0x60_0000
)

// atcTimeout is longer than any endpoint of these tests takes, except one that never answers.
const atcTimeout = time.Hour

func newSoftRig(t testing.TB, policy idr.Policy) *softRig {
	r := &softRig{TB: t, ram: new(guestmem.Slots), ep: soft.NewEndpoint()}
	require.NoError(t, r.ram.Add(guestmem.Slot{GPA: 0, Mem: make([]byte, 16<<20)}))
	ids := soft.DefaultIDs()
	ids.Set(smmuv3.StallModel, 0b00)
	ids.Set(smmuv3.StallMax, 8)
	ids.Set(smmuv3.ATS, 1)
	ids.Set(smmuv3.PRI, 1)
	r.words(0x10_00c0, 0x40_000b, 1<<28)                 // STE: V, Config S1, EATS 01
	r.words(0x40_0000, 0x0001_7205_c000_0010, 0x50_0000) // CD: T0SZ 16, EPD1, V, IPS, AA64, S, R, A, ASID 1
	r.words(0x50_0000, 0x51_0003)                        // levels 0 to 2
	r.words(0x51_0000, 0x52_0003)
	r.words(0x52_0000, pte0|3)
	r.ep.AllowStalls(t.Context())
	r.boot(ids, policy)
	return r
}

// boot makes a host and a device, and sets the device up.
func (r *softRig) boot(ids smmuv3.IDRegs, policy idr.Policy) {
	r.Helper()
	var err error
	r.host, err = soft.New(soft.Config{Memory: r.ram, IDs: ids, ATCTimeout: atcTimeout})
	require.NoError(r, err)
	host := r.host
	r.Cleanup(func() { _ = host.Close() })
	caps, err := r.host.Capabilities()
	require.NoError(r, err)
	derived, err := idr.Derive(policy, caps)
	require.NoError(r, err)
	r.Device, err = vsmmu.New(vsmmu.Config{IDs: derived.IDs, Memory: r.ram, Interrupts: noInterrupts{}})
	require.NoError(r, err)
	device := r.Device
	r.Cleanup(func() { _ = device.Close() })
	require.NoError(r, r.Attach(3, r.host, r.ep))
	r.driver = vsmmutest.NewGuest(r.ram, guestmem.Range{}, r.Device)
	r.driver.CommandQueue = vsmmutest.Queue{At: 0x20_0000, Log2Size: 4}
	r.driver.EventQueue = vsmmutest.Queue{At: 0x30_0000, Log2Size: 2}
	r.Store(smmuv3.RegSTRTAB_BASE, 8, 0x10_0000)
	r.Store(smmuv3.RegSTRTAB_BASE_CFG, 4, 4)
	r.Store(smmuv3.RegCMDQ_BASE, 8, 0x20_0000|4)
	r.Store(smmuv3.RegEVENTQ_BASE, 8, 0x30_0000|2)
	r.enable(0xd) // CMDQEN, EVENTQEN, SMMUEN
}

func (r *softRig) words(at guestmem.GPA, words ...uint64) {
	for i, w := range words {
		require.NoError(r, r.ram.Store64(at+guestmem.GPA(8*i), w))
	}
}

func (r *softRig) eventually(ok func() bool) {
	r.Helper()
	require.Eventually(r, ok, 2*time.Minute, 50*time.Microsecond)
}

func (r *softRig) enable(cr0 uint32) {
	r.Helper()
	require.NoError(r, r.driver.SetCR0(cr0))
}

// run submits commands and waits until they are consumed.
func (r *softRig) run(cmds ...smmuv3.Command) {
	r.Helper()
	prod, err := r.driver.Submit(cmds...)
	require.NoError(r, err)
	require.NoError(r, r.driver.Wait(prod))
}

// event waits for a record and consumes it.
func (r *softRig) event() smmuv3.Event {
	r.Helper()
	e, err := r.driver.WaitEvent()
	require.NoError(r, err)
	return e
}

// read starts a read of eight bytes at IOVA 0, and returns the channel of its result.
func (r *softRig) read() chan read {
	c := make(chan read, 1)
	go func() {
		var p [8]byte
		err := r.ep.ReadAt(p[:], 0)
		c <- read{binary.LittleEndian.Uint64(p[:]), err}
	}()
	return c
}

type read struct {
	word uint64
	err  error
}

var shown = idr.Policy{smmuv3.StallModel: 0b00}

// TestAGuestResolvesAStall shows that a guest maps the page of a stalled transaction and resumes
// it, and aborts the next one.
func TestAGuestResolvesAStall(t *testing.T) {
	r := newSoftRig(t, shown)
	c := r.read()
	e := r.event()
	require.Equal(t, smmuv3.Event{3<<32 | 0x10, 1<<41 | 1<<35 | 1<<31 | uint64(e.STAG())}, e)
	r.words(page, 0xfeed)
	r.words(pte0, page|0x743)                                     // AF, AP[1], a page
	r.run(smmuv3.Command{3<<32 | 1<<12 | 0x44, uint64(e.STAG())}) // CMD_RESUME, retry
	assert.Equal(t, read{word: 0xfeed}, <-c)

	r.words(pte0, 0)
	r.run(smmuv3.Command{0x10}, smmuv3.Command{0x46})
	c = r.read()
	e = r.event()
	r.run(smmuv3.Command{3<<32 | 1<<13 | 0x44, uint64(e.STAG())}) // abort
	assert.ErrorIs(t, (<-c).err, soft.ErrFault)
}

// TestStallIsReportedWhenTheQueueHasRoom_7_2_1 shows that a transaction that stalls while the queue
// takes no event is reported later.
func TestStallIsReportedWhenTheQueueHasRoom_7_2_1(t *testing.T) {
	r := newSoftRig(t, shown)
	var all []chan read
	for range 6 {
		all = append(all, r.read())
	}
	for range all {
		e := r.event()
		require.True(t, e.Stall())
		r.run(smmuv3.Command{3<<32 | 1<<13 | 0x44, uint64(e.STAG())})
	}
	for _, c := range all {
		assert.ErrorIs(t, (<-c).err, soft.ErrFault)
	}
}

// TestStalledTransactionsEnd shows that SMMUEN=0 (§6.3.9.6), CMD_STALL_TERM (§4.7.2), Reset, Detach
// and Close terminate stalled transactions.
func TestStalledTransactionsEnd(t *testing.T) {
	for name, end := range map[string]func(r *softRig){
		"SMMUEN":         func(r *softRig) { r.enable(0xc) },
		"CMD_STALL_TERM": func(r *softRig) { r.run(smmuv3.Command{3<<32 | 0x45}) },
		"Reset":          func(r *softRig) { require.NoError(r, r.Reset()) },
		"Detach":         func(r *softRig) { require.NoError(r, r.Detach(3)) },
		"Close":          func(r *softRig) { require.NoError(r, r.Device.Close()) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newSoftRig(t, shown)
			c := r.read()
			r.event()
			r.run(smmuv3.Command{0x10}, smmuv3.Command{3<<32 | 0x05}, smmuv3.Command{0x46}) // a SYNC does not wait
			end(r)
			assert.ErrorIs(t, (<-c).err, soft.ErrFault)
		})
	}
}

// TestNoStallsUnlessShown shows that a CD with S = 1 is illegal if the guest's ID registers exclude
// stalls (§5.4.2).
func TestNoStallsUnlessShown(t *testing.T) {
	r := newSoftRig(t, nil)
	assert.ErrorIs(t, (<-r.read()).err, soft.ErrFault)
	assert.Equal(t, smmuv3.Event{3<<32 | 0x0a}, r.event())

	r.words(0x40_0000, 0x0001_6205_c000_0010) // S = 0
	r.run(smmuv3.Command{3<<32 | 0x05}, smmuv3.Command{0x46})
	assert.ErrorIs(t, (<-r.read()).err, soft.ErrFault)
	assert.Equal(t, smmuv3.Event{3<<32 | 0x10, 1<<41 | 1<<35}, r.event())
}

// TestAGuestInvalidatesAnATC shows that an ATC_INV invalidates a translation that an endpoint has
// cached (§4.5.1).
func TestAGuestInvalidatesAnATC(t *testing.T) {
	r := newSoftRig(t, shown)
	var invalidated []soft.ATCRange
	r.ep.EnableATS(soft.ATS{Invalidate: func(a soft.ATCRange) { invalidated = append(invalidated, a) }})
	r.words(pte0, page|0x743)
	r.words(page, 0xfeed)
	tr, err := r.ep.Translate(0x10, true)
	require.NoError(t, err)
	assert.Equal(t, soft.Translation{Len: 0x1000, Addr: page, Read: true, Write: true}, tr)
	var p [8]byte
	require.NoError(t, r.ep.ReadTranslated(p[:], tr.Addr))
	assert.Equal(t, [8]byte{0xed, 0xfe}, p)

	r.words(pte0, 0)
	r.run(smmuv3.Command{0x10}, smmuv3.Command{0x46}, smmuv3.Command{3<<32 | 0x40, 0}, smmuv3.Command{0x46})
	assert.Equal(t, []soft.ATCRange{{Last: 0xfff}}, invalidated)

	r.words(0x10_00c8, 0) // EATS 00
	r.run(smmuv3.Command{3<<32 | 0x03, 1}, smmuv3.Command{0x46})
	assert.ErrorIs(t, r.ep.ReadTranslated(p[:], tr.Addr), soft.ErrFault)
	assert.Equal(t, smmuv3.Event{3<<32 | 0x07, 1 << 35, page}, r.event())
	_, err = r.ep.Translate(0x10, true)
	assert.ErrorIs(t, err, soft.ErrUnsupportedRequest)
	assert.Equal(t, smmuv3.Event{3<<32 | 0x05}, r.event())
}

// TestATCTimeoutStopsTheSYNC_3_9_1_4 shows that the SYNC is not consumed (§7.1), that the guest
// continues, and that the endpoint loses ATS.
func TestATCTimeoutStopsTheSYNC_3_9_1_4(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newSoftRig(t, shown)
		stuck := make(chan struct{})
		defer close(stuck)
		r.ep.EnableATS(soft.ATS{Invalidate: func(soft.ATCRange) { <-stuck }})
		r.words(0x20_0000, 3<<32|0x40, 52)
		r.words(0x20_0010, 0x46, 0)
		r.Store(smmuv3.RegCMDQ_PROD, 4, 2)
		time.Sleep(atcTimeout)
		synctest.Wait()
		require.EqualValues(t, 1, r.Load(smmuv3.RegGERROR, 4))
		assert.EqualValues(t, 3<<24|1, r.Load(smmuv3.RegCMDQ_CONS, 4), "CERROR_ATC_INV_SYNC, at the SYNC")
		r.Store(smmuv3.RegGERRORN, 4, 1)
		r.eventually(func() bool { return r.Load(smmuv3.RegCMDQ_CONS, 4)&0xff == 2 })
		assert.ErrorIs(t, r.ep.ReadTranslated(make([]byte, 8), page), soft.ErrFault)
	})
}

// TestAGuestAnswersAPageRequest shows that an endpoint gets the guest's answer to its page request
// (Chapter 8, §4.5.2).
func TestAGuestAnswersAPageRequest(t *testing.T) {
	r := newSoftRig(t, shown)
	answers := make(chan bridge.PageResponse, 2)
	r.ep.EnableATS(soft.ATS{Respond: func(a bridge.PageResponse) { answers <- a }})
	r.Store(smmuv3.RegPRIQ_BASE, 8, 0x70_0000|2)
	var q smmuv3.PageRequest
	q.SetAddr(0x5000)
	q.SetW(true)
	q.SetLast(true)
	q.SetPRGIndex(7)
	require.NoError(t, r.ep.RequestPage(q))
	assert.Equal(t, bridge.PageResponse{StreamID: 3, PRGIndex: 7, Response: smmuv3.PRGFailure}, <-answers, "§8.2: PRIQEN is 0")

	r.enable(0xf)
	require.NoError(t, r.ep.RequestPage(q))
	require.EqualValues(t, 1, r.Load(smmuv3.RegPRIQ_PROD, 4))
	for i, want := range []uint64{1<<62 | 1<<61 | 3, 0x5007} {
		got, err := r.ram.Load64(guestmem.GPA(0x70_0000 + 8*i))
		require.NoError(t, err)
		assert.Equal(t, want, got)
	}
	r.run(smmuv3.Command{3<<32 | 0x41, 0b10<<12 | 7})
	assert.Equal(t, bridge.PageResponse{StreamID: 3, PRGIndex: 7, Response: smmuv3.PRGSuccess}, <-answers)
}

// TestSoftHostWithTheIDsOfTwoHosts shows that a soft host with soft.Config.IDs can serve the common
// ID registers of two hosts.
func TestSoftHostWithTheIDsOfTwoHosts(t *testing.T) {
	other := bridge.Capabilities{IDs: smmuv3.IDRegs{ // SMMUv3.1 with both stages, 44 bits, no substreams
		IDR:  [6]uint32{0x0d44101b, 0x02730010, 0, 0x00001414, 0, 0x00000074},
		AIDR: 1,
	}}
	for _, policy := range []idr.Policy{nil, {smmuv3.MSI: 1, smmuv3.CMDQS: 19, smmuv3.SIDSIZE: 32}} {
		ids, err := idr.Derive(policy, other, bridge.Capabilities{IDs: soft.DefaultIDs()})
		require.NoError(t, err)
		ram := new(guestmem.Slots)
		host, err := soft.New(soft.Config{Memory: ram, IDs: ids.IDs})
		require.NoError(t, err)
		defer host.Close()
		caps, err := host.Capabilities()
		require.NoError(t, err)
		assert.EqualValues(t, 4, caps.IDs.Get(smmuv3.OAS), "44 bits")
		assert.NoError(t, idr.Satisfies(caps, ids.IDs), "Attach accepts the host")
	}
}
