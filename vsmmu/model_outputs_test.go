package vsmmu

import (
	"maps"
	"slices"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/record"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// event implements §7.2.1, §7.3.1 and §7.4. It reports whether there is a new record.
func (m *model) event(ev smmuv3.Event) (recorded bool) {
	if m.reg[0x24]&4 == 0 || m.active(4) {
		return false
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
			return false
		}
	}
	if held >= 1<<log2 {
		m.reg[0x100a8] = m.reg[0x100a8]&0x7fffffff | ^m.reg[0x100ac]&0x80000000
		return false
	}
	if m.queueBroken {
		m.raise(4)
		return false
	}
	m.records[addr+32*uint64(prod&(1<<log2-1))] = ev
	next := (prod + 1) & (2<<log2 - 1)
	m.reg[0x100a8] = m.reg[0x100a8]&0x80000000 | next
	m.last, m.lastNext = ev, next
	if held == 0 && m.reg[0x50]&4 != 0 {
		m.signal(LineEventQ, m.reg64(0xb0), m.reg[0xb8], 1<<5)
	}
	return true
}

// hostEvent handles an event from a host. An F_STE_FETCH makes the next transaction fetch the STE
// again (§3.21.3).
func (m *model) hostEvent(ev smmuv3.Event) {
	if m.stalls && ev[1]>>31&1 != 0 {
		m.stall(ev)
	} else {
		m.event(ev)
	}
	if ev[0]&0xff == 3 {
		for _, sid := range m.order() {
			if m.streams[sid].Cause == 3 {
				m.follow(sid)
			}
		}
	}
}

// stall handles a transaction that stalls (§3.12.2). If it cannot be reported now, it is retried
// when it can (§7.2.1).
func (m *model) stall(ev smmuv3.Event) {
	s := stall{smmuv3.StreamID(ev[0] >> 32), uint16(ev[1])}
	m.held[s] = true
	if !m.enabled() {
		return // SMMUEN ends it
	}
	if m.reportable(s) && m.event(ev) {
		m.reported[s] = true
		return
	}
	m.waiting = append(m.waiting, s)
	m.retry()
}

// reportable reports whether a stall may be recorded now: no more than STALL_MAX at a time, no STAG
// of a stream twice, and only where the event queue is writable.
func (m *model) reportable(s stall) bool {
	_, log2, held := m.queue(0xa0, 0x100a8, 0x100ac, 32, 10)
	_, again := m.reported[s]
	return len(m.reported) < 2 && !again && m.reg[0x24]&4 != 0 && !m.active(4) && held < 1<<log2
}

func (m *model) retry() {
	for i := slices.IndexFunc(m.waiting, m.reportable); i >= 0; i = slices.IndexFunc(m.waiting, m.reportable) {
		s := m.waiting[i]
		m.waiting = slices.Delete(m.waiting, i, i+1)
		m.resume(s, bridge.Retry)
	}
}

// resume and endStallsOf call the host of an attached stream. If the call fails, the transactions
// stay stalled.
func (m *model) resume(s stall, how bridge.Resumption) {
	if _, attached := m.streams[s.sid]; !attached {
		return
	}
	m.answers = append(m.answers, record.Call{Op: record.Resume, StreamID: s.sid, STAG: s.stag, How: how})
	if m.host != failsAnswers {
		delete(m.held, s)
	}
}

func (m *model) endStallsOf(sid smmuv3.StreamID) {
	if !m.stalls {
		return
	}
	ofStream := func(s stall) bool { return s.sid == sid }
	maps.DeleteFunc(m.reported, func(s stall, _ bool) bool { return ofStream(s) })
	m.waiting = slices.DeleteFunc(m.waiting, ofStream)
	m.answers = append(m.answers, record.Call{Op: record.TerminateStalled, StreamID: sid})
	if m.host != failsAnswers {
		m.release(sid)
	}
}

// release makes the host end the stalled transactions of a stream.
func (m *model) release(sid smmuv3.StreamID) {
	maps.DeleteFunc(m.held, func(s stall, _ bool) bool { return s.sid == sid })
}

// endStalls implements SMMUEN becoming 0 (§6.3.9.6), and reset.
func (m *model) endStalls() {
	clear(m.reported)
	m.waiting = nil
	for _, sid := range m.order() {
		m.endStallsOf(sid)
	}
}

// respond answers a group of page requests.
func (m *model) respond(sid smmuv3.StreamID, ssv bool, ssid smmuv3.SubstreamID, group uint16, code smmuv3.PRGResponse) {
	r := bridge.PageResponse{StreamID: sid, PRGIndex: group, Response: code}
	if ssv {
		r.SSV, r.SubstreamID = true, ssid
	}
	m.answers = append(m.answers, record.Call{Op: record.Respond, StreamID: sid, Response: r})
}

// pageRequest implements Chapter 8. Page requests come from any stream of the host. A request that
// is not recorded gets the answer of the figure in §8.2.
func (m *model) pageRequest(r smmuv3.PageRequest) {
	sid, ssid, group := smmuv3.StreamID(r[0]), smmuv3.SubstreamID(r[0]>>32&0xfffff), uint16(r[1]&0x1ff)
	ssv, last := r[0]>>63 != 0, r[0]>>62&1 != 0
	r[0], r[1] = r[0]&0xfc0f_ffff_ffff_ffff, r[1]&0xffff_ffff_ffff_f1ff
	if !ssv {
		r[0] &= 0x7000_0000_ffff_ffff
	}
	stop := ssv && r[0]>>60&7 == 4 // Last, neither W nor R: a marker, which is not answered
	answer := func(ssv bool, code smmuv3.PRGResponse) {
		if !stop {
			m.respond(sid, ssv, ssid, group, code)
		}
	}
	addr, log2, held := m.queue(0xc0, 0x100c8, 0x100cc, 16, 4)
	onlyLast := m.reg[0xdc]>>31 != 0
	interrupt := func() {
		if m.reg[0x50]&2 != 0 {
			m.signal(LinePRIQ, m.reg64(0xd0), m.reg[0xd8], 1<<6)
		}
	}
	switch {
	case m.reg[0x24]&3 != 3 || m.active(8): // §6.3.9.5, §8.2
		answer(false, 0)
	case held >= 1<<log2 || (m.reg[0x100c8]^m.reg[0x100cc])>>31 != 0: // §8.1
		m.reg[0x100c8] = m.reg[0x100c8]&0x7fffffff | ^m.reg[0x100cc]&0x80000000
		if onlyLast && last {
			interrupt()
		}
		if !last {
			return
		}
		if !ssv || m.pps {
			answer(ssv, 2)
			return
		}
		ste, _ := m.lookup(sid)
		if ste == nil || m.stageOf(ste).Cause != 0 {
			answer(false, 0)
			return
		}
		answer(ste[1]>>18&1 != 0, 2) // PPAR
	case m.queueBroken:
		m.raise(8)
		answer(false, 0)
	default:
		prod := m.reg[0x100c8] & (2<<log2 - 1)
		m.requests[addr+16*uint64(prod&(1<<log2-1))] = r
		m.reg[0x100c8] = m.reg[0x100c8]&0x80000000 | (prod+1)&(2<<log2-1)
		if onlyLast && last || !onlyLast && held == 0 {
			interrupt()
		}
	}
}
