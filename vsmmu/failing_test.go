package vsmmu

import (
	"errors"
	"fmt"
	"maps"
	"slices"
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

// extents say how far a failure extends: whether call number i fails too, if it is the nth since
// the first.
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

// TestEveryCallFails is invariant 1, fail closed. It makes each call fail that a device makes in
// the life of three streams on two hosts, in each way and to each extent. At every SYNC and every
// CR0ACK no stream uses stale configuration or translations. Once the hosts work again and the
// machine is reset, all is as at the start. No DMA depends on answers about stalls and page
// requests, so nothing else depends on their failures.
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
					return // one is enough to look into
				}
			}
		}
	}
}

// life is a guest that uses the device, and what the calls that its hosts have answered tell of the
// hosts.
type life struct {
	*rig
	// hypervisor is a guest with a stage 2 of its own, and so without ATS and page requests.
	hypervisor bool

	hosts  []*failingHost
	step   string
	calls  int
	failed bool // a call that a stage depends on has failed by now
	// answers that have failed
	answers  uint64
	timedOut bool // an ATC_INV, since the last SYNC
	asid     int
	want     map[smmuv3.StreamID]bridge.GuestStage // by the STEs
}

// failingHost is the worst host that keeps its contract: it caches as much as it may, and a failed
// call has no effect.
type failingHost struct {
	*record.Host
	used  bool // has ever had a stream
	stage map[smmuv3.StreamID]bridge.GuestStage
	// stale is what the host caches although the guest has invalidated it.
	stale map[string]bool
	// refused are streams that the host was asked to stop, in vain.
	refused map[smmuv3.StreamID]bool
	// gone are streams that the host said make no more DMA.
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

// STEs of the guest, and the stages that they mean.
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

	// hypervisors have these in the place of others.
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

// live is that life. It returns how many calls it took.
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
	require.NoError(l, l.Reset(), "hosts are well again")
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
			assert.ErrorIs(l, err, bridge.ErrInUse, "by one whose close failed")
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

// sync submits commands and a SYNC. What they invalidate is stale from now on, wherever it is
// cached.
func (l *life) sync(cmds ...smmuv3.Command) {
	l.look()
	for _, h := range l.hosts {
		if !h.used {
			continue // and so has cached nothing
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
	// The SYNC reports an ATC_INV that timed out, which is the only error then, and the guest goes
	// on (§3.9.1.4, §7.1).
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

// do makes the guest do something, and checks every stream afterwards.
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

// look goes through the calls that the hosts have answered.
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

// isTranslation tells what is stale of the TLBs from the rest.
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

// check is invariant 1.
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
			assert.Equalf(l, believed, stage, "%s: what is believed of stream %v", l.step, sid)
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

// TestRejectedSTE shows that a stage that the host rejects is C_BAD_STE for its StreamID, and no
// error of the queue. The embedder gets an error that it can match, and a count.
func TestRejectedSTE(t *testing.T) {
	var told error
	r := newRig(t, func(c *Config) {
		c.Trace.Bind = func(_ smmuv3.StreamID, _ bridge.GuestStage, err error) { told = errors.Join(told, err) }
	})
	require.NoError(t, r.Attach(3, r.host, "disk"))
	r.setup()
	r.ste(3, 0xb|cdAt)
	r.host.FailWith(func(c record.Call) error {
		if c.Stage.Disposition == bridge.Translate {
			return fmt.Errorf("S1Fmt: %w", bridge.ErrRejected)
		}
		return nil
	})
	r.run(cmdCfgiSTE(3), cmdSync)
	r.idle()
	assert.Equal(t, badSTE, r.stage(3))
	assert.Equal(t, []smmuv3.Event{{4 | 3<<32}}, r.events())
	assert.Zero(t, r.gerror())
	assert.ErrorIs(t, told, bridge.ErrRejected)
	assert.Equal(t, uint64(1), r.Stats().Refused)
}

// TestHostOutOfSync shows that the streams of a host abort if a failed invalidation cannot be
// resynchronised, and those of other hosts do not. A later SYNC brings them back.
func TestHostOutOfSync(t *testing.T) {
	r := newRig(t)
	other := record.New(bridge.Capabilities{IDs: rigIDs})
	for sid, h := range map[smmuv3.StreamID]*record.Host{3: r.host, 4: other} {
		r.ste(sid, 0xb|cdAt)
		require.NoError(t, r.Attach(sid, h, sid))
	}
	r.setup()
	r.host.FailWith(func(c record.Call) error {
		if c.Op == record.Invalidate {
			return errAgain
		}
		return nil
	})
	r.run(tlbi(1), cmdSync)
	r.idle()
	assert.Equal(t, badSTE, r.stage(3))
	assert.Equal(t, uint64(2), r.Stats().HostErrors, "of the batch, and of all")
	stage, _ := other.Stage(4)
	assert.Equal(t, translates, stage)
	assert.Equal(t, uint32(2), r.r32(cmdqCons), "the SYNC is complete: no DMA uses a stale translation")
	assert.Zero(t, r.gerror())

	r.ste(5, 0xb|cdAt)
	require.NoError(t, r.Attach(5, r.host, "late"))
	r.run(cmdCfgiSTE(3), cmdSync)
	r.idle()
	for _, sid := range []smmuv3.StreamID{3, 5} {
		assert.Equal(t, bridge.Abort, r.stage(sid).Disposition)
	}

	r.host.FailWith(nil)
	r.run(cmdSync)
	r.idle()
	assert.Equal(t, translates, r.stage(3))
	assert.Equal(t, translates, r.stage(5))
	r.host.Forget()
	r.run(cmdSync)
	r.idle()
	assert.Empty(t, r.ops(), "and nothing is owed any more")
}

// TestDeadEndpointLeavesItsHostInSync_3_9_1_4 shows that an endpoint that answers no ATC_INV does
// not put its host out of sync: the host has invalidated everything else, and its streams go on
// translating. The next SYNC reports the timeout. The next guest's SYNC does, too, if the endpoint
// is to drop what it holds when it may use ATS again.
func TestDeadEndpointLeavesItsHostInSync_3_9_1_4(t *testing.T) {
	r := newRig(t, withATS)
	var dropped [][]smmuv3.Command
	fails := false
	r.host.FailWith(func(c record.Call) error {
		switch {
		case c.Op != record.Invalidate:
		case fails:
			fails = false
			return errAgain
		case slices.ContainsFunc(c.Commands, func(c smmuv3.Command) bool { return c.Opcode() == smmuv3.OpATCInv && c.StreamID() == 3 }):
			dropped = append(dropped, c.Commands)
			return bridge.ErrATCTimeout
		}
		return nil
	})
	r.ste(3, 0xb|cdAt, 1<<28)
	r.ste(4, 0xb|cdAt)
	require.NoError(t, r.Attach(3, r.host, "dead"))
	require.NoError(t, r.Attach(4, r.host, "disk"))
	r.setup()
	translate := func() {
		for sid := smmuv3.StreamID(3); sid <= 4; sid++ {
			assert.Equal(t, bridge.Translate, r.stage(sid).Disposition)
		}
	}

	fails = true
	r.run(tlbi(1), cmdSync)
	r.idle()
	assert.Equal(t, uint32(1|3<<24), r.r32(cmdqCons), "CERROR_ATC_INV_SYNC")
	translate()
	r.w32(gerrorn, 1)
	r.idle()
	assert.Equal(t, uint32(2), r.r32(cmdqCons))

	require.NoError(t, r.Reset())
	assert.Len(t, dropped, 1, "no ATC_INV for a stream that bypasses")
	r.setup()
	assert.Len(t, dropped, 2, "which may use ATS again")
	r.run(tlbi(1), cmdSync)
	r.idle()
	assert.Equal(t, uint32(1|3<<24), r.r32(cmdqCons))
	r.w32(gerrorn, 1)
	r.idle()
	assert.Equal(t, uint32(2), r.r32(cmdqCons))
	translate()
	assert.Len(t, dropped, 2)
}

// TestStreamsBypassOnAHostOutOfSync_6_3_9_6 shows that streams that bypass, by GBPA or by their
// STE, go on: they use nothing that the host may hold. A stream that would translate aborts with
// C_BAD_STE.
func TestStreamsBypassOnAHostOutOfSync_6_3_9_6(t *testing.T) {
	r := newRig(t)
	for sid, ste := range map[smmuv3.StreamID]uint64{3: 0xb | cdAt, 4: 0x9} {
		r.ste(sid, ste)
		require.NoError(t, r.Attach(sid, r.host, sid))
	}
	r.setup()
	r.host.FailWith(func(c record.Call) error {
		if c.Op == record.Invalidate {
			return errAgain
		}
		return nil
	})
	bypass := bridge.GuestStage{Disposition: bridge.Bypass}
	r.run(tlbi(1), cmdSync)
	r.idle()
	assert.Equal(t, badSTE, r.stage(3))
	assert.Equal(t, bypass, r.stage(4))

	r.enable(smmuv3.CR0_CMDQEN | smmuv3.CR0_EVENTQEN)
	assert.Equal(t, offBypass, r.stage(3))
	assert.Equal(t, offBypass, r.stage(4))
	r.events()
	r.enable(smmuv3.CR0_CMDQEN | smmuv3.CR0_EVENTQEN | smmuv3.CR0_SMMUEN)
	assert.Equal(t, badSTE, r.stage(3))
	assert.Equal(t, bypass, r.stage(4))
	assert.Equal(t, []smmuv3.Event{{4 | 3<<32}}, r.events())

	r.ste(4, 0xb|cdAt)
	r.ste(5, 0x9)
	r.run(cmdCfgiSTE(4))
	require.NoError(t, r.Attach(5, r.host, "late"))
	assert.Equal(t, badSTE, r.stage(4))
	assert.Equal(t, bypass, r.stage(5))
	assert.Zero(t, r.gerror())

	r.host.FailWith(nil)
	r.run(cmdSync)
	r.idle()
	assert.Equal(t, translates, r.stage(3))
	assert.Equal(t, translates, r.stage(4))
}

// An SMMU without stage 1 has no CDs, and its host gets no command about any.
func TestNoCDsWithoutStage1(t *testing.T) {
	r := newRig(t, func(c *Config) {
		c.IDs.Set(smmuv3.S1P, 0)
		c.IDs.Set(smmuv3.S2P, 1)
	})
	r.ste(3, 0xd, 0, 0x0008_0058_0000_0000|4<<48, 0x10_0000)
	require.NoError(t, r.Attach(3, r.host, "disk"))
	r.setup()
	require.Equal(t, bridge.TranslateS2, r.stage(3).Disposition)
	r.host.Forget()
	fails := 1
	r.host.FailWith(func(c record.Call) error {
		if fails--; c.Op == record.Invalidate && fails >= 0 {
			return errAgain
		}
		return nil
	})
	r.run(cmdCfgiSTE(3), smmuv3.Command{0x28}, cmdSync)
	r.idle()
	assert.Equal(t, []smmuv3.Command{{0x28}, {0x30}}, r.invalidated(), "at the second try, everything")
	r.run(smmuv3.Command{0x5}, cmdSync)
	assert.Equal(t, uint32(1), r.gerror()&1, "CFGI_CD is CERROR_ILL")
}

// A host out of sync may hold stale translations of a stage 2 as well as of a stage 1.
func TestStage2OnAHostOutOfSync(t *testing.T) {
	r := newRig(t, func(c *Config) { c.IDs.Set(smmuv3.S2P, 1) })
	const s2 = 0x0008_0058_0000_0000 | 4<<48 // S2T0SZ 24, S2SL0 1, S2PS 44 bits, S2AA64
	for sid, config := range map[smmuv3.StreamID]uint64{3: 0xd, 4: 0xf | cdAt} {
		r.ste(sid, config, 0, s2, 0x10_0000)
		require.NoError(t, r.Attach(sid, r.host, sid))
	}
	r.setup()
	want := map[smmuv3.StreamID]bridge.Disposition{3: bridge.TranslateS2, 4: bridge.TranslateNested}
	for sid, d := range want {
		require.Equal(t, d, r.stage(sid).Disposition)
	}
	r.host.FailWith(func(c record.Call) error {
		if c.Op == record.Invalidate {
			return errAgain
		}
		return nil
	})
	r.run(smmuv3.Command{0x28}, cmdSync) // TLBI_S12_VMALL
	r.idle()
	for sid := range want {
		assert.Equal(t, badSTE, r.stage(sid))
		r.run(cmdCfgiSTE(sid))
		assert.Equal(t, badSTE, r.stage(sid), "and it does not come back by a CFGI")
	}
	r.host.FailWith(nil)
	r.run(cmdSync)
	r.idle()
	for sid, d := range want {
		assert.Equal(t, d, r.stage(sid).Disposition)
	}
}

// TestServiceFailureMode_12_3 shows that DMA and the queues stop, that registers can be read and
// handshakes go on, and that Reset leaves the mode where acknowledging the error does not.
func TestServiceFailureMode_12_3(t *testing.T) {
	log := newLog()
	r := newRig(t, func(c *Config) { c.Log = log.Logger })
	for sid := range smmuv3.StreamID(3) {
		r.ste(sid, 0xb|cdAt)
		require.NoError(t, r.Attach(sid, r.host, sid))
	}
	r.setup()
	r.ste(1, 0)
	r.host.FailWith(func(c record.Call) error {
		if c.Op == record.Bind && c.StreamID == 1 {
			return errAgain
		}
		return nil
	})
	r.run(tlbi(1), cmdCfgiSTE(1), cmdSync)
	r.idle()
	assert.Equal(t, uint32(1<<8), r.gerror())
	assert.Contains(t, r.irqs.take(), LineGError)
	assert.Equal(t, uint32(1), r.r32(cmdqCons), "what was not done stays in the queue")
	for _, sid := range []smmuv3.StreamID{0, 2} {
		assert.Equal(t, bridge.Abort, r.stage(sid).Disposition)
	}
	stage, _ := r.Device.Stage(1)
	assert.Equal(t, bridge.GuestStage{}, stage)
	_, attached := r.host.Stage(1)
	assert.False(t, attached, "cut off")
	assert.Equal(t, uint64(1), r.Stats().ServiceFailures)
	assert.Contains(t, log.String(), "service failure mode")

	r.host.FailWith(nil)
	r.host.Forget()
	r.w32(gerrorn, r.r32(gerror))
	assert.Zero(t, r.gerror())
	r.w32(cmdqProd, r.put(cmdSync))
	r.idle()
	assert.Equal(t, uint32(1), r.r32(cmdqCons), "commands are not processed")
	r.host.Emit(fault(1))
	assert.Zero(t, r.r32(eventqProd), "events are not recorded")
	r.enable(smmuv3.CR0_CMDQEN)
	r.enable(smmuv3.CR0_CMDQEN | smmuv3.CR0_SMMUEN)
	r.GuestWrote(everywhere)
	require.NoError(t, r.Attach(7, r.host, "late"))
	assert.Equal(t, []record.Op{record.Attach}, r.ops(), "nothing is bound")
	assert.Equal(t, bridge.Abort, r.stage(7).Disposition)

	t.Run("reset fails", func(t *testing.T) {
		r.host.FailWith(func(c record.Call) error {
			if c.Op == record.Attach {
				return errAgain
			}
			return nil
		})
		err := r.Reset()
		assert.ErrorIs(t, err, ErrServiceFailure)
		assert.ErrorIs(t, err, errAgain)
		assert.Equal(t, uint32(1<<8), r.r32(gerror))
		assert.Equal(t, uint64(2), r.Stats().ServiceFailures)
	})
	r.host.FailWith(nil)
	require.NoError(t, r.Reset())
	assert.Zero(t, r.r32(gerror))
	for _, sid := range []smmuv3.StreamID{0, 1, 2, 7} {
		assert.Equal(t, offBypass, r.stage(sid), "the one that was cut off has been attached again")
	}
}

// TestDetachInServiceFailureMode: a stream that was cut off is closed already.
func TestDetachInServiceFailureMode(t *testing.T) {
	r := newRig(t)
	r.ste(3, 0xb|cdAt)
	require.NoError(t, r.Attach(3, r.host, "disk"))
	r.setup()
	r.ste(3, 0)
	r.host.FailWith(func(c record.Call) error {
		if c.Op == record.Bind {
			return errAgain
		}
		return nil
	})
	r.run(cmdCfgiSTE(3))
	r.idle()
	require.Equal(t, uint32(1<<8), r.gerror())
	r.host.Forget()
	require.NoError(t, r.Detach(3))
	assert.Empty(t, r.ops())
}

// TestCapabilitiesFail shows that a host whose Capabilities fail gets no streams.
func TestCapabilitiesFail(t *testing.T) {
	r := newRig(t)
	assert.ErrorIs(t, r.Attach(3, silentHost{}, "disk"), errAgain)
	_, ok := r.Device.Stage(3)
	assert.False(t, ok)
}

type silentHost struct{ nullHost }

func (silentHost) Capabilities() (bridge.Capabilities, error) { return bridge.Capabilities{}, errAgain }

// TestFullBatchFails shows that invalidations that fill a batch are executed before the SYNC, in
// pieces, and that a piece that fails leads to a resync.
func TestFullBatchFails(t *testing.T) {
	r := newRig(t, func(c *Config) { c.IDs.Set(smmuv3.CMDQS, 12) })
	r.ste(3, 0xb|cdAt)
	require.NoError(t, r.Attach(3, r.host, "disk"))
	r.w64(cmdqBase, cmdqAt|12)
	r.w64(0x80, strtabAt)
	r.w32(0x88, 8)
	r.enable(smmuv3.CR0_CMDQEN | smmuv3.CR0_SMMUEN)
	r.host.Forget()
	n := 0
	r.host.FailWith(func(c record.Call) error {
		if n++; n == 2 {
			return errAgain
		}
		return nil
	})
	cmds := make([]smmuv3.Command, 3000)
	for i := range cmds {
		cmds[i] = tlbi(i)
	}
	r.run(append(cmds, cmdSync)...)
	r.idle()
	var sizes []int
	for _, c := range r.host.Forget() {
		sizes = append(sizes, len(c.Commands))
	}
	assert.Equal(t, []int{1024, 1024, 2, 3000 - 2048}, sizes)
	assert.Equal(t, translates, r.stage(3))
}

// TestResyncOfManyStreams shows a resync of more than one batch. After an error nothing more is
// sent, unless the error is an endpoint's.
func TestResyncOfManyStreams(t *testing.T) {
	for _, tc := range []struct {
		name    string
		answers []error // of what follows on the failure
		stage   bridge.Disposition
		gerror  uint32
	}{
		{"it succeeds", []error{nil, nil}, bridge.Translate, 0},
		{"an endpoint is late", []error{bridge.ErrATCTimeout, nil}, bridge.Translate, 1},
		{"the last one is", []error{nil, bridge.ErrATCTimeout}, bridge.Translate, 1},
		{"and then it fails", []error{bridge.ErrATCTimeout, errAgain}, bridge.Abort, 0},
		{"it fails at once", []error{errAgain}, bridge.Abort, 0},
	} {
		t.Run(tc.name, func(t *testing.T) { invalidateEverythingOfMany(t, tc.answers, tc.stage, tc.gerror) })
	}
}

func invalidateEverythingOfMany(t *testing.T, answers []error, stage bridge.Disposition, gerror uint32) {
	r := newRig(t, withATS)
	for sid := range smmuv3.StreamID(400) {
		r.ste(sid, 0xb|cdAt, 1<<28)
		require.NoError(t, r.Attach(sid, r.host, sid))
	}
	r.w64(0x80, strtabAt)
	r.w32(0x88, 9)
	r.w64(cmdqBase, cmdqAt|8)
	r.enable(smmuv3.CR0_CMDQEN | smmuv3.CR0_SMMUEN)
	r.host.Forget()
	left := append([]error{errAgain}, answers...)
	r.host.FailWith(func(c record.Call) (err error) {
		if c.Op == record.Invalidate {
			err, left = left[0], left[1:]
		}
		return err
	})
	r.run(tlbi(1), cmdSync)
	r.idle()
	var sizes []int
	for _, c := range r.host.Forget() {
		if c.Op == record.Invalidate {
			sizes = append(sizes, len(c.Commands))
		}
	}
	assert.Equal(t, []int{1, 1024, 1 + 3*400 - 1024}[:1+len(answers)], sizes,
		"all translations; of each stream its CDs, and two commands for what it has cached itself")
	assert.Equal(t, stage, r.stage(399).Disposition)
	assert.Equal(t, gerror, r.gerror())
}
