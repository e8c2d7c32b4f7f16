package vsmmu

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/record"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmutest"
)

// Addresses of the guest's structures.
const (
	strtabAt = 0x100000 // linear, 256 STEs
	cmdqAt   = 0x200000 // 2^8 commands
	eventqAt = 0x300000 // 2^4 records
	cdAt     = 0x400000
)

// rigIDs: IDR0 has S1P, TTF = AArch64, COHACC, ASID16, MSI, CD2L, STALL_MODEL = terminate, ST_LEVEL
// = 2-level; IDR1 has CMDQS 19, EVENTQS 10, SSIDSIZE 10, SIDSIZE 16; IDR5 has OAS = 44 bits and all
// granules.
var rigIDs = smmuv3.IDRegs{IDR: [6]uint32{0: 0x0908301a, 1: 0x026a0290, 5: 0x00000074}}

// irqs records interrupts.
type irqs struct {
	onPulse func(Line) // if not nil, is called for each
	abort   error      // of MSIs

	mu     sync.Mutex
	pulses []Line
	msis   map[guestmem.GPA]uint32
}

func (i *irqs) Pulse(l Line) error {
	if i.onPulse != nil {
		i.onPulse(l)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.pulses = append(i.pulses, l)
	return nil
}

func (i *irqs) SignalMSI(addr guestmem.GPA, data uint32) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.abort != nil {
		return i.abort
	}
	if i.msis == nil {
		i.msis = map[guestmem.GPA]uint32{}
	}
	i.msis[addr] = data
	return nil
}

// doorbells makes the guest's memory end below the addresses of MSIs.
func (r *rig) doorbells() {
	r.mem.FailWrites(guestmem.Range{GPA: 0, Len: 0x1000}, nil)
	r.mem.FailWrites(guestmem.Range{GPA: 0x8080000, Len: 0x10000}, nil)
}

// take returns the pulses since the last call.
func (i *irqs) take() []Line {
	i.mu.Lock()
	defer i.mu.Unlock()
	p := i.pulses
	i.pulses = nil
	return p
}

// log keeps log records.
type log struct {
	*slog.Logger
	mu  sync.Mutex
	buf bytes.Buffer
}

func newLog() *log {
	l := new(log)
	l.Logger = slog.New(slog.NewTextHandler(l, nil))
	return l
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// count is how many records there are.
func (l *log) count() int { return strings.Count(l.String(), "\n") }

// rig is a device with a recording host, and the guest that drives it.
type rig struct {
	testing.TB
	*Device
	mem  *guestmem.Fake
	host *record.Host
	irqs *irqs

	lastFates Counts[Fate]
}

func newRig(t testing.TB, change ...func(*Config)) *rig {
	r := &rig{TB: t, mem: new(guestmem.Fake), irqs: new(irqs)}
	cfg := Config{IDs: rigIDs, Memory: r.mem.Mapped(), Interrupts: r.irqs}
	for _, f := range change {
		f(&cfg)
	}
	r.host = newHost(cfg.IDs)
	d, err := New(cfg)
	require.NoError(t, err)
	r.Device = d
	t.Cleanup(func() { _ = d.Close() })
	return r
}

// newHost returns a host with the guest's features and FWB, which idr requires to offer stage 2.
func newHost(ids smmuv3.IDRegs) *record.Host {
	ids.Set(smmuv3.FWB, 1)
	return record.New(bridge.Capabilities{IDs: ids})
}

func (r *rig) r32(off uint64) uint32    { return uint32(r.Load(off, 4)) }
func (r *rig) w32(off uint64, v uint32) { r.Store(off, 4, uint64(v)) }
func (r *rig) w64(off uint64, v uint64) { r.Store(off, 8, v) }

// setup brings the device up as a driver does (§3.11): tables, queues, then the enables one after
// the other, each acknowledged.
func (r *rig) setup() {
	r.w64(smmuv3.RegSTRTAB_BASE, strtabAt)
	r.w32(smmuv3.RegSTRTAB_BASE_CFG, 8)
	r.w64(smmuv3.RegCMDQ_BASE, cmdqAt|8)
	r.w64(smmuv3.RegEVENTQ_BASE, eventqAt|4)
	r.w32(smmuv3.RegIRQ_CTRL, smmuv3.IRQ_CTRL_GERROR_IRQEN|smmuv3.IRQ_CTRL_EVENTQ_IRQEN)
	r.enable(smmuv3.CR0_CMDQEN)
	r.enable(smmuv3.CR0_CMDQEN | smmuv3.CR0_EVENTQEN)
	r.enable(smmuv3.CR0_CMDQEN | smmuv3.CR0_EVENTQEN | smmuv3.CR0_SMMUEN)
}

// driver returns a guest driver that uses the rig's queues and tables.
func (r *rig) driver() *vsmmutest.Guest {
	g := vsmmutest.NewGuest(r.mem, guestmem.Range{}, r.Device)
	g.Poll = r.idle
	q := smmuv3.QueueBase(r.Load(smmuv3.RegCMDQ_BASE, 8)).Queue(smmuv3.CommandSize, smmuv3.MaxQueueShift, 1<<44-1)
	g.CommandQueue = vsmmutest.Queue{At: guestmem.GPA(q.Addr), Log2Size: q.Log2Size}
	g.EventQueue = vsmmutest.Queue{At: eventqAt, Log2Size: 4}
	return g
}

// enable writes CR0 and waits for the acknowledgement.
func (r *rig) enable(cr0 uint32) {
	r.Helper()
	require.NoError(r, r.driver().SetCR0(cr0))
	r.idle()
}

// idle does all pending work, as the worker would.
func (r *rig) idle() {
	r.engine.Lock()
	defer r.engine.Unlock()
	for r.pending.Load() {
		r.turn(budget{left: budgetWorker})
	}
}

// turns runs the engine for n turns of the worker.
func (r *rig) turns(n int) {
	r.engine.Lock()
	defer r.engine.Unlock()
	for range n {
		r.turn(budget{left: budgetWorker})
	}
}

// everywhere is all of the guest's memory.
var everywhere = guestmem.Range{Len: 1 << 56}

// eventually waits for a condition that a driver would poll for.
func (r *rig) eventually(ok func() bool, what string) {
	r.Helper()
	if ok() {
		return
	}
	require.Eventually(r, ok, 2*time.Minute, 50*time.Microsecond, what)
}

// put places commands at the end of the queue without telling the device. It returns the CMDQ_PROD
// that submits them.
func (r *rig) put(cmds ...smmuv3.Command) uint32 {
	r.Helper()
	prod, err := r.driver().Place(cmds...)
	require.NoError(r, err)
	return prod
}

// run submits commands and waits until they are consumed or the queue stops.
func (r *rig) run(cmds ...smmuv3.Command) {
	r.Helper()
	prod := r.put(cmds...)
	r.w32(smmuv3.RegCMDQ_PROD, prod)
	r.idle()
	if err := r.driver().Wait(prod); err != nil {
		require.NotErrorIs(r, err, vsmmutest.ErrTimeout)
	}
}

// gerror returns the active errors.
func (r *rig) gerror() uint32 { return r.r32(smmuv3.RegGERROR) ^ r.r32(smmuv3.RegGERRORN) }

func (r *rig) ste(sid smmuv3.StreamID, words ...uint64) {
	r.mem.SetWords(strtabAt+64*guestmem.GPA(sid), words...)
}

// events takes all records from the event queue.
func (r *rig) events() []smmuv3.Event {
	r.Helper()
	all, err := r.driver().Events()
	require.NoError(r, err)
	return all
}

// binds returns the stages that the host was asked to bind since the last call.
func (r *rig) binds() (all []bridge.GuestStage) {
	for _, c := range r.host.Forget() {
		if c.Op == record.Bind {
			all = append(all, c.Stage)
		}
	}
	return all
}

// Commands as a guest writes them.
var (
	cmdSync    = smmuv3.Command{0x46}
	cmdSyncIRQ = smmuv3.Command{0x1046}
)

func cmdCfgiSTE(sid smmuv3.StreamID) smmuv3.Command {
	return smmuv3.Command{0x03 | uint64(sid)<<32, 1}
}

// Registers by their offsets (§6.2.1, §6.2.2).
const (
	cr0, cr0ack     = 0x20, 0x24
	gbpa            = 0x44
	irqCtrl, irqAck = 0x50, 0x54
	gerror, gerrorn = 0x60, 0x64
	cmdqBase        = 0x90
	cmdqProd        = 0x98
	cmdqCons        = 0x9c
	eventqBase      = 0xa0
	eventqProd      = 0x100a8
	eventqCons      = 0x100ac
)

func withATS(c *Config) { c.IDs.Set(smmuv3.ATS, 1) }

// withRIL adds range invalidation, and the features that SMMUv3.1 then requires (§2.9, §6.3.4).
func withRIL(c *Config) {
	c.IDs.AIDR = 1
	c.IDs.Set(smmuv3.RIL, 1)
	c.IDs.Set(smmuv3.HAD, c.IDs.Get(smmuv3.S1P))
	c.IDs.Set(smmuv3.XNX, c.IDs.Get(smmuv3.S2P))
}

// withDS adds 52-bit addresses with 4 KiB and 16 KiB, and the features that SMMUv3.3 requires.
func withDS(c *Config) {
	withRIL(c)
	c.IDs.AIDR = 3
	c.IDs.Set(smmuv3.BBML, 1)
	c.IDs.Set(smmuv3.E0PD, 1)
	c.IDs.Set(smmuv3.FWB, 1)
	c.IDs.Set(smmuv3.DS, 1)
}

// invalidated returns the commands in calls of Invalidate since the last call.
func (r *rig) invalidated() (all []smmuv3.Command) {
	for _, c := range r.host.Forget() {
		if c.Op == record.Invalidate {
			all = append(all, c.Commands...)
		}
	}
	return all
}

// tlbi is a TLBI_NH_ASID with an ASID of its own.
func tlbi(asid int) smmuv3.Command { return smmuv3.Command{0x11 | uint64(asid)<<48} }
