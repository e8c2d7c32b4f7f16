package vsmmu

import (
	"slices"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/record"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// model is a second implementation of the rig's SMMU: slow, obvious, sequential, and written from
// the specification with its own literals. It reads the guest's memory and never writes it. records
// has the records that the SMMU writes there.
type model struct {
	mem  *guestmem.Fake
	ids  [6]uint32 // IDR0 to IDR5
	host hostMood
	features

	reg      map[uint64]uint32 // by offset; the queue indices by their offset on page 1
	streams  map[smmuv3.StreamID]bridge.GuestStage
	records  map[uint64]smmuv3.Event       // by address
	requests map[uint64]smmuv3.PageRequest // by address
	pulses   []Line
	msis     map[uint64]uint32

	reported map[stall]bool // stalled transactions in records; false if they stalled before a migration
	waiting  []stall        // stalled transactions to retry
	held     map[stall]bool // stalled transactions that the host holds
	answers  []record.Call  // the host's calls for stalls and page requests

	last      smmuv3.Event // the event that equal ones are merged into
	lastNext  uint32       // the index after it; ^0 for none
	outOfSync bool         // the host may hold stale translations

	due, sent []smmuv3.Command         // invalidations batched for the host, and executed by it
	usedATS   map[smmuv3.StreamID]bool // streams whose endpoint may hold translations

	tableBroken, queueBroken, msiBroken bool // reads of the stream table, writes of the queues and MSIs
}

// features are the differences from the rig's features.
type features struct {
	noS1   bool // IDR0.S1P = 0
	s2     bool // IDR0.S2P
	vmid16 bool
	pri    bool // and ATS, with a PRI queue of up to 2^4
	pps    bool // IDR3.PPS
	stalls bool // STALL_MODEL = 00, STALL_MAX = 2

	unmapped bool // Config.Memory is not a guestmem.Mapper
}

func (f features) config(c *Config) {
	c.IDs.Set(smmuv3.S1P, b2u(!f.noS1))
	c.IDs.Set(smmuv3.S2P, b2u(f.s2))
	c.IDs.Set(smmuv3.VMID16, b2u(f.vmid16))
	if f.pri {
		withPRI(c)
		c.IDs.Set(smmuv3.PPS, b2u(f.pps))
	}
	if f.stalls {
		c.IDs.Set(smmuv3.StallModel, smmuv3.StallBoth)
		c.IDs.Set(smmuv3.StallMax, 2)
	}
	if f.unmapped {
		c.Memory = struct{ guestmem.Memory }{c.Memory}
	}
}

func b2u(b bool) uint32 {
	if b {
		return 1
	}
	return 0
}

// hostMood selects the calls that the host refuses.
type hostMood int

const (
	willing hostMood = iota
	rejectsTranslate
	failsInvalidate
	failsAnswers
)

func newModel(mem *guestmem.Fake, ids smmuv3.IDRegs, f features) *model {
	return &model{
		mem: mem, ids: ids.IDR, features: f, reported: map[stall]bool{}, held: map[stall]bool{}, reg: map[uint64]uint32{}, streams: map[smmuv3.StreamID]bridge.GuestStage{},
		usedATS: map[smmuv3.StreamID]bool{},
		records: map[uint64]smmuv3.Event{}, requests: map[uint64]smmuv3.PageRequest{}, msis: map[uint64]uint32{}, lastNext: ^uint32(0),
	}
}

func (m *model) reg64(off uint64) uint64 { return uint64(m.reg[off]) | uint64(m.reg[off+4])<<32 }

func (m *model) enabled() bool { return m.reg[0x24]&1 != 0 }

// store is a 32-bit write by the guest, after all earlier work is done.
func (m *model) store(off uint64, v uint32) {
	if off == 0xa8 || off == 0xac || off == 0xc8 || off == 0xcc {
		off += 0x10000 // §6.2.2: an alias
	}
	words := writable
	if m.pri {
		words = append(words[:len(words):len(words)], writablePRI...)
	}
	for _, w := range words {
		if w.off == off && m.reg[0x20]&w.cr0 == 0 && m.reg[0x50]&w.irq == 0 {
			m.reg[off] = m.reg[off]&^w.mask | v&w.mask
		}
	}
	for _, q := range []struct{ base, prod, cons uint64 }{{0x90, 0x98, 0x9c}, {0xa0, 0x100a8, 0x100ac}, {0xc0, 0x100c8, 0x100cc}} {
		index := uint32(2<<(m.reg[q.base]&0x1f) - 1) // §6.3.27 and the like
		m.reg[q.prod] &= index | 1<<31
		m.reg[q.cons] &= index | 0xff<<24
	}
	switch off {
	case 0x20: // CR0 §6.3.9: and CR0ACK, at once; SMMUEN first
		was := m.reg[0x20]
		v &= 0xd | b2u(m.pri)*0x12 // PRIQEN, ATSCHK
		m.reg[0x20], m.reg[0x24] = v, was&^1|v&1
		if (was^v)&1 != 0 {
			m.reconfigure()
		}
		if was&^v&1 != 0 {
			m.endStalls()
		}
		m.reg[0x24] = v
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
		v &= 5 | b2u(m.pri)*2
		m.reg[0x50], m.reg[0x54] = v, v
	case 0x64: // GERRORN §6.3.20
		stopped := m.active(1)
		m.reg[0x64] = v & (0x1b5 | b2u(m.pri)*0x48)
		if stopped && !m.active(1) {
			m.reg[0x9c] &= 0x00ffffff
		}
		m.consume()
	case 0x98:
		m.consume()
	}
	m.retry()
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

// signal is an interrupt: by wire, and by MSI if that has an address (§3.18). err reports that the
// MSI aborted.
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

// queue returns how a queue's base and indices read (§3.5.1): the address of entry 0, log2 of the
// number of entries, and the number of entries from CONS to PROD. That is more than fit if the
// indices make no sense.
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

// execute executes a command, up to its completion signal. It returns false for an illegal one
// (§4.1.3).
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
		if ssec || m.noS1 {
			return false
		}
		if attached {
			m.batch(lo, hi)
		}
	case 0x10, 0x11: // TLBI_NH_ALL, TLBI_NH_ASID
		if m.noS1 {
			return false
		}
		m.batchAll(lo, hi)
	case 0x12, 0x13: // TLBI_NH_VA, TLBI_NH_VAA
		if m.noS1 {
			return false
		}
		m.batchAll(withoutRange(lo, hi))
	case 0x28: // TLBI_S12_VMALL
		if !m.s2 {
			return false
		}
		m.batchAll(lo, hi)
	case 0x2a: // TLBI_S2_IPA
		if !m.s2 {
			return false
		}
		m.batchAll(withoutRange(lo, hi))
	case 0x30: // TLBI_NSNH_ALL
		m.batchAll(lo, hi)
	case 0x40: // ATC_INV
		if !m.pri || hi&63 > 52 {
			return false
		}
		if attached && m.streams[sid].EATS != 0 { // §3.9.1, §6.3.9.6
			m.batch(lo, hi)
		}
	case 0x41: // PRI_RESP §4.5.2
		if !m.pri || hi>>12&3 == 3 {
			return false
		}
		if attached && m.enabled() {
			m.respond(sid, lo>>11&1 != 0, smmuv3.SubstreamID(lo>>12&0xfffff), uint16(hi&0x1ff), smmuv3.PRGResponse(hi>>12&3))
		}
	case 0x44: // RESUME §4.7.1
		if !m.stalls || ssec {
			return false
		}
		s := stall{sid, uint16(hi)}
		there := m.reported[s]
		delete(m.reported, s)
		if there {
			how := bridge.TerminateRAZWI
			if lo>>12&1 != 0 {
				how = bridge.Retry
			} else if lo>>13&1 != 0 {
				how = bridge.TerminateAbort
			}
			m.resume(s, how)
		}
	case 0x45: // STALL_TERM §4.7.2
		if !m.stalls || ssec {
			return false
		}
		if attached {
			m.endStallsOf(sid)
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

// withoutRange is a TLBI by address without NUM, SCALE, TG, TTL and TTL128. These fields are RES0,
// since the SMMU here has no RIL (§4.4.1.1).
func withoutRange(lo, hi uint64) (uint64, uint64) {
	return lo &^ (0x1f<<12 | 0x3f<<20), hi &^ (3<<10 | 3<<8 | 1<<7)
}

func (m *model) cfgi(first, last smmuv3.StreamID) {
	for _, sid := range m.order() {
		if first <= sid && sid <= last && m.follow(sid) && !m.noS1 {
			m.batch(0x06|uint64(sid)<<32, 0) // its CDs (§4.3.1)
		}
	}
}

// batch and flush keep what is due at the guest's next SYNC. If the host fails, no stream
// translates until it works again.
func (m *model) batch(lo, hi uint64) {
	if m.outOfSync {
		return
	}
	m.due = append(m.due, smmuv3.Command{lo, hi})
	if len(m.due) == 512 {
		m.flush()
	}
}

// batchAll batches a command that names no stream.
func (m *model) batchAll(lo, hi uint64) {
	if len(m.streams) != 0 {
		m.batch(lo, hi)
	}
}

func (m *model) flush() {
	switch {
	case len(m.streams) == 0:
	case m.outOfSync:
		m.resync()
	case len(m.due) == 0:
	case m.host == failsInvalidate:
		m.resync()
	default:
		m.sent, m.due = append(m.sent, m.due...), nil
	}
}

// resync invalidates everything that the host may hold for the guest.
func (m *model) resync() {
	was := m.outOfSync
	m.due, m.outOfSync = nil, m.host == failsInvalidate
	if m.outOfSync {
		for _, sid := range m.order() {
			if m.streams[sid].Disposition.Translates() {
				m.abort(sid)
			}
		}
		return
	}
	m.sent = append(m.sent, smmuv3.Command{0x30})
	for _, sid := range m.order() {
		if at := uint64(sid) << 32; !m.noS1 {
			m.sent = append(m.sent, smmuv3.Command{0x06 | at})
		}
		if at := uint64(sid) << 32; m.streams[sid].EATS != 0 { // without a SubstreamID, and of all (§4.5.1)
			m.sent = append(m.sent, smmuv3.Command{0x40 | at, 52}, smmuv3.Command{0x40 | 1<<9 | 1<<11 | at, 52})
		}
	}
	if was {
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

// follow makes a stream do what the registers and the table say. It reports whether the stream did
// so already.
func (m *model) follow(sid smmuv3.StreamID) (kept bool) {
	want := m.decide(sid)
	isATC := func(c smmuv3.Command) bool { return c[0]&0xff == 0x40 }
	used := m.streams[sid].EATS != 0
	if used && slices.ContainsFunc(m.due, isATC) {
		m.flush() // no ATC_INV for a stream without ATS
	}
	if want.Disposition.Translates() && m.outOfSync {
		m.abort(sid)
		return false
	}
	if want == m.streams[sid] {
		return true
	}
	if want.Disposition.Translates() && m.host == rejectsTranslate {
		m.abort(sid)
		return false
	}
	m.streams[sid] = want
	if !used && want.EATS != 0 && m.usedATS[sid] { // entries that the guest has invalidated since
		at := uint64(sid) << 32
		m.batch(0x40|at, 52)
		m.batch(0x40|1<<9|1<<11|at, 52)
		m.flush()
	}
	m.usedATS[sid] = m.usedATS[sid] || want.EATS != 0
	return false
}

// abort makes a stream abort whose host fails. To the guest its STE is bad.
func (m *model) abort(sid smmuv3.StreamID) {
	if !m.enabled() {
		m.streams[sid] = bridge.GuestStage{Disabled: true}
		return
	}
	m.streams[sid] = bridge.GuestStage{Cause: 0x04}
	m.event(smmuv3.Event{0x04 | uint64(sid)<<32})
}

// migrate puts another SMMU with another host in the place of this one. The old host's data of the
// guest is gone, and the guest is not notified.
func (m *model) migrate() {
	m.due, m.waiting, m.held = nil, nil, map[stall]bool{}
	for s := range m.reported {
		m.reported[s] = false
	}
	if m.outOfSync {
		m.outOfSync = false
		m.reconfigure()
	}
}

func (m *model) attach(sid smmuv3.StreamID) {
	m.streams[sid] = bridge.GuestStage{}
	if m.outOfSync {
		m.flush()
		if !m.outOfSync {
			return
		}
	}
	m.follow(sid)
}

func (m *model) detach(sid smmuv3.StreamID) {
	if len(m.due) != 0 {
		m.flush()
	}
	m.endStallsOf(sid)
	m.release(sid)
	delete(m.streams, sid)
	delete(m.usedATS, sid)
	if len(m.streams) == 0 {
		m.outOfSync, m.due = true, nil
	}
	m.retry()
}

// reset is §3.11.
func (m *model) reset() {
	clear(m.reg)
	for i, v := range m.ids {
		m.reg[4*uint64(i)] = v
	}
	m.lastNext = ^uint32(0)
	m.reconfigure()
	m.endStalls()
	if len(m.streams) != 0 {
		m.resync()
	}
}
