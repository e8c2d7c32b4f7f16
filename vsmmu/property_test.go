package vsmmu

import (
	"flag"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/record"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// TestMain makes property tests draw many long sequences, unless flags say otherwise.
func TestMain(m *testing.M) {
	for name, value := range map[string]string{"rapid.checks": "500", "rapid.steps": "100"} {
		if err := flag.Set(name, value); err != nil {
			panic(err)
		}
	}
	m.Run()
}

// A random guest uses these addresses for its structures, which do not overlap, and these
// StreamIDs. One StreamID is beyond some tables.
var (
	anyBase    = rapid.SampledFrom([]uint64{0x100000, 0x110040})
	anyCMDQ    = rapid.SampledFrom([]uint64{0x200000, 0x210020, 0x220100})
	anyEVENTQ  = rapid.SampledFrom([]uint64{0x300000, 0x310020})
	anyPRIQ    = rapid.SampledFrom([]uint64{0x600000, 0x610020})
	anyBeyond  = rapid.SampledFrom([]uint64{0, 0, 0, 0x0085_5000_0000_0000}) // above the output size, to which it is cut (§3.4.3)
	anySID     = rapid.SampledFrom([]smmuv3.StreamID{0, 1, 3, 63, 64, 255, 300, 0x10000})
	anyMSI     = rapid.SampledFrom([]uint64{0, 0x500000, 0x500004, 0xff00_0000_0050_0008, 0x0080_0000_0050_000c})
	anyCommand = rapid.Custom(func(t *rapid.T) smmuv3.Command {
		sid := uint64(anySID.Draw(t, "sid")) << 32
		stag := uint64(rapid.IntRange(0, 2).Draw(t, "STAG"))
		switch rapid.IntRange(0, 18).Draw(t, "command") {
		case 0, 1:
			return smmuv3.Command{0x03 | sid}
		case 2:
			return smmuv3.Command{0x04 | sid, uint64(rapid.IntRange(0, 31).Draw(t, "range"))}
		case 3:
			return smmuv3.Command{0x05 | sid}
		case 4, 5: // with range fields, which are RES0
			op := rapid.SampledFrom([]uint64{0x10, 0x11, 0x12, 0x13}).Draw(t, "TLBI_NH_*")
			return smmuv3.Command{op | sid | rapid.SampledFrom([]uint64{0, 1 << 12, 0x3f << 20}).Draw(t, "NUM, SCALE"),
				0x1000 | rapid.SampledFrom([]uint64{0, 1, 0xf << 8, 1 << 7}).Draw(t, "Leaf, TTL, TG")}
		case 6:
			return smmuv3.Command{0x30}
		case 7:
			return smmuv3.Command{0x1046, anyMSI.Draw(t, "msi")}
		case 8:
			return smmuv3.Command{rapid.Uint64Range(0, 255).Draw(t, "opcode") | uint64(rapid.IntRange(0, 3).Draw(t, "cs"))<<12}
		case 9:
			return smmuv3.Command{0x06 | sid | 1<<10}
		case 10:
			return smmuv3.Command{0x40 | sid, rapid.SampledFrom([]uint64{0, 12, 52, 53}).Draw(t, "size")}
		case 11:
			return smmuv3.Command{0x41 | 0x5<<12 | sid | rapid.SampledFrom([]uint64{0, 1 << 11}).Draw(t, "SSV"),
				7 | rapid.SampledFrom([]uint64{0, 1, 2, 2, 2, 3}).Draw(t, "response")<<12}
		case 12, 13:
			return smmuv3.Command{0x44 | sid | uint64(rapid.IntRange(0, 3).Draw(t, "Ab, Ac"))<<12, stag}
		case 14:
			return smmuv3.Command{0x45 | sid}
		case 15:
			return smmuv3.Command{0x2a | uint64(anyVMID.Draw(t, "VMID"))<<32 | rapid.SampledFrom([]uint64{0, 1 << 20}).Draw(t, "SCALE"),
				rapid.SampledFrom([]uint64{0x1000, 0x1001, 0x1400}).Draw(t, "Addr, Leaf, TG")}
		case 16:
			return smmuv3.Command{0x28 | uint64(anyVMID.Draw(t, "VMID"))<<32}
		}
		return smmuv3.Command{0x46}
	})
	anyEvent = rapid.Custom(func(t *rapid.T) smmuv3.Event {
		return smmuv3.Event{
			rapid.SampledFrom([]uint64{0x01, 0x03, 0x04, 0x07, 0x0a, 0x10, 0x13, 0x20, 0xff}).Draw(t, "type") | uint64(anySID.Draw(t, "sid"))<<32,
			rapid.SampledFrom([]uint64{0, 0, 1 << 35, 1 << 31, 1<<31 | 1, 1<<31 | 2}).Draw(t, "dw1"),
			rapid.SampledFrom([]uint64{0x1000, 0x1008, 0x2000}).Draw(t, "address"),
		}
	})
)

// anyRequest is a page request of a stream, or a stop marker.
var anyRequest = rapid.Custom(func(t *rapid.T) smmuv3.PageRequest {
	flags := rapid.SampledFrom([]uint64{1 << 60, 3 << 60, 5 << 60, 7 << 60, 1<<63 | 5<<60, 1<<63 | 1<<60, 1<<63 | 4<<60, 0x3f << 52, 0xfff << 52}).Draw(t, "flags")
	return smmuv3.PageRequest{
		flags | uint64(rapid.IntRange(0, 9).Draw(t, "ssid"))<<32 | uint64(anySID.Draw(t, "sid")),
		rapid.SampledFrom([]uint64{5, 0x7005, 0xffff_ffff_ffff_ffff}).Draw(t, "dw1"),
	}
})

// TestDeviceIsTheModel makes a guest, a host and an embedder take random actions, and compares the
// device with the model after each step: every register, stream, record, interrupt and
// invalidation.
func TestDeviceIsTheModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		f := anyFeatures.Draw(rt, "features")
		p := newPair(t, f)
		defer p.Close()
		rt.Repeat(p.actions())
	})
}

func (p *pair) actions() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"":            p.compare,
		"set up":      p.setUp,
		"boot":        p.boot,
		"configure":   p.configure,
		"store":       p.anyStore,
		"commands":    p.commands,
		"more":        p.commands,
		"STE":         p.anySTE,
		"L1STD":       p.anyL1STD,
		"events":      p.anyEvents,
		"consume":     p.consumeEvents,
		"requests":    p.anyRequests,
		"take":        p.takeRequests,
		"acknowledge": func(*rapid.T) { p.store(gerrorn, p.r32(gerror)) },
		"attach":      p.attach,
		"mood":        p.mood,
		"broken":      p.broken,
		"reset":       p.reset,
		"GBPA": func(t *rapid.T) {
			p.store(gbpa, rapid.SampledFrom([]uint32{1 << 31, 1<<31 | 1<<20, 1 << 20}).Draw(t, "GBPA"))
		},
		"disable":     func(*rapid.T) { p.store(cr0, 0) },
		"look at all": func(t *rapid.T) { p.push(t, smmuv3.Command{0x04, 31}, smmuv3.Command{0x46}) },
	}
}

// pair is a device and its model, which get the same input.
type pair struct {
	*rig
	model *model
}

func newPair(t *testing.T, f features) *pair {
	p := &pair{rig: newRig(t, f.config)}
	p.model = newModel(p.mem, p.Device.IDs(), f)
	p.model.reset()
	p.bases()
	p.host.FailWith(p.fails)
	return p
}

// fails is how the host fails.
func (p *pair) fails(c record.Call) error {
	switch {
	case p.model.host == rejectsTranslate && c.Stage.Disposition.Translates():
		return bridge.ErrRejected
	case p.model.host == failsInvalidate && c.Op == record.Invalidate,
		p.model.host == failsAnswers && isAnswer(c):
		return errAgain
	}
	return nil
}

// isAnswer reports whether a call is about stalls or page requests.
func isAnswer(c record.Call) bool {
	return c.Op == record.Respond || c.Op == record.Resume || c.Op == record.TerminateStalled
}

func (p *pair) store(off uint64, v uint32) {
	p.w32(off, v)
	p.idle()
	p.model.store(off, v)
}

func (p *pair) store64(off uint64, v uint64) {
	p.w64(off, v)
	p.idle()
	p.model.store(off, uint32(v))
	p.model.store(off+4, uint32(v>>32))
}

func (p *pair) compare(t *rapid.T) {
	p.idle()
	for off := uint64(0); off < 0x100; off += 4 {
		want := p.model.reg[off]
		if off == 0xa8 || off == 0xac || off == 0xc8 || off == 0xcc {
			want = p.model.reg[off+0x10000]
		}
		if got := p.r32(off); got != want {
			t.Fatalf("register %#x is %#x, and should be %#x", off, got, want)
		}
	}
	for sid, want := range p.model.streams {
		if got, ok := p.host.Stage(sid); !ok || got != want {
			t.Fatalf("stream %v does %v, and should do %v", sid, got, want)
		}
	}
	for addr, ev := range p.model.records {
		if got := smmuv3.Event(p.mem.Words(guestmem.GPA(addr), 4)); got != ev {
			t.Fatalf("record at %#x is %v, and should be %v", addr, got, ev)
		}
	}
	for addr, want := range p.model.msis {
		if got := uint32(p.mem.Words(guestmem.GPA(addr&^7), 1)[0] >> (8 * (addr & 4))); got != want {
			t.Fatalf("message at %#x is %#x, and should be %#x", addr, got, want)
		}
	}
	if got, want := fmt.Sprint(p.irqs.take()), fmt.Sprint(p.model.pulses); got != want {
		t.Fatalf("interrupts are %v, and should be %v", got, want)
	}
	p.model.pulses = nil
	for addr, r := range p.model.requests {
		if got := smmuv3.PageRequest(p.mem.Words(guestmem.GPA(addr), 2)); got != r {
			t.Fatalf("request at %#x is %x, and should be %x", addr, got, r)
		}
	}
	var answers []record.Call
	var sent []smmuv3.Command
	for _, c := range p.host.Forget() {
		switch {
		case isAnswer(c):
			c.Err = nil
			answers = append(answers, c)
		case c.Op == record.Invalidate && c.Err == nil:
			sent = append(sent, c.Commands...)
		}
	}
	if !slices.Equal(sent, p.model.sent) {
		t.Fatalf("invalidations are %x, and should be %x", sent, p.model.sent)
	}
	p.model.sent = nil
	if got, want := fmt.Sprint(answers), fmt.Sprint(p.model.answers); got != want {
		t.Fatalf("answers are %v, and should be %v", got, want)
	}
	p.model.answers = nil
	for s, held := range p.model.held {
		if p.model.stalls && p.host.Stalled(s.sid, s.stag) != held {
			t.Fatalf("stalled is %v: %t, and should be %t", s, !held, held)
		}
	}
}

// bases puts the queues and the table in different places: at reset all are at 0.
func (p *pair) bases() {
	p.store64(0x80, 0x100000)
	p.store64(0x90, 0x200000)
	p.store64(0xa0, 0x300000)
	p.store64(0xc0, 0x600000)
}

// setUp does what a driver does, in an order that mostly works.
func (p *pair) setUp(t *rapid.T) {
	p.store64(0x80, anyBase.Draw(t, "table")|anyBeyond.Draw(t, "beyond"))
	p.store(0x88, rapid.SampledFrom([]uint32{8, 9, 63, 1<<16 | 8<<6 | 9, 1<<16 | 6<<6 | 16, 1<<16 | 7<<6 | 20, 2<<16 | 4}).Draw(t, "STRTAB_BASE_CFG"))
	p.store(0x2c, rapid.SampledFrom([]uint32{0, 2}).Draw(t, "CR2"))
	p.store64(0x90, anyCMDQ.Draw(t, "commands")|anyBeyond.Draw(t, "beyond")|uint64(rapid.IntRange(0, 5).Draw(t, "CMDQ size")))
	p.store64(0xa0, anyEVENTQ.Draw(t, "events")|anyBeyond.Draw(t, "beyond")|uint64(rapid.IntRange(0, 4).Draw(t, "EVENTQ size")))
	p.store(cmdqCons, p.r32(cmdqProd))
	p.store(eventqProd, p.r32(eventqCons))
	p.store64(0xc0, anyPRIQ.Draw(t, "requests")|anyBeyond.Draw(t, "beyond")|uint64(rapid.IntRange(0, 3).Draw(t, "PRIQ size")))
	p.store(priqProd, p.r32(priqCons))
	p.store64(0xd0, anyMSI.Draw(t, "PRIQ MSI"))
	p.store(0xd8, 0x3333)
	p.store(0xdc, rapid.SampledFrom([]uint32{0, 1 << 31}).Draw(t, "PRIQ_IRQ_CFG2"))
	p.store64(0x68, anyMSI.Draw(t, "GERROR MSI"))
	p.store64(0xb0, anyMSI.Draw(t, "EVENTQ MSI"))
	p.store(0x70, 0x1111)
	p.store(0xb8, 0x2222)
	p.store(irqCtrl, uint32(rapid.SampledFrom([]int{7, 7, 5, 1, 4, 0}).Draw(t, "IRQ_CTRL")))
	p.store(cr0, uint32(rapid.SampledFrom([]int{0xf, 0xf, 0xf, 0xd, 0xe, 0xb, 0xc, 0x9, 1}).Draw(t, "CR0")))
}

// boot does what every driver does, with some endpoints attached, from a clean state.
func (p *pair) boot(*rapid.T) {
	p.store(cr0, 0)
	p.store(irqCtrl, 0)
	p.store64(0x80, 0x100000)
	p.store(0x88, 9)
	p.store64(0x90, 0x200000|5)
	p.store64(0xa0, 0x300000|4)
	p.store64(0xc0, 0x600000|3)
	p.store(cmdqCons, p.r32(cmdqProd))
	p.store(eventqProd, p.r32(eventqCons))
	p.store(priqProd, p.r32(priqCons))
	p.store(gerrorn, p.r32(gerror))
	p.store(irqCtrl, 7)
	p.store(cr0, 0xf)
	for _, sid := range []smmuv3.StreamID{0, 3, 64} {
		if _, attached := p.model.streams[sid]; !attached {
			p.plug(sid)
		}
	}
}

// configure writes an STE for an attached stream, where a linear table has it, and sends the
// commands for it.
func (p *pair) configure(t *rapid.T) {
	if len(p.model.streams) == 0 {
		return
	}
	sid := rapid.SampledFrom(p.model.order()).Draw(t, "sid")
	w := anySTE.Draw(t, "STE")
	p.mem.SetWords(guestmem.GPA(p.model.reg64(0x80)&0xfff_ffff_c000+64*uint64(sid)), w[:]...)
	p.push(t, cmdCfgiSTE(sid), cmdSync)
}

// anyStore is a store to a register that holds no address.
func (p *pair) anyStore(t *rapid.T) {
	off := rapid.SampledFrom([]uint64{
		0x00, 0x04, 0x20, 0x24, 0x28, 0x2c, 0x44, 0x50, 0x60, 0x64, 0x70, 0x74, 0x98, 0x9c, 0xa8, 0xac, 0xb8, 0xbc, 0x100a8, 0x100ac, 0xc8, 0xcc, 0xd8, 0xdc, 0x100c8, 0x100cc,
	}).Draw(t, "register")
	p.store(off, rapid.OneOf(rapid.Uint32Range(0, 63), rapid.Uint32()).Draw(t, "value"))
}

// push adds commands to the queue, and tells the device.
func (p *pair) push(_ *rapid.T, cmds ...smmuv3.Command) {
	q := smmuv3.QueueBase(p.Load(cmdqBase, 8)).Queue(16, 19, 1<<44-1)
	prod := smmuv3.Index(p.r32(cmdqProd))
	for _, c := range cmds {
		p.mem.SetWords(guestmem.GPA(q.Entry(prod)), c[0], c[1])
		prod = q.Next(prod, 1)
	}
	p.store(cmdqProd, uint32(prod))
}

func (p *pair) commands(t *rapid.T) {
	p.push(t, rapid.SliceOfN(anyCommand, 1, 12).Draw(t, "commands")...)
}

func (p *pair) anySTE(t *rapid.T) {
	for range 3 {
		base, sid, w := anyBase.Draw(t, "table"), anySID.Draw(t, "sid"), anySTE.Draw(t, "STE")
		p.mem.SetWords(guestmem.GPA(base&^0x3fff+64*uint64(sid&0x3ff)), w[:]...)
	}
}

// anyL1STD writes level-1 descriptors to the start of a stream table.
func (p *pair) anyL1STD(t *rapid.T) {
	l2 := anyBase.Draw(t, "level 2") | anyBeyond.Draw(t, "beyond")
	span := uint64(rapid.IntRange(0, 12).Draw(t, "span"))
	p.mem.SetWords(guestmem.GPA(anyBase.Draw(t, "table")&^0x3fff+8*uint64(rapid.IntRange(0, 4).Draw(t, "index"))), l2|span)
}

func (p *pair) anyEvents(t *rapid.T) {
	if len(p.model.streams) == 0 {
		return // no sink for events is set yet
	}
	for _, ev := range rapid.SliceOfN(anyEvent, 1, 20).Draw(t, "events") {
		p.host.Emit(ev)
		p.idle()
		p.model.hostEvent(ev)
	}
}

func (p *pair) anyRequests(t *rapid.T) {
	if !p.model.pri || len(p.model.streams) == 0 {
		return // no sink for page requests is set
	}
	for _, r := range rapid.SliceOfN(anyRequest, 1, 8).Draw(t, "requests") {
		p.host.Request(r)
		p.model.pageRequest(r)
	}
}

func (p *pair) takeRequests(t *rapid.T) {
	prod, cons := p.r32(priqProd), p.r32(priqCons)
	p.store(priqCons, rapid.SampledFrom([]uint32{prod, prod &^ overflow, (cons + 1) & 0x1f, prod ^ overflow}).Draw(t, "CONS"))
}

func (p *pair) consumeEvents(t *rapid.T) {
	prod, cons := p.r32(eventqProd), p.r32(eventqCons)
	p.store(eventqCons, rapid.SampledFrom([]uint32{prod, prod &^ overflow, (cons + 1) & 0x7ff, prod ^ overflow}).Draw(t, "CONS"))
}

// attach attaches a stream, or detaches it if it is attached.
func (p *pair) attach(t *rapid.T) {
	sid := anySID.Draw(t, "sid")
	if _, attached := p.model.streams[sid]; attached {
		if err := p.Detach(sid); err != nil {
			t.Fatal(err)
		}
		p.model.detach(sid)
		return
	}
	if sid == 0x10000 { // beyond IDR1.SIDSIZE
		if p.Attach(sid, p.host, sid) == nil {
			t.Fatalf("attach of %v", sid)
		}
		return
	}
	p.plug(sid)
}

func (p *pair) plug(sid smmuv3.StreamID) {
	require.NoError(p, p.Attach(sid, p.host, sid))
	p.model.attach(sid)
}

func (p *pair) mood(t *rapid.T) {
	p.model.host = rapid.SampledFrom([]hostMood{willing, willing, rejectsTranslate, failsInvalidate, failsAnswers}).Draw(t, "mood")
}

func (p *pair) broken(t *rapid.T) {
	p.mem.Heal()
	p.model.tableBroken = rapid.Bool().Draw(t, "table")
	p.model.queueBroken = rapid.Bool().Draw(t, "event queue")
	p.model.msiBroken = rapid.Bool().Draw(t, "messages")
	if p.model.msiBroken {
		p.mem.FailWrites(guestmem.Range{GPA: 0x500000, Len: 0x1000}, guestmem.ErrReadOnly)
	}
	if p.model.tableBroken {
		p.mem.FailReads(guestmem.Range{GPA: 0, Len: 0x200000}, nil)
		p.mem.FailReads(guestmem.Range{GPA: 0x300000, Len: 1 << 44}, nil)
	}
	if p.model.queueBroken {
		p.mem.FailWrites(guestmem.Range{GPA: 0x300000, Len: 0x100000}, nil)
		p.mem.FailWrites(guestmem.Range{GPA: 0x600000, Len: 0x100000}, nil)
	}
}

func (p *pair) reset(t *rapid.T) {
	err := p.Reset()
	p.model.reset()
	if stale := p.model.host == failsInvalidate && len(p.model.streams) != 0; stale != (err != nil) {
		t.Fatal(err)
	}
	p.bases()
}
