package vsmmu_test

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmu"
	"github.com/go-vsmmu/vsmmuv3/vsmmu/idr"
)

// stallRig is a device with a host in software whose endpoint may stall, as a guest
// sees it: a stream table at 1 MiB, 16 commands at 2 MiB, 4 events at 3 MiB, and for
// stream 3 a CD at 4 MiB with S = 1 and tables that map nothing. IOVA 0 is page 0 of
// the table at 5 MiB.
type stallRig struct {
	testing.TB
	*vsmmu.Device
	ram  *guestmem.Slots
	host *soft.Host
	ep   *soft.Endpoint
}

const (
	pte0 = 0x53_0000
	page = 0x60_0000
)

func newStallRig(t testing.TB, policy idr.Policy) *stallRig {
	r := &stallRig{TB: t, ram: new(guestmem.Slots), ep: soft.NewEndpoint()}
	require.NoError(t, r.ram.Add(guestmem.Slot{GPA: 0, Mem: make([]byte, 16<<20)}))
	ids := soft.DefaultIDs()
	ids.Set(smmuv3.StallModel, 0b00)
	ids.Set(smmuv3.StallMax, 8)
	var err error
	r.host, err = soft.New(soft.Config{Memory: r.ram, IDs: ids})
	require.NoError(t, err)
	t.Cleanup(func() { _ = r.host.Close() })
	caps, err := r.host.Capabilities()
	require.NoError(t, err)
	derived, err := idr.Derive(policy, caps)
	require.NoError(t, err)
	r.Device, err = vsmmu.New(vsmmu.Config{IDs: derived.Regs, Memory: r.ram, Interrupts: noInterrupts{}})
	require.NoError(t, err)
	t.Cleanup(func() { _ = r.Device.Close() })

	r.words(0x10_00c0, 0x40_000b)                        // STE: V, Config S1
	r.words(0x40_0000, 0x0001_7205_c000_0010, 0x50_0000) // CD: T0SZ 16, EPD1, V, IPS, AA64, S, R, A, ASID 1
	r.words(0x50_0000, 0x51_0003)                        // levels 0 to 2
	r.words(0x51_0000, 0x52_0003)
	r.words(0x52_0000, pte0|3)
	r.ep.AllowStalls(t.Context())
	require.NoError(t, r.Attach(3, r.host, r.ep))
	r.Store(smmuv3.RegSTRTABBase, 8, 0x10_0000)
	r.Store(smmuv3.RegSTRTABCfg, 4, 4)
	r.Store(smmuv3.RegCMDQBase, 8, 0x20_0000|4)
	r.Store(smmuv3.RegEVENTQBase, 8, 0x30_0000|2)
	r.enable(0xd) // CMDQEN, EVENTQEN, SMMUEN
	return r
}

func (r *stallRig) words(at guestmem.GPA, words ...uint64) {
	for i, w := range words {
		require.NoError(r, r.ram.Store64(at+guestmem.GPA(8*i), w))
	}
}

func (r *stallRig) eventually(ok func() bool) {
	r.Helper()
	require.Eventually(r, ok, 10*time.Second, 50*time.Microsecond)
}

func (r *stallRig) enable(cr0 uint64) {
	r.Helper()
	r.Store(smmuv3.RegCR0, 4, cr0)
	r.eventually(func() bool { return r.Load(smmuv3.RegCR0ACK, 4) == cr0 })
}

// run has commands consumed.
func (r *stallRig) run(cmds ...smmuv3.Command) {
	r.Helper()
	prod := r.Load(smmuv3.RegCMDQProd, 4)
	for _, c := range cmds {
		r.words(guestmem.GPA(0x20_0000+prod%16*16), c[0], c[1])
		prod = (prod + 1) % 32
	}
	r.Store(smmuv3.RegCMDQProd, 4, prod)
	r.eventually(func() bool { return r.Load(smmuv3.RegCMDQCons, 4) == prod })
}

// event waits for a record, and consumes it.
func (r *stallRig) event() (e smmuv3.Event) {
	r.Helper()
	cons := r.Load(smmuv3.RegEVENTQCons, 4)
	r.eventually(func() bool { return r.Load(smmuv3.RegEVENTQProd, 4) != cons })
	for i := range e {
		var err error
		e[i], err = r.ram.Load64(guestmem.GPA(0x30_0000 + cons%4*32 + uint64(8*i)))
		require.NoError(r, err)
	}
	r.Store(smmuv3.RegEVENTQCons, 4, (cons+1)%8)
	return e
}

// read starts a read of eight bytes at IOVA 0; what comes of it goes to the channel.
func (r *stallRig) read() chan read {
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

// A guest pages memory in for a transaction that has stalled, and refuses the next.
func TestAGuestResolvesAStall(t *testing.T) {
	r := newStallRig(t, shown)
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

// §7.2.1: what stalls while the queue takes no event is told later.
func TestAStallThatFindsTheQueueFull(t *testing.T) {
	r := newStallRig(t, shown)
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

// §6.3.9.6, §4.7.2, and what the VMM does.
func TestNothingIsLeftStalled(t *testing.T) {
	for name, end := range map[string]func(r *stallRig){
		"SMMUEN":         func(r *stallRig) { r.enable(0xc) },
		"CMD_STALL_TERM": func(r *stallRig) { r.run(smmuv3.Command{3<<32 | 0x45}) },
		"Reset":          func(r *stallRig) { require.NoError(r, r.Reset()) },
		"Detach":         func(r *stallRig) { require.NoError(r, r.Detach(3)) },
		"Close":          func(r *stallRig) { require.NoError(r, r.Device.Close()) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newStallRig(t, shown)
			c := r.read()
			r.event()
			r.run(smmuv3.Command{0x10}, smmuv3.Command{3<<32 | 0x05}, smmuv3.Command{0x46}) // a SYNC does not wait
			end(r)
			assert.ErrorIs(t, (<-c).err, soft.ErrFault)
		})
	}
}

// A guest that was not shown stalls gets none: its CD is illegal (§5.4.2).
func TestNoStallsUnasked(t *testing.T) {
	r := newStallRig(t, nil)
	assert.ErrorIs(t, (<-r.read()).err, soft.ErrFault)
	assert.Equal(t, smmuv3.Event{3<<32 | 0x0a}, r.event())

	r.words(0x40_0000, 0x0001_6205_c000_0010) // S = 0
	r.run(smmuv3.Command{3<<32 | 0x05}, smmuv3.Command{0x46})
	assert.ErrorIs(t, (<-r.read()).err, soft.ErrFault)
	assert.Equal(t, smmuv3.Event{3<<32 | 0x10, 1<<41 | 1<<35}, r.event())
}
