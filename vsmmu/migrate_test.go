package vsmmu_test

import (
	"encoding/binary"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmu"
	"github.com/go-vsmmu/vsmmuv3/vsmmu/idr"
)

// Where the migrated guest has its structures. IOVA page n is GPA movedData + n pages.
const (
	movedSize    = 2 << 20
	movedStrtab  = 0x1_0000
	movedCmdq    = 0x2_0000 // 1024 commands
	movedEventq  = 0x3_0000 // 16 events
	movedCD      = 0x4_0000
	movedTables  = 0x5_0000 // a table each 64 KiB; the leaves are in the fourth
	movedLeaves  = movedTables + 3<<16
	movedData    = 0x10_0000
	movedSyncMSI = 0x18_0000
	movedEvtMSI  = 0x19_0000
	movedPages   = 8
	movedClean   = 1<<51 | 1<<11 | 1<<7 | 1<<6 | 0b11 // DBM, nG, AP[2:1] = 0b11: writable-clean, AF 0
)

// movedGuest is a guest under migration. Its devices write through tracked memory. Its vCPUs write
// to the memory itself, and their own log replaces the hypervisor's.
type movedGuest struct {
	testing.TB
	*vsmmu.Device
	ram   []byte
	slots *guestmem.Slots
	mem   *guestmem.Tracked
	host  *soft.Host
	disk  *soft.Endpoint

	mu    sync.Mutex
	vcpus map[guestmem.GPA]bool // pages that vCPUs wrote to
	copy  []byte
}

func newMovedGuest(t testing.TB, ram []byte, restored smmuv3.IDRegs) *movedGuest {
	g := &movedGuest{TB: t, ram: ram, slots: new(guestmem.Slots), disk: soft.NewEndpoint(), vcpus: map[guestmem.GPA]bool{}, copy: make([]byte, movedSize)}
	require.NoError(t, g.slots.Add(guestmem.Slot{Mem: ram}))
	var err error
	g.mem, err = guestmem.NewTracked(g.slots)
	require.NoError(t, err)
	g.host, err = soft.New(soft.Config{Memory: g.mem})
	require.NoError(t, err)
	t.Cleanup(func() { _ = g.host.Close() })
	ids := restored
	if ids == (smmuv3.IDRegs{}) {
		caps, err := g.host.Capabilities()
		require.NoError(t, err)
		derived, err := idr.Derive(idr.Policy{smmuv3.MSI: 1, smmuv3.CMDQS: 10}, caps)
		require.NoError(t, err)
		ids = derived.IDs
	}
	g.Device, err = vsmmu.New(vsmmu.Config{IDs: ids, Memory: g.mem, Interrupts: noInterrupts{}})
	require.NoError(t, err)
	t.Cleanup(func() { _ = g.Device.Close() })
	require.NoError(t, g.Attach(3, g.host, g.disk))
	return g
}

// vcpu stores a word as a vCPU does.
func (g *movedGuest) vcpu(at guestmem.GPA, v uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.vcpus[at&^(guestmem.DirtyPageSize-1)] = true
	if err := g.slots.Store64(at, v); err != nil {
		g.Error(err)
	}
}

func (g *movedGuest) boot() {
	for at, w := range map[guestmem.GPA]uint64{
		movedStrtab + 3*64:  movedCD | 0b101<<1 | 1,
		movedCD:             0x0001_6205_c000_0010 | 1<<43 | 1<<42, // HA, HD
		movedCD + 8:         movedTables,
		movedTables:         movedTables + 1<<16 | 3,
		movedTables + 1<<16: movedTables + 2<<16 | 3,
		movedTables + 2<<16: movedLeaves | 3,
	} {
		g.vcpu(at, w)
	}
	for p := range uint64(movedPages) {
		g.vcpu(movedLeaves+guestmem.GPA(8*p), movedData+p<<12|movedClean)
	}
	g.Store(smmuv3.RegSTRTAB_BASE, 8, movedStrtab)
	g.Store(smmuv3.RegSTRTAB_BASE_CFG, 4, 4)
	g.Store(smmuv3.RegCMDQ_BASE, 8, movedCmdq|10)
	g.Store(smmuv3.RegEVENTQ_BASE, 8, movedEventq|4)
	g.Store(smmuv3.RegEVENTQ_IRQ_CFG0, 8, movedEvtMSI)
	g.Store(smmuv3.RegEVENTQ_IRQ_CFG1, 4, 0x77)
	g.Store(smmuv3.RegIRQ_CTRL, 4, 4)
	g.Store(smmuv3.RegCR0, 4, 0xd) // CMDQEN, EVENTQEN, SMMUEN
	for g.Load(smmuv3.RegCR0ACK, 4) != 0xd {
		runtime.Gosched()
	}
}

// post queues commands, and returns before they are consumed.
func (g *movedGuest) post(cmds ...smmuv3.Command) (prod uint64) {
	prod = g.Load(smmuv3.RegCMDQ_PROD, 4)
	for _, c := range cmds {
		at := guestmem.GPA(movedCmdq + prod%1024*16)
		g.vcpu(at, c[0])
		g.vcpu(at+8, c[1])
		prod = (prod + 1) % 2048
	}
	g.Store(smmuv3.RegCMDQ_PROD, 4, prod)
	return prod
}

// syncMSI is a CMD_SYNC that signals its completion by a write of data to memory (§4.7.3).
func syncMSI(data uint32) smmuv3.Command {
	return smmuv3.Command{0x46 | 0b01<<12 | uint64(data)<<32, movedSyncMSI}
}

// round copies the pages that an account of the devices and the log of the vCPUs name.
func (g *movedGuest) round(devices *guestmem.Account) {
	g.mu.Lock()
	vcpus := g.vcpus
	g.vcpus = map[guestmem.GPA]bool{}
	g.mu.Unlock()
	for r := range devices.Ranges() {
		g.copyRange(r)
	}
	for at := range vcpus {
		g.copyRange(guestmem.Range{GPA: at, Len: guestmem.DirtyPageSize})
	}
}

func (g *movedGuest) copyRange(r guestmem.Range) {
	require.NoError(g, g.mem.ReadAt(g.copy[r.GPA:][:r.Len], r.GPA))
}

// TestMigrationWhileDMARuns does the rounds of guestmem.Tracked while endpoints write in every way,
// the SMMU updates descriptors and writes event records and MSIs, and the guest changes its tables.
// After each round the copy has all earlier writes. At the end the copy equals the memory, and a
// device restored over the copy continues.
func TestMigrationWhileDMARuns(t *testing.T) {
	const rounds = 500
	g := newMovedGuest(t, make([]byte, movedSize), smmuv3.IDRegs{})
	g.boot()

	over := make(chan struct{})
	var all sync.WaitGroup
	during := func(f func(v uint64)) {
		all.Go(func() {
			for v := uint64(1); ; v++ {
				select {
				case <-over:
					return
				default:
					f(v)
					runtime.Gosched()
				}
			}
		})
	}
	// Of each page, the last value whose write has returned.
	var written [movedPages]atomic.Uint64
	var failed atomic.Value
	done := func(page int, v uint64, err error) {
		if err != nil {
			failed.Store(err)
		}
		written[page].Store(v)
	}
	word := func(v uint64) []byte { return binary.LittleEndian.AppendUint64(nil, v) }
	during(func(v uint64) { done(0, v, g.disk.Store(0x0000, 8, v)) })
	during(func(v uint64) {
		p := make([]byte, 4096)
		copy(p, word(v))
		p[rand.IntN(4088)+8]++
		done(1, v, g.disk.WriteAt(p, 0x1000))
	})
	during(func(v uint64) {
		m, err := g.disk.Map(0x2000, 0x2000, true, nil)
		if err == nil {
			guestmem.Store(m.Segments[0], word(v))
			guestmem.Store(m.Segments[0][0x1000:], word(v))
			m.Release()
		}
		done(2, v, err)
		done(3, v, err)
	})
	during(func(v uint64) { done(4, v, g.disk.WriteAt(word(v), 0x4000)) }) // its page's flags come and go
	during(func(v uint64) {                                                // each access faults, and the driver handles the events
		_ = g.disk.ReadAt(make([]byte, 8), v%1024<<12|movedPages<<12)
		g.Store(smmuv3.RegEVENTQ_CONS, 4, g.Load(smmuv3.RegEVENTQ_PROD, 4))
	})
	during(func(v uint64) { // a guest that clears flags, and waits for the invalidation
		g.vcpu(movedLeaves+8*4, movedData+4<<12|movedClean)
		prod := g.post(smmuv3.Command{0x12 | 1<<48, 0x4000 | 1}, syncMSI(uint32(v)))
		for g.Load(smmuv3.RegCMDQ_CONS, 4) != prod {
			runtime.Gosched()
		}
	})

	now := func() (all [movedPages]uint64) {
		for p := range all {
			all[p] = written[p].Load()
		}
		return all
	}
	check := func(before [movedPages]uint64) {
		for p, v := range before {
			require.GreaterOrEqual(t, binary.LittleEndian.Uint64(g.copy[movedData+p<<12:]), v, "page %d", p)
		}
	}
	before := now()
	g.mem.NewAccount()
	g.copyRange(guestmem.Range{Len: movedSize})
	check(before)
	for range rounds {
		before = now()
		g.round(g.mem.NewAccount())
		check(before)
		runtime.Gosched()
	}
	close(over)
	all.Wait()
	assert.Nil(t, failed.Load())
	for p := range 5 {
		assert.NotZero(t, written[p].Load(), "page %d", p)
	}

	// The last round. Save makes the device execute the queued commands, including their MSIs.
	var late []smmuv3.Command
	for i := range uint32(600) {
		late = append(late, syncMSI(0x8000_0000|i))
	}
	prod := g.post(late...)
	state, err := g.Save()
	require.NoError(t, err)
	require.Equal(t, prod, g.Load(smmuv3.RegCMDQ_CONS, 4))
	g.round(g.mem.Stop())
	require.NoError(t, g.Device.Close())
	require.NoError(t, g.host.Close())
	require.Equal(t, -1, firstDifference(g.ram, g.copy), "the copy equals the memory")
	assert.EqualValues(t, 0x8000_0000|599, binary.LittleEndian.Uint32(g.copy[movedSyncMSI:]))

	ids, err := vsmmu.SavedIDs(state)
	require.NoError(t, err)
	there := newMovedGuest(t, g.copy, ids)
	require.NoError(t, there.Restore(state))
	v, err := there.disk.Load(0, 8)
	require.NoError(t, err)
	assert.Equal(t, written[0].Load(), v)
	require.NoError(t, there.disk.Store(0x5000, 8, 1), "a page that is clean until now")
}

// firstDifference returns the first index at which a and b differ, or -1.
func firstDifference(a, b []byte) int {
	for i := range a {
		if a[i] != b[i] {
			return i
		}
	}
	return -1
}

// TestSaveWritesBeforeTheLastAccount shows that the writes of Save are in the account that a later
// Stop returns, and in no earlier one.
func TestSaveWritesBeforeTheLastAccount(t *testing.T) {
	g := newMovedGuest(t, make([]byte, movedSize), smmuv3.IDRegs{})
	g.boot()
	g.mem.NewAccount()
	var cmds []smmuv3.Command
	for i := range uint32(1000) {
		cmds = append(cmds, syncMSI(i))
	}
	g.post(cmds...)
	_, err := g.Save()
	require.NoError(t, err)
	assert.True(t, g.mem.Stop().Contains(movedSyncMSI))
	v, err := g.slots.Load64(movedSyncMSI)
	require.NoError(t, err)
	assert.EqualValues(t, 999, v)
}
