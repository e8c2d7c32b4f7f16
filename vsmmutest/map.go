package vsmmutest

import (
	"errors"
	"fmt"

	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// stream is the guest's configuration for a device.
type stream struct {
	ste smmuv3.STE
	s1  *Stage1
	s2  *Stage2
}

func (g *Guest) stream(sid smmuv3.StreamID) *stream {
	s := g.streams[sid]
	if g.streams == nil {
		g.streams = map[smmuv3.StreamID]*stream{}
	}
	if s == nil {
		s = &stream{}
		g.streams[sid] = s
	}
	return s
}

// enabled returns an error before the first Enable, since the guest has not read the SMMU's ID
// registers.
func (g *Guest) enabled() error {
	if g == nil || g.Streams == nil {
		return errors.New("the SMMU has not been enabled")
	}
	return nil
}

// SetSTE writes a stream's STE, its first word last, and runs CFGI_STE and SYNC. A live STE is
// replaced in place.
func (g *Guest) SetSTE(sid smmuv3.StreamID, e smmuv3.STE) error {
	if err := g.enabled(); err != nil {
		return fmt.Errorf("vsmmutest: set STE of stream %v: %w", sid, err)
	}
	if err := g.Streams.Set(sid, e); err != nil {
		return err
	}
	g.stream(sid).ste = e
	return g.Run(smmuv3.NewCfgiSTE(sid, true))
}

// STE returns the STE that the guest set for a stream.
func (g *Guest) STE(sid smmuv3.StreamID) smmuv3.STE { return g.stream(sid).ste }

// Bypass makes a stream's transactions bypass the SMMU.
func (g *Guest) Bypass(sid smmuv3.StreamID) error { return g.replace(sid, BypassSTE(), stream{}) }

// Abort makes a stream's transactions abort without an event.
func (g *Guest) Abort(sid smmuv3.StreamID) error { return g.replace(sid, AbortSTE(), stream{}) }

// replace sets an STE whose stages the guest knows.
func (g *Guest) replace(sid smmuv3.StreamID, e smmuv3.STE, to stream) error {
	err := g.SetSTE(sid, e)
	if err == nil {
		st := g.stream(sid)
		to.ste = st.ste
		*st = to
	}
	return err
}

// SetCD writes a CD of a stream's table, its first word last, and runs CFGI_CD and SYNC.
func (g *Guest) SetCD(sid smmuv3.StreamID, t *CDTable, ssid smmuv3.SubstreamID, cd smmuv3.CD) error {
	if t == nil {
		return fmt.Errorf("vsmmutest: set CD %d of stream %v: the CD table is nil", ssid, sid)
	}
	if err := t.Set(ssid, cd); err != nil {
		return err
	}
	return g.Run(smmuv3.NewCfgiCD(sid, ssid, true))
}

// NewStage1 returns an empty address space with a new ASID.
func (g *Guest) NewStage1() (*Stage1, error) {
	if err := g.enabled(); err != nil {
		return nil, fmt.Errorf("vsmmutest: new stage 1: %w", err)
	}
	g.asid++
	return NewStage1(g.RAM, g.ids, g.Layout, g.asid)
}

// NewStage2 returns an empty stage 2 with a new VMID.
func (g *Guest) NewStage2() (*Stage2, error) {
	if err := g.enabled(); err != nil {
		return nil, fmt.Errorf("vsmmutest: new stage 2: %w", err)
	}
	g.vmid++
	return NewStage2(g.RAM, g.ids, g.Layout, g.vmid)
}

// SetStage1 makes an address space translate for a stream: it allocates a single CD and sets the
// STE. Streams may share an address space.
func (g *Guest) SetStage1(sid smmuv3.StreamID, s *Stage1) error {
	if s == nil {
		return fmt.Errorf("vsmmutest: set stage 1 of stream %v: the stage is nil", sid)
	}
	cds, err := NewCDTable(g.RAM, smmuv3.S1FmtLinear, 0)
	if err != nil {
		return err
	}
	if err := cds.Set(0, s.CD()); err != nil {
		return err
	}
	e := cds.STE()
	if g.ids.Has(smmuv3.ATS) {
		e.SetEATS(smmuv3.EATSFull)
	}
	return g.replace(sid, e, stream{s1: s})
}

// SetStage2 makes a stage 2 translate for a stream, and sets the STE.
func (g *Guest) SetStage2(sid smmuv3.StreamID, s *Stage2) error {
	if s == nil {
		return fmt.Errorf("vsmmutest: set stage 2 of stream %v: the stage is nil", sid)
	}
	e := s.STE()
	if g.ids.Has(smmuv3.ATS) {
		e.SetEATS(smmuv3.EATSFull)
	}
	return g.replace(sid, e, stream{s2: s})
}

// Stage1 returns the address space that translates for a stream, or nil.
func (g *Guest) Stage1(sid smmuv3.StreamID) *Stage1 { return g.stream(sid).s1 }

// Stage2 returns the stage 2 that translates for a stream, or nil.
func (g *Guest) Stage2(sid smmuv3.StreamID) *Stage2 { return g.stream(sid).s2 }

// MapStage1 maps n bytes of a stream's IOVAs to guest memory, readable and writable. The first call
// for a stream creates its address space and sets its STE. MapStage1 fails with ErrMapped if part
// of the range is mapped (call Unmap first).
func (g *Guest) MapStage1(sid smmuv3.StreamID, iova uint64, to guestmem.GPA, n uint64) error {
	if err := g.enabled(); err != nil {
		return fmt.Errorf("vsmmutest: map for stream %v: %w", sid, err)
	}
	s := g.Stage1(sid)
	if s != nil {
		return s.Map(iova, to, n, smmuv3.LeafAttrs{})
	}
	s, err := g.NewStage1()
	if err != nil {
		return err
	}
	if err := s.Map(iova, to, n, smmuv3.LeafAttrs{}); err != nil {
		return err
	}
	return g.SetStage1(sid, s)
}

// MapStage2 maps n bytes of a stream's IPAs in its stage 2, as MapStage1 does. The SMMU must have
// IDR0.S2P.
func (g *Guest) MapStage2(sid smmuv3.StreamID, ipa uint64, to guestmem.GPA, n uint64) error {
	if err := g.enabled(); err != nil {
		return fmt.Errorf("vsmmutest: map for stream %v: %w", sid, err)
	}
	s := g.Stage2(sid)
	if s != nil {
		return s.Map(ipa, to, n, ReadWrite)
	}
	s, err := g.NewStage2()
	if err != nil {
		return err
	}
	if err := s.Map(ipa, to, n, ReadWrite); err != nil {
		return err
	}
	return g.SetStage2(sid, s)
}

// Unmap unmaps n bytes of a stream's addresses. It invalidates their translations in the SMMU and,
// with ATS, in the device. On return, no DMA to these addresses reaches memory.
func (g *Guest) Unmap(sid smmuv3.StreamID, addr, n uint64) error {
	if err := g.enabled(); err != nil {
		return fmt.Errorf("vsmmutest: unmap for stream %v: %w", sid, err)
	}
	st := g.stream(sid)
	var cmds []smmuv3.Command
	switch {
	case st.s1 != nil:
		if err := st.s1.Unmap(addr, n); err != nil {
			return err
		}
		cmds = st.s1.Invalidation(st.ste.S2VMID(), addr, n)
	case st.s2 != nil:
		if err := st.s2.Unmap(addr, n); err != nil {
			return err
		}
		cmds = st.s2.Invalidation(addr, n)
	default:
		return fmt.Errorf("vsmmutest: unmap %#x bytes at %#x: stream %v has no stage that translates", n, addr, sid)
	}
	if err := g.Run(cmds...); err != nil {
		return err
	}
	if st.ste.EATS() != smmuv3.EATSFull {
		return nil
	}
	// The TLB invalidation completes before the ATC's begins (§4.5.1).
	return g.Run(atcInv(sid, addr, n))
}

// Resume retries or ends the stalled transaction that an event reported (§4.7.1).
func (g *Guest) Resume(e smmuv3.Event, how smmuv3.ResumeAction) error {
	return g.Run(smmuv3.NewResume(e.StreamID(), e.STAG(), how))
}
