package vsmmu

import (
	"slices"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// model is the rig's SMMU once more: slow, obvious, written from the specification
// with its own literals, and doing one thing after the other. It reads the guest's
// memory, and never writes it: what the SMMU writes there it keeps in records.
type model struct {
	mem  *guestmem.Fake
	host hostMood

	reg     map[uint64]uint32 // by offset; the queue indices by that on page 1
	streams map[smmuv3.StreamID]bridge.GuestStage
	records map[uint64]smmuv3.Event // by address
	pulses  []Line
	msis    map[uint64]uint32

	last     smmuv3.Event // the event that others may be merged with,
	lastNext uint32       // and the index after it; ^0 for none
	suspect  bool         // the host may hold what was withdrawn
	gathered int          // invalidations since the host was last told

	tableBroken, queueBroken, msiBroken bool // reads of the stream table, writes of events and MSIs
}

// hostMood is what the host refuses.
type hostMood int

const (
	willing hostMood = iota
	rejectsTranslate
	failsInvalidate
)

func newModel(mem *guestmem.Fake) *model {
	return &model{
		mem: mem, reg: map[uint64]uint32{}, streams: map[smmuv3.StreamID]bridge.GuestStage{},
		records: map[uint64]smmuv3.Event{}, msis: map[uint64]uint32{}, lastNext: ^uint32(0),
	}
}

func (m *model) reg64(off uint64) uint64 { return uint64(m.reg[off]) | uint64(m.reg[off+4])<<32 }

func (m *model) enabled() bool { return m.reg[0x24]&1 != 0 }

// store is a 32-bit write by the guest, in the state where everything before has
// been done.
func (m *model) store(off uint64, v uint32) {
	if off == 0xa8 || off == 0xac {
		off += 0x10000 // §6.2.2: an alias
	}
	for _, w := range writable {
		if w.off == off && m.reg[0x20]&w.cr0 == 0 && m.reg[0x50]&w.irq == 0 {
			m.reg[off] = m.reg[off]&^w.mask | v&w.mask
		}
	}
	switch off {
	case 0x20: // CR0 §6.3.9: and CR0ACK, at once; SMMUEN first
		was := m.reg[0x20]
		m.reg[0x20], m.reg[0x24] = v&0xd, was&^1|v&1
		if (was^v)&1 != 0 {
			m.reconfigure()
		}
		m.reg[0x24] = v & 0xd
		if ^was&v&4 != 0 {
			m.lastNext = ^uint32(0)
		}
		m.consume()
	case 0x44: // GBPA §6.3.14.1: ignored without Update, which is clear again
		if v&(1<<31) != 0 {
			m.reg[0x44] = v & 0x001f3f1f
			if !m.enabled() {
				m.reconfigure()
			}
		}
	case 0x50: // IRQ_CTRL §6.3.16
		m.reg[0x50], m.reg[0x54] = v&5, v&5
	case 0x64: // GERRORN §6.3.20
		stopped := m.active(1)
		m.reg[0x64] = v & 0x1b5
		if stopped && !m.active(1) {
			m.reg[0x9c] &= 0x00ffffff
		}
		m.consume()
	case 0x98:
		m.consume()
	}
}

func (m *model) active(err uint32) bool { return (m.reg[0x60]^m.reg[0x64])&err != 0 }

// raise is an error becoming active (§7.5). MSI_GERROR_ABT_ERR signals nothing.
func (m *model) raise(err uint32) {
	if m.active(err) {
		return
	}
	m.reg[0x60] ^= err
	if m.reg[0x50]&1 != 0 && err != 1<<7 {
		m.signal(LineGError, m.reg64(0x68), m.reg[0x70], 1<<7)
	}
}

// signal is an interrupt: by wire, and by MSI if that has an address (§3.18). err
// is what tells that the MSI was aborted.
func (m *model) signal(line Line, addr uint64, data uint32, err uint32) {
	m.pulses = append(m.pulses, line)
	switch {
	case addr&0x00ff_ffff_ffff_fffc == 0:
	case m.msiBroken:
		m.raise(err)
	default:
		m.msis[addr&0x0000_0fff_ffff_fffc] = data
	}
}

// queue is how a queue's base and indices read (§3.5.1): the address of entry 0,
// log2 of the number of entries, and how many entries there are from CONS to PROD;
// more than fit if the indices make no sense.
func (m *model) queue(base, prod, cons uint64, entry uint64, most uint64) (addr uint64, log2, held uint32) {
	log2 = uint32(min(m.reg64(base)&31, most))
	size := max(entry<<log2, 32)
	addr = m.reg64(base) & 0x0000_0fff_ffff_ffff / size * size
	return addr, log2, (m.reg[prod] - m.reg[cons]) & (2<<log2 - 1)
}

// consume is Chapter 4.
func (m *model) consume() {
	for m.reg[0x24]&8 != 0 && !m.active(1) {
		addr, log2, held := m.queue(0x90, 0x98, 0x9c, 16, 19)
		if held == 0 || held > 1<<log2 {
			return
		}
		cons := m.reg[0x9c] & (2<<log2 - 1)
		c := m.mem.Words(guestmem.GPA(addr+16*uint64(cons&(1<<log2-1))), 2)
		if !m.execute(c[0], c[1]) {
			m.reg[0x9c] = cons | 1<<24 // CERROR_ILL, and RD stays on the command
			m.raise(1)
			return
		}
		m.reg[0x9c] = (cons + 1) & (2<<log2 - 1)
		if c[0]&0x30ff == 0x1046 {
			m.signal(LineCmdSync, c[1], uint32(c[0]>>32), 1<<4)
		}
	}
}

// execute carries a command out, up to its completion signal; false for an illegal
// one (§4.1.3).
func (m *model) execute(lo, hi uint64) (legal bool) {
	sid := smmuv3.StreamID(lo >> 32)
	_, attached := m.streams[sid]
	ssec := lo>>10&1 != 0
	switch lo & 0xff {
	case 0x01, 0x02: // PREFETCH_*: a hint
		return !ssec
	case 0x03: // CFGI_STE
		if ssec {
			return false
		}
		m.cfgi(sid, sid)
	case 0x04: // CFGI_STE_RANGE: 2^(Range+1) streams, aligned
		if ssec {
			return false
		}
		low := uint64(1)<<(hi&31+1) - 1
		m.cfgi(smmuv3.StreamID(lo>>32&^low), smmuv3.StreamID(lo>>32|low))
	case 0x05, 0x06: // CFGI_CD, CFGI_CD_ALL
		if ssec {
			return false
		}
		if attached {
			m.gather()
		}
	case 0x10, 0x11, 0x12, 0x13, 0x30: // TLBI_NH_*, TLBI_NSNH_ALL; no RIL here
		if len(m.streams) != 0 {
			m.gather()
		}
	case 0x46: // SYNC
		if lo>>12&3 == 3 {
			return false
		}
		m.flush()
	default:
		return false
	}
	return true
}

func (m *model) cfgi(first, last smmuv3.StreamID) {
	for _, sid := range m.order() {
		if first <= sid && sid <= last && m.follow(sid) {
			m.gather() // its CDs (§4.3.1)
		}
	}
}

// gather and flush are what the guest is owed at its next SYNC, and what comes of a
// host that fails it: the streams abort until it does not.
func (m *model) gather() {
	if m.suspect {
		return
	}
	if m.gathered++; m.gathered == 1024 {
		m.flush()
	}
}

func (m *model) flush() {
	if len(m.streams) == 0 || m.gathered == 0 && !m.suspect {
		return
	}
	m.gathered = 0
	if m.host == failsInvalidate {
		m.suspect = true
		for _, sid := range m.order() {
			if m.streams[sid].Disposition != bridge.Abort {
				m.abort(sid)
			}
		}
		return
	}
	if m.suspect {
		m.suspect = false
		m.reconfigure()
	}
}

func (m *model) order() []smmuv3.StreamID {
	var all []smmuv3.StreamID
	for sid := range m.streams {
		all = append(all, sid)
	}
	slices.Sort(all)
	return all
}

func (m *model) reconfigure() {
	for _, sid := range m.order() {
		m.follow(sid)
	}
}

// follow moves a stream to where the registers and the table say. It reports
// whether it was there.
func (m *model) follow(sid smmuv3.StreamID) (kept bool) {
	if m.suspect {
		return false
	}
	want := m.decide(sid)
	if want == m.streams[sid] {
		return true
	}
	if want.Disposition == bridge.Translate && m.host == rejectsTranslate {
		m.abort(sid)
		return false
	}
	m.streams[sid] = want
	return false
}

// abort is what becomes of a stream whose host does not play along. To the guest it
// has a bad STE.
func (m *model) abort(sid smmuv3.StreamID) {
	if !m.enabled() {
		m.streams[sid] = bridge.GuestStage{Disabled: true}
		return
	}
	m.streams[sid] = bridge.GuestStage{Cause: 0x04}
	m.event(smmuv3.Event{0x04 | uint64(sid)<<32})
}

// decide is §6.3.9.6, §3.3.1 and §5.2 for an SMMU with stage 1 only, no ATS, 16
// bits of StreamID, 10 of SubstreamID, 44 of address, and no stalls.
func (m *model) decide(sid smmuv3.StreamID) bridge.GuestStage {
	if !m.enabled() {
		if m.reg[0x44]>>20&1 != 0 {
			return bridge.GuestStage{Disabled: true}
		}
		return bridge.GuestStage{Disabled: true, Disposition: bridge.Bypass}
	}
	var noSTE bridge.GuestStage
	if m.reg[0x2c]&2 != 0 { // CR2.RECINVSID
		noSTE.Cause = 0x02
	}
	cfg := uint64(m.reg[0x88])
	base := m.reg64(0x80) & 0x0000_0fff_ffff_ffc0
	log2 := cfg & 63
	index := uint64(sid)
	if index>>min(log2, 16) != 0 {
		return noSTE
	}
	align := log2 + 6
	if cfg>>16&3 == 1 { // two levels
		split := cfg >> 6 & 31
		if split != 6 && split != 8 && split != 10 {
			split = 6
		}
		align = 6
		if log2 > split+3 {
			align = log2 - split + 3
		}
		l1 := base>>align<<align + 8*(index>>split)
		if m.tableBroken {
			return bridge.GuestStage{Cause: 0x03, FetchAddr: guestmem.GPA(l1)}
		}
		l1std := m.mem.Words(guestmem.GPA(l1), 1)[0]
		span := l1std & 31
		index &= 1<<split - 1
		if span == 0 || span > split+1 || index >= 1<<(span-1) {
			return noSTE
		}
		base, align = l1std&0x0000_0fff_ffff_ffc0, span-1+6
	}
	at := base>>align<<align + 64*index
	if m.tableBroken {
		return bridge.GuestStage{Cause: 0x03, FetchAddr: guestmem.GPA(at)}
	}
	return stageOf(m.mem.Words(guestmem.GPA(at), 2))
}

func stageOf(ste []uint64) bridge.GuestStage {
	bad := bridge.GuestStage{Cause: 0x04}
	if ste[0]&1 == 0 {
		return bad // V
	}
	switch ste[0] >> 1 & 7 {
	case 4:
		return bridge.GuestStage{Disposition: bridge.Bypass}
	case 6, 7:
		return bad
	case 5:
	default:
		return bridge.GuestStage{}
	}
	s := bridge.GuestStage{
		Disposition:  bridge.Translate,
		S1ContextPtr: guestmem.GPA(ste[0] & 0x00ff_ffff_ffff_ffc0),
		S1CDMax:      uint8(ste[0] >> 59),
		S1CIR:        uint8(ste[1] >> 2 & 3),
		S1COR:        uint8(ste[1] >> 4 & 3),
		S1CSH:        uint8(ste[1] >> 6 & 3),
	}
	if s.S1CDMax > 10 || s.S1ContextPtr>>44 != 0 || ste[1]>>27&1 != 0 {
		return bad
	}
	if s.S1CDMax != 0 {
		if f := ste[0] >> 4 & 3; f != 3 {
			s.S1Fmt = smmuv3.S1Fmt(f)
		}
		if d := ste[1] & 3; d != 3 {
			s.S1DSS = smmuv3.S1DSS(d)
		}
	}
	return s
}

// event is §7.2.1, §7.3.1 and §7.4.
func (m *model) event(ev smmuv3.Event) {
	if m.reg[0x24]&4 == 0 || m.active(4) {
		return
	}
	addr, log2, held := m.queue(0xa0, 0x100a8, 0x100ac, 32, 10)
	prod := m.reg[0x100a8] & (2<<log2 - 1)
	if held != 0 && held <= 1<<log2 && m.lastNext == prod && ev[1]>>31&1 == 0 {
		a, b := ev, m.last
		switch ev[0] & 0xff {
		case 0x07, 0x0b, 0x10, 0x11, 0x12, 0x13, 0x20:
			a[2], b[2] = a[2]>>12, b[2]>>12
		}
		if a == b {
			return
		}
	}
	if held >= 1<<log2 {
		m.reg[0x100a8] = m.reg[0x100a8]&0x7fffffff | ^m.reg[0x100ac]&0x80000000
		return
	}
	if m.queueBroken {
		m.raise(4)
		return
	}
	m.records[addr+32*uint64(prod&(1<<log2-1))] = ev
	next := (prod + 1) & (2<<log2 - 1)
	m.reg[0x100a8] = m.reg[0x100a8]&0x80000000 | next
	m.last, m.lastNext = ev, next
	if held == 0 && m.reg[0x50]&4 != 0 {
		m.signal(LineEventQ, m.reg64(0xb0), m.reg[0xb8], 1<<5)
	}
}

// hostEvent is an event from a host. One that says that an STE could not be fetched
// comes of a transaction, and the next one fetches again (§3.21.3).
func (m *model) hostEvent(ev smmuv3.Event) {
	m.event(ev)
	if ev[0]&0xff == 3 {
		for _, sid := range m.order() {
			if m.streams[sid].Cause == 3 {
				m.follow(sid)
			}
		}
	}
}

func (m *model) attach(sid smmuv3.StreamID) {
	m.streams[sid] = bridge.GuestStage{}
	if m.suspect {
		m.flush()
	} else {
		m.follow(sid)
	}
}

func (m *model) detach(sid smmuv3.StreamID) {
	if m.gathered != 0 {
		m.flush()
	}
	delete(m.streams, sid)
	if len(m.streams) == 0 {
		m.suspect, m.gathered = true, 0
	}
}

// reset is §3.11.
func (m *model) reset() {
	clear(m.reg)
	m.reg[0x00], m.reg[0x04], m.reg[0x14] = rigIDs.IDR[0], rigIDs.IDR[1], rigIDs.IDR[5]
	m.lastNext = ^uint32(0)
	m.reconfigure()
	if len(m.streams) != 0 {
		m.gathered = 1 // everything is invalidated
		m.flush()
	}
}
