package vsmmu

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/record"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

var errAgain = errors.New("try again")

// failures are the ways a host can fail.
var failures = map[string]error{
	"rejected":  bridge.ErrRejected,
	"transient": errAgain,
	"gone":      bridge.ErrGone,
	"closed":    bridge.ErrClosed,
	"ATC":       bridge.ErrATCTimeout,
}

// extents report whether a call fails. nth is the number of calls since the first that failed.
var extents = map[string]func(nth int, c record.Call) bool{
	"once":             func(nth int, _ record.Call) bool { return nth == 0 },
	"twice":            func(nth int, _ record.Call) bool { return nth < 2 },
	"three times":      func(nth int, _ record.Call) bool { return nth < 3 },
	"from then on":     func(int, record.Call) bool { return true },
	"every bind":       func(_ int, c record.Call) bool { return c.Op == record.Bind },
	"every invalidate": func(_ int, c record.Call) bool { return c.Op == record.Invalidate },
	"all but abort": func(_ int, c record.Call) bool {
		return c.Op != record.Bind || c.Stage.Disposition != bridge.Abort
	},
	"every answer":  func(_ int, c record.Call) bool { return isAnswer(c) },
	"all but close": func(_ int, c record.Call) bool { return c.Op != record.CloseStream },
}

// TestEveryCallFails shows that the device fails closed. A guest with three streams on two hosts
// makes all changes of the SMMU. The test repeats this for each host call that can fail, each error
// and each extent of the failure. At every SYNC and every CR0ACK no stream uses stale configuration
// or translations. After a reset with working hosts, the device behaves like a new one. Failed
// answers to stalls and page requests have no other effect, as no DMA depends on them.
func TestEveryCallFails(t *testing.T) {
	for guest, hypervisor := range map[string]bool{"guest": false, "hypervisor": true} {
		t.Run(guest, func(t *testing.T) { everyCallFails(t, hypervisor) })
	}
}

func everyCallFails(t *testing.T, hypervisor bool) {
	ops := map[record.Op]int{}
	calls := newLife(t, hypervisor, func(c record.Call) error { ops[c.Op]++; return nil }).live()
	if hypervisor {
		ops[record.Respond] = 2 // no page requests
	}
	for _, op := range []record.Op{
		record.Attach, record.Bind, record.CloseStream, record.Invalidate, record.Respond, record.Resume, record.TerminateStalled,
	} {
		require.Greater(t, ops[op], 1, op)
	}
	for kind, err := range failures {
		for extent, fails := range extents {
			for first := range calls {
				ok := t.Run(fmt.Sprintf("call %d %s, %s", first, kind, extent), func(t *testing.T) {
					n := -1
					newLife(t, hypervisor, func(c record.Call) error {
						n++
						if n >= first && fails(n-first, c) {
							return err
						}
						return nil
					}).live()
				})
				if !ok {
					return // the first failure is enough
				}
			}
		}
	}
}

// life is a guest that uses the device, and the state of its hosts according to their calls.
type life struct {
	*rig
	// hypervisor is a guest with a stage 2 of its own, and so without ATS and page requests.
	hypervisor bool

	hosts  []*failingHost
	step   string
	calls  int
	failed bool // a call that a stage depends on has failed
	// answers counts the failed answers to stalls and page requests.
	answers  uint64
	timedOut bool // an ATC_INV has timed out since the last SYNC
	asid     int
	want     map[smmuv3.StreamID]bridge.GuestStage // the stages of the guest's STEs
}

// failingHost is the worst host within the contract of bridge.Host: it caches as much as possible,
// and a failed call has no effect.
type failingHost struct {
	*record.Host
	used  bool // has ever had a stream
	stage map[smmuv3.StreamID]bridge.GuestStage
	// stale has the cached entries that the guest has invalidated.
	stale map[string]bool
	// refused has the streams that the host failed to close.
	refused map[smmuv3.StreamID]bool
	// gone has the streams that do no more DMA, according to the host's errors.
	gone map[smmuv3.StreamID]bool
}

func newLife(t *testing.T, hypervisor bool, fail func(record.Call) error) *life {
	has := features{pri: !hypervisor, s2: hypervisor, stalls: true}
	l := &life{rig: newRig(t, has.config), hypervisor: hypervisor, want: map[smmuv3.StreamID]bridge.GuestStage{}}
	counting := func(c record.Call) (err error) {
		l.calls++
		if fail != nil {
			err = fail(c)
		}
		return err
	}
	for _, h := range []*record.Host{l.host, newHost(l.Device.IDs())} {
		h.FailWith(counting)
		l.hosts = append(l.hosts, &failingHost{
			Host: h, stage: map[smmuv3.StreamID]bridge.GuestStage{}, stale: map[string]bool{},
			refused: map[smmuv3.StreamID]bool{}, gone: map[smmuv3.StreamID]bool{},
		})
	}
	return l
}

// STEs of the guest, and their stages.
var (
	steWords = map[string][4]uint64{
		"invalid": {0, 0}, "bypass": {0x9, 0}, "stage 1": {0xb | cdAt, 0},
		"ATS": {0xb | cdAt, 1 << 28}, "table": {0xb | cdAt | 5<<59, 0},
		// S2VMID 3, S2T0SZ 24, S2SL0 1, S2PS 44 bits, S2AA64.
		"stage 2": {0xd, 0, 0x000c_0058_0000_0003, 0x10_0000}, "nested": {0xf | cdAt, 0, 0x000c_0058_0000_0003, 0x10_0000},
	}
	steStages = map[string]bridge.GuestStage{
		"invalid": badSTE, "bypass": {Disposition: bridge.Bypass}, "stage 1": translates,
		"ATS":     {Disposition: bridge.Translate, S1ContextPtr: cdAt, EATS: smmuv3.EATSFull},
		"table":   {Disposition: bridge.Translate, S1ContextPtr: cdAt, S1CDMax: 5},
		"stage 2": {Disposition: bridge.TranslateS2, S2VMID: 3, S2: steS2},
		"nested":  {Disposition: bridge.TranslateNested, S1ContextPtr: cdAt, S2VMID: 3, S2: steS2},
	}
	steS2 = smmuv3.Stage2{TTB: 0x10_0000, T0SZ: 24, SL0: 1, PS: 4, AA64: true}

	// hypervisors maps STEs of a guest to those of a hypervisor.
	hypervisors = map[string]string{"ATS": "nested", "table": "stage 2"}
)

func (l *life) set(sid smmuv3.StreamID, kind string) {
	if k, ok := hypervisors[kind]; ok && l.hypervisor {
		kind = k
	}
	w := steWords[kind]
	l.ste(sid, w[:]...)
	l.want[sid] = steStages[kind]
}

// live runs all steps of the guest. It returns the number of host calls.
func (l *life) live() int {
	const mmu = smmuv3.CR0_CMDQEN | smmuv3.CR0_EVENTQEN | smmuv3.CR0_SMMUEN
	a, b := l.hosts[0].Host, l.hosts[1].Host
	l.set(3, "ATS")
	l.set(4, "bypass")
	l.set(5, "table")
	l.set(6, "stage 1")
	l.do("attach", func() {
		_ = l.Attach(3, a, "disk")
		_ = l.Attach(4, a, "nic")
		_ = l.Attach(5, b, "gpu")
	})
	l.do("setup", l.setup)
	l.do("TLBI", func() { l.sync(l.tlbi()) })
	l.do("another STE", func() { l.set(3, "stage 1"); l.sync(cmdCfgiSTE(3), l.tlbi()) })
	l.do("the same STE", func() { l.sync(cmdCfgiSTE(3), cmdCfgiSTE(5)) })
	l.do("V=0", func() { l.set(3, "invalid"); l.sync(cmdCfgiSTE(3)) })
	l.do("CFGI_ALL", func() { l.set(3, "ATS"); l.set(5, "bypass"); l.sync(smmuv3.Command{0x04, 31}) })
	l.do("CD and ATC or VMID", func() {
		c := smmuv3.Command{0x40 | 3<<32, 52}
		if l.hypervisor {
			c = smmuv3.Command{0x28 | 3<<32}
		}
		l.sync(smmuv3.Command{0x05 | 3<<32, 1}, c, l.tlbi())
	})
	l.do("stalls", func() {
		for _, ev := range []smmuv3.Event{stalled(3, 1), stalled(3, 2), stalled(4, 3)} {
			a.Emit(ev)
		}
		b.Emit(stalled(5, 4))
		l.sync(cmdResume(3, 1, 0b10), smmuv3.Command{0x45 | 3<<32}, cmdResume(5, 4, 1), cmdResume(3, 4, 1))
	})
	l.do("a stall that finds no room", func() {
		l.enable(mmu &^ smmuv3.CR0_EVENTQEN)
		a.Emit(stalled(3, 5))
		l.enable(mmu)
	})
	l.do("page requests", func() {
		if l.hypervisor {
			return
		}
		a.Request(request(prLast)) // PRIQEN = 0
		l.w64(priqBase, priqAt|2)
		l.enable(mmu | smmuv3.CR0_PRIQEN)
		for range 6 {
			a.Request(request(prLast)) // two too many
		}
		l.sync(smmuv3.Command{0x41 | 3<<32, 5 | 2<<12}, smmuv3.Command{0x41 | 5<<32, 5})
		l.w32(priqCons, l.r32(priqProd))
	})
	l.do("SMMUEN=0", func() { l.enable(mmu &^ smmuv3.CR0_SMMUEN) })
	l.do("GBPA.ABORT", func() { l.w32(gbpa, 0x80100000); l.idle() })
	l.do("SMMUEN=1", func() { l.enable(mmu) })
	l.do("detach", func() {
		b.Emit(stalled(5, 6))
		_ = l.Detach(4)
		_ = l.Detach(5)
	})
	l.do("TLBI without a stream on b", func() { l.sync(l.tlbi(), smmuv3.Command{0x06 | 5<<32}) })
	l.do("attach again", func() { l.set(5, "stage 1"); _ = l.Attach(6, a, "usb"); _ = l.Attach(5, b, "gpu") })
	l.do("SYNC", func() { l.sync() })
	l.do("reset", func() { _ = l.Reset() })
	l.timedOut = false
	calls := l.calls

	l.step = "healed"
	for _, h := range l.hosts {
		h.FailWith(nil)
		clear(h.gone)
		clear(h.refused)
	}
	require.NoError(l, l.Reset(), "the hosts work again")
	l.failed = false
	assert.Empty(l, l.eventq.stalls.reported)
	assert.Empty(l, l.eventq.stalls.waiting)
	for _, st := range l.streams.All() {
		for stag := range uint16(8) {
			assert.False(l, hostOf(st).Host.(*record.Host).Stalled(st.ID, stag))
		}
	}
	for _, s := range []smmuv3.StreamID{3, 4, 5, 6} {
		_ = l.Detach(s)
	}
	for sid, h := range map[smmuv3.StreamID]*record.Host{3: a, 6: a, 5: b} {
		if err := l.Attach(sid, h, fmt.Sprint("new ", sid)); err != nil {
			assert.ErrorIs(l, err, bridge.ErrInUse, "a stream whose close failed holds the endpoint")
		}
	}
	l.do("setup after that", func() { l.setup(); l.sync(l.tlbi()) })
	l.do("a change after that", func() { l.set(3, "bypass"); l.sync(cmdCfgiSTE(3), l.tlbi()) })
	return calls
}

// tlbi invalidates the translations of an ASID, which every host has cached.
func (l *life) tlbi() smmuv3.Command {
	l.asid++
	return tlbi(l.asid)
}

// sync submits commands and a SYNC. Cached entries that they invalidate are stale from then on.
func (l *life) sync(cmds ...smmuv3.Command) {
	l.look()
	for _, h := range l.hosts {
		if !h.used {
			continue // it has cached nothing
		}
		for _, c := range cmds {
			_, here := h.stage[c.StreamID()]
			switch op := c.Opcode(); {
			case op == smmuv3.OpTLBINHASID:
				h.stale[fmt.Sprint("asid ", c.ASID())] = true
			case op == smmuv3.OpTLBIS12VMAll:
				h.stale[fmt.Sprint("vmid ", c.VMID())] = true
			case op == smmuv3.OpCfgiCD && here:
				h.stale[fmt.Sprint("cd ", c.StreamID())] = true
			case op == smmuv3.OpATCInv && here:
				h.stale[fmt.Sprint("atc ", c.StreamID())] = true
			}
		}
	}
	l.run(append(cmds, cmdSync)...)
	l.idle()
	// The SYNC reports an ATC_INV that timed out and no other error. The guest acknowledges it and
	// continues (§3.9.1.4, §7.1).
	l.look()
	if sfm := l.gerror()&smmuv3.GERROR_SFM_ERR != 0; !sfm {
		require.Equal(l, l.timedOut, l.gerror()&smmuv3.GERROR_CMDQ_ERR != 0, l.step)
	}
	if l.gerror()&smmuv3.GERROR_CMDQ_ERR != 0 {
		require.Equal(l, uint32(3), l.r32(cmdqCons)>>24, l.step)
		l.w32(gerrorn, l.r32(gerrorn)^smmuv3.GERROR_CMDQ_ERR)
		l.idle()
	}
	l.timedOut = false
}

// do runs a step of the guest, and checks every stream afterwards.
func (l *life) do(step string, f func()) {
	l.step = step
	f()
	l.idle()
	l.look()
	l.check()
	for _, ev := range l.events() {
		assert.True(l, ev.Type() == smmuv3.CBadSTE || ev.Stall(), "%v", ev)
	}
	assert.GreaterOrEqual(l, l.Stats().HostErrors, l.answers)
}

// look applies the hosts' calls since the last look to their state.
func (l *life) look() {
	for _, h := range l.hosts {
		for _, c := range h.Forget() {
			if isAnswer(c) {
				if c.Err != nil {
					l.answers++
				}
				continue
			}
			h.answered(c)
			if c.Op == record.Invalidate && errors.Is(c.Err, bridge.ErrATCTimeout) {
				l.timedOut = true
			}
			l.failed = l.failed || c.Err != nil
		}
	}
}

func (h *failingHost) answered(c record.Call) {
	if errors.Is(c.Err, bridge.ErrGone) || errors.Is(c.Err, bridge.ErrClosed) {
		h.gone[c.StreamID] = true
	}
	switch {
	case c.Op == record.Attach && c.Err == nil:
		h.used, h.stage[c.StreamID] = true, bridge.GuestStage{}
	case c.Op == record.CloseStream && c.Err == nil:
		delete(h.stage, c.StreamID)
		h.dropped("cd", c.StreamID)
		h.dropped("atc", c.StreamID)
	case c.Op == record.CloseStream:
		h.refused[c.StreamID] = true
	case c.Op == record.Bind && c.Err == nil:
		h.stage[c.StreamID] = c.Stage
		h.dropped("cd", c.StreamID)
		delete(h.gone, c.StreamID)
		delete(h.refused, c.StreamID)
	case c.Op == record.Invalidate && (c.Err == nil || errors.Is(c.Err, bridge.ErrATCTimeout)):
		for _, cmd := range c.Commands {
			switch cmd.Opcode() {
			case smmuv3.OpTLBINHASID:
				h.dropped("asid", cmd.ASID())
			case smmuv3.OpTLBIS12VMAll:
				h.dropped("vmid", cmd.VMID())
			case smmuv3.OpTLBINSNHAll:
				maps.DeleteFunc(h.stale, func(k string, _ bool) bool { return isTranslation(k) })
			case smmuv3.OpCfgiCD, smmuv3.OpCfgiCDAll:
				h.dropped("cd", cmd.StreamID())
			case smmuv3.OpATCInv:
				h.dropped("atc", cmd.StreamID())
			}
		}
	}
}

func (h *failingHost) dropped(what string, id any) { delete(h.stale, fmt.Sprint(what, " ", id)) }

// isTranslation reports whether a stale entry is a TLB entry.
func isTranslation(stale string) bool {
	return strings.HasPrefix(stale, "asid") || strings.HasPrefix(stale, "vmid")
}

func (h *failingHost) holdsTranslations() bool {
	for k := range h.stale {
		if isTranslation(k) {
			return true
		}
	}
	return false
}

// check checks that no stream uses stale configuration or translations.
func (l *life) check() {
	l.Helper()
	sfm := l.gerror()&smmuv3.GERROR_SFM_ERR != 0
	require.Zero(l, l.gerror()&^smmuv3.GERROR_SFM_ERR, l.step)
	require.False(l, sfm && !l.failed, l.step)
	if !sfm {
		require.Equal(l, l.r32(cmdqProd), l.r32(cmdqCons), "%s: all commands are consumed", l.step)
	}
	for _, h := range l.hosts {
		for sid, stage := range h.stage {
			believed, attached := l.Device.Stage(sid)
			if !attached || h.gone[sid] || h.gone[0] {
				continue
			}
			if stage.Disposition == bridge.Abort && l.failed {
				continue
			}
			if sfm {
				assert.Truef(l, h.refused[sid], "%s: stream %v does %v in service failure mode", l.step, sid, stage)
				continue
			}
			assert.Equalf(l, believed, stage, "%s: Device.Stage of stream %v", l.step, sid)
			assert.Equalf(l, l.wanted(sid), stage, "%s: stream %v, stale: %v", l.step, sid, h.stale)
			if stage.Disposition.Translates() {
				assert.Falsef(l, h.holdsTranslations() || h.stale[fmt.Sprint("cd ", sid)], "%s: stream %v translates, stale: %v", l.step, sid, h.stale)
			}
			if stage.EATS == smmuv3.EATSFull {
				assert.Falsef(l, h.stale[fmt.Sprint("atc ", sid)], "%s: stream %v uses ATS, stale: %v", l.step, sid, h.stale)
			}
		}
	}
}

func (l *life) wanted(sid smmuv3.StreamID) bridge.GuestStage {
	switch {
	case l.r32(cr0ack)&1 != 0:
		return l.want[sid]
	case l.r32(gbpa)&0x00100000 != 0:
		return offAbort
	}
	return offBypass
}
