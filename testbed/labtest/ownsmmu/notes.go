package ownsmmu

import (
	"fmt"
	"maps"
	"sync"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/testbed/labtest/machine"
	"github.com/go-vsmmu/vsmmuv3/vsmmu"
)

// maxRejected is the number of rejected commands that notes keep.
const maxRejected = 16

// notes count the actions of the SMMU.
type notes struct {
	mu       sync.Mutex
	commands map[string]uint64
	events   map[string]uint64
	binds    map[string]uint64
	rejected []string
}

func newNotes() *notes {
	return &notes{commands: map[string]uint64{}, events: map[string]uint64{}, binds: map[string]uint64{}}
}

// trace returns the trace of a device. It calls moment for each action, with the kind of the
// action. The caller holds locks of the device.
func (n *notes) trace(moment func(kind string)) vsmmu.Trace {
	count := func(in map[string]uint64, kind string) {
		n.mu.Lock()
		in[kind]++
		n.mu.Unlock()
		moment(kind)
	}
	return vsmmu.Trace{
		Command: func(c smmuv3.Command, code smmuv3.CmdqErr) {
			// A test lets a device's ATC hang. The SYNC that reports it is not to blame.
			if code != smmuv3.CERROR_NONE && code != smmuv3.CERROR_ATC_INV_SYNC {
				n.reject(c, code)
			}
			count(n.commands, c.Opcode().String())
		},
		Bind: func(_ smmuv3.StreamID, g bridge.GuestStage, err error) {
			kind := "bind " + g.Disposition.String()
			if err != nil {
				kind = "refused " + kind
			}
			count(n.binds, kind)
		},
		Event: func(e smmuv3.Event, f vsmmu.Fate) {
			count(n.events, fmt.Sprintf("%v %v", e.Type(), f))
		},
	}
}

func (n *notes) reject(c smmuv3.Command, code smmuv3.CmdqErr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.rejected) < maxRejected {
		n.rejected = append(n.rejected, fmt.Sprintf("%v: %v", c, code))
	}
}

// fill adds the notes to the report.
func (n *notes) fill(own *machine.Own) {
	n.mu.Lock()
	defer n.mu.Unlock()
	own.Commands, own.Events, own.Binds = maps.Clone(n.commands), maps.Clone(n.events), maps.Clone(n.binds)
	own.Rejected = n.rejected
}
