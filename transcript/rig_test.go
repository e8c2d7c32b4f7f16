package transcript

import (
	"bytes"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/record"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmu"
	"github.com/go-vsmmu/vsmmuv3/vsmmutest"
)

// The addresses of the guest's structures.
const (
	strtabAt = 0x100000 // linear, 256 STEs
	cmdqAt   = 0x200000 // 2^8 commands
	eventqAt = 0x300000 // 2^4 records
)

// guestIDs: IDR0 has S1P, TTF = AArch64, COHACC, ASID16, MSI, CD2L, STALL_MODEL
// = terminate, ST_LEVEL = 2-level; IDR1 has CMDQS 19, EVENTQS 10, SSIDSIZE 10,
// SIDSIZE 16; IDR5 has OAS = 44 bits and all granules.
var guestIDs = smmuv3.IDRegs{IDR: [6]uint32{0: 0x0908301a, 1: 0x026a0290, 5: 0x00000074}}

type wires struct{ fail error }

func (w wires) Pulse(vsmmu.Line) error               { return w.fail }
func (w wires) SignalMSI(guestmem.GPA, uint32) error { return w.fail }

// disk is a writer whose content can be read at any time.
type disk struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (d *disk) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.buf.Write(p)
}

func (d *disk) written() []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return bytes.Clone(d.buf.Bytes())
}

// guest is a driver of a recorded device.
type guest struct {
	testing.TB
	*Recorder
	file   disk
	mem    guestmem.Fake
	host   *record.Host
	driver *vsmmutest.Guest
}

func newGuest(t testing.TB, o Options) *guest { return newGuestOf(t, guestIDs, o) }

func newGuestOf(t testing.TB, ids smmuv3.IDRegs, o Options) *guest {
	g := &guest{TB: t}
	g.host = record.New(bridge.Capabilities{IDs: ids})
	cfg := vsmmu.Config{IDs: ids, Memory: &g.mem, Interrupts: wires{}, CheckReentry: true}
	r, err := Record(&g.file, cfg, o)
	require.NoError(t, err)
	g.Recorder = r
	g.driver = vsmmutest.NewGuest(&g.mem, guestmem.Range{GPA: cmdqAt - 0x10000, Len: 0x10000}, r)
	g.driver.Streams, err = vsmmutest.PlaceStreamTable(g.driver.RAM, strtabAt, 8, 0)
	require.NoError(t, err)
	g.driver.CommandQueue = vsmmutest.Queue{At: cmdqAt, Log2Size: 8}
	g.driver.EventQueue = vsmmutest.Queue{At: eventqAt, Log2Size: 4}
	t.Cleanup(func() { _ = r.Close() })
	return g
}

func (g *guest) w32(off uint64, v uint32) { g.Store(off, 4, uint64(v)) }
func (g *guest) w64(off uint64, v uint64) { g.Store(off, 8, v) }
func (g *guest) r32(off uint64) uint32    { return uint32(g.Load(off, 4)) }

func (g *guest) poll(what string, ok func() bool) {
	g.Helper()
	require.Eventually(g, ok, 2*time.Minute, 50*time.Microsecond, what)
}

func (g *guest) enable(cr0 uint32) { require.NoError(g, g.driver.SetCR0(cr0)) }

// up initialises the device as a driver does (§3.11).
func (g *guest) up() {
	g.Helper()
	g.Note("the driver probes")
	require.NoError(g, g.driver.Enable())
}

// submit queues commands and updates CMDQ_PROD.
func (g *guest) submit(cmds ...smmuv3.Command) (prod uint32) {
	g.Helper()
	prod, err := g.driver.Submit(cmds...)
	require.NoError(g, err)
	return prod
}

// run submits commands and polls until they are consumed or the queue stops.
func (g *guest) run(cmds ...smmuv3.Command) {
	g.Helper()
	if err := g.driver.Wait(g.submit(cmds...)); err != nil {
		require.NotZero(g, g.driver.ActiveErrors(), "%v", err)
	}
}

func (g *guest) ste(sid smmuv3.StreamID, words ...uint64) {
	g.mem.SetWords(strtabAt+64*guestmem.GPA(sid), words...)
}

func (g *guest) attach(sid smmuv3.StreamID) {
	require.NoError(g, g.Attach(sid, g.host, uint32(sid)))
}

func cfgiSTE(sid uint64) smmuv3.Command { return smmuv3.Command{0x03 | sid<<32, 1} }

var (
	cmdSync    = smmuv3.Command{0x46}
	cmdSyncIRQ = smmuv3.Command{0x1046}
)

// translation returns F_TRANSLATION of a read.
func translation(sid uint64, addr uint64) smmuv3.Event {
	return smmuv3.Event{0x10 | sid<<32, 0x208_0000_0000, addr}
}

// takeEvents consumes all records of the event queue.
func (g *guest) takeEvents() {
	prod := g.r32(smmuv3.RegEVENTQ_PROD)
	g.w32(smmuv3.RegEVENTQ_CONS, prod)
}

// closed ends the recording and returns its bytes.
func (g *guest) closed() []byte {
	g.Helper()
	require.NoError(g, g.Close())
	return g.file.written()
}

// session is the life of a guest with most kinds of entries.
func session(g *guest) {
	g.attach(0x10)
	g.attach(0x21)
	g.up()
	g.Note("streams are bound")
	g.ste(0x10, 0x40000b, 0xc00000b4)            // V, Config = S1, S1ContextPtr
	g.ste(0x21, 0x28000000_0040100b, 0xc00000b6) // S1CDMax = 5, S1DSS = substream 0
	g.run(cfgiSTE(0x10), cmdSync)
	g.run(cfgiSTE(0x21), cmdSync, cmdSyncIRQ)
	for i := range uint64(300) { // once around the queue
		g.run(smmuv3.Command{0x12 | 5<<48, i<<12 | 1}, cmdSync)
	}
	g.Note("faults")
	g.DMA(0x10, false, 0x5bad0000, 64, errors.New("terminated"))
	g.host.Emit(translation(0x10, 0x5bad0000))
	g.host.Emit(translation(0x10, 0x5bad0040)) // is merged
	g.takeEvents()
	for i := range uint64(20) { // overflows the queue
		g.host.Emit(translation(0x21, i<<12))
	}
	g.takeEvents()
	g.ste(0x10, 0x3f) // ILLEGAL: Config needs stage 2
	g.run(cfgiSTE(0x10), cmdSync)
	g.run(smmuv3.Command{0x99}) // reserved: stops the queue
	require.NoError(g, g.driver.SkipCommand())
	g.run(cmdSync)
	g.Note("the guest resets")
	require.NoError(g, g.Detach(0x21))
	require.Error(g, g.Detach(0x21))
	g.enable(0)
	require.NoError(g, g.Reset())
}
