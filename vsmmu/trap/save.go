package trap

import (
	"fmt"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// Saved is the state of a stream that outlives its host.
type Saved struct {
	ID      smmuv3.StreamID
	Stage   bridge.GuestStage
	UsedATS bool
	// Walked has the guest-physical ranges of the L1STD and of the STE that the last lookup read.
	// The range of a structure that it did not read has length 0.
	Walked [2]guestmem.Range
}

// Save returns the state of a stream.
func (s *Stream) Save() Saved {
	return Saved{ID: s.ID, Stage: s.stage, UsedATS: s.usedATS, Walked: s.walked}
}

// Restore binds a stream to its saved stage. It does not read the guest's table, which may hold
// changes that the guest has not invalidated yet. If the host fails, the outcome is that of
// Refresh.
func (s *Streams) Restore(st *Stream, v Saved) (Outcome, error) {
	st.judged, st.walked = false, v.Walked
	st.usedATS = st.usedATS || v.UsedATS
	if st.stage == v.Stage {
		return Kept, nil
	}
	err := s.bind(st, v.Stage)
	if transient(err) {
		err = s.bind(st, v.Stage)
	}
	if err == nil {
		return Moved, nil
	}
	return s.Abort(st, fmt.Errorf("%v: %w", v.Stage, err))
}

// StageOf returns the stage of an STE, for an SMMU with these ID registers. It is the inverse of
// GuestStage.STE.
func StageOf(s smmuv3.STE, ids *smmuv3.IDRegs) bridge.GuestStage {
	return Decide(&Regs{Enabled: true}, &Entry{STE: s}, ids)
}
