package trap

import (
	"fmt"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// Saved is what of a stream outlives its host.
type Saved struct {
	ID      smmuv3.StreamID
	Stage   bridge.GuestStage
	UsedATS bool
	// Walked is where the configuration was found: the L1STD, if the table has two
	// levels, and the STE; a part that was not reached has length 0.
	Walked [2]guestmem.Range
}

// Save is what is to be kept of a stream.
func (s *Stream) Save() Saved {
	return Saved{ID: s.ID, Stage: s.stage, UsedATS: s.usedATS, Walked: s.walked}
}

// Restore has a stream do what was saved of it, whatever the guest's table says now:
// that counts when the guest says so. A host that does not take the stage is dealt
// with as by Refresh.
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
	return s.Abort(st, fmt.Errorf("trap: restoring stream %v to %v: %w", st.ID, v.Stage, err))
}

// StageOf is the stage that an STE means, for an SMMU with these ID registers: the
// reverse of GuestStage.STE.
func StageOf(s smmuv3.STE, ids *smmuv3.IDRegs) bridge.GuestStage {
	return Decide(&Regs{Enabled: true}, &Entry{STE: s}, ids)
}
