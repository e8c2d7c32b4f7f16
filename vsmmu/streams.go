package vsmmu

import (
	"errors"
	"slices"

	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmu/trap"
)

// configure binds every stream to the stage that the registers and tables describe. The error names
// the streams that abort instead.
func (d *Device) configure(enabled bool) (err error) {
	d.streams.SetRegs(d.trapRegs(enabled))
	for _, st := range d.streams.All() {
		_, failed := d.refresh(st)
		err = errors.Join(err, failed)
	}
	d.notifyWatch()
	return err
}

// trapRegs returns the registers that streams depend on.
func (d *Device) trapRegs(enabled bool) trap.Regs {
	r := trap.Regs{Enabled: enabled, GBPA: d.gbpa}
	if enabled {
		r.RecInvSID = d.regs.get(wCR2)&smmuv3.CR2_RECINVSID != 0
		r.Table = d.streamTable()
	}
	return r
}

// streamTable returns the stream table that the registers configure.
func (d *Device) streamTable() smmuv3.StreamTable {
	return smmuv3.NewStreamTable(d.regs.get64(wSTRTABBase), d.regs.get(wSTRTABCfg), *d.ids)
}

// refresh binds the stage that the stream's configuration describes. kept is true if the stage was
// already bound; err is why the stream now aborts.
//
// In Service Failure Mode refresh binds nothing. On a host that is out of sync it binds no stage
// that translates: resync refreshes those streams.
func (d *Device) refresh(st *trap.Stream) (kept bool, err error) {
	if d.failed.Load() {
		return false, nil
	}
	h, had := hostOf(st), false
	if d.ats {
		if had = usesATS(st); had && h.atc {
			d.flushHost(h) // while the endpoint still answers
		}
	}
	ever := st.HasUsedATS()
	outcome, err := d.streams.Refresh(st, !h.outOfSync)
	if outcome == trap.Kept {
		return true, nil
	}
	err = streamError("bind", st, err)
	d.settle(st, outcome, err)
	if outcome == trap.Moved && !had && ever && usesATS(st) {
		d.dropATC(st) // the endpoint may hold entries that the guest has invalidated since
	}
	return false, err
}

// refreshCalls returns how many calls of hosts a refresh of the streams may take, if none fails.
func (d *Device) refreshCalls(streams []*trap.Stream) int {
	const few = 2 // the share of a store covers no more
	calls := len(streams)
	if calls > few {
		return d.mostCalls(calls)
	}
	for _, st := range streams {
		if usesATS(st) && hostOf(st).atc || !usesATS(st) && st.HasUsedATS() {
			calls++
		}
	}
	return calls
}

// mostCalls returns how many calls of hosts a refresh of n streams takes at most, if none fails.
func (d *Device) mostCalls(n int) int {
	if d.ats {
		return 2 * n
	}
	return n
}

// notifyWatch calls Config.Watch if the ranges of the streams' configuration have changed.
func (d *Device) notifyWatch() {
	if d.watch == nil {
		return
	}
	now := d.streams.Watched()
	if !slices.Equal(now, d.watched) {
		d.watched = now
		d.watch(now)
	}
}

// GuestWrote rereads the configuration of the streams whose configuration lies in the range,
// without waiting for the guest's CFGI command. A VMM that write-protects the ranges of
// Config.Watch calls it after a write of the guest.
func (d *Device) GuestWrote(r guestmem.Range) {
	_ = d.do("GuestWrote", func() error {
		for _, st := range d.streams.Written(r) {
			d.refresh(st)
		}
		d.notifyWatch()
		return nil
	})
}
