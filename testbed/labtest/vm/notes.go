//go:build linux && (amd64 || arm64)

package vm

import (
	"maps"
	"slices"
	"sync"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/iommufd"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/testbed/labtest/machine"
	"github.com/go-vsmmu/vsmmuv3/vsmmu"
)

// Bounds of the data that notes keep for a guest.
const (
	maxBinds   = 64 // of each stream
	maxStreams = 8
	maxEvents  = 16
	maxPlaces  = 64
)

// notes keep the actions of the SMMU. Their methods are safe for concurrent use.
type notes struct {
	mu       sync.Mutex
	commands [2][1 << 8]uint64 // by error and opcode
	streams  map[smmuv3.StreamID]*machine.Stream
	events   []machine.Event
	places   []machine.Place
	cost     cost
	interval interval
}

// cost counts a guest's invalidations and the work that they caused.
type cost struct {
	syncs    uint64 // CMD_SYNC
	commands uint64 // invalidations that the guest gave
	alone    uint64 // batches of one command, if the guest gave more before the CMD_SYNC
}

func (c cost) since(before cost) cost {
	return cost{c.syncs - before.syncs, c.commands - before.commands, c.alone - before.alone}
}

// interval counts between two CMD_SYNC.
type interval struct {
	commands int // invalidations that the guest gave
	alone    int // batches of one command that the host executed
}

func newNotes() *notes {
	return &notes{streams: map[smmuv3.StreamID]*machine.Stream{}}
}

// trace returns the SMMU's trace hooks.
func (n *notes) trace() vsmmu.Trace {
	return vsmmu.Trace{Command: n.command, Bind: n.bind, Event: n.event}
}

func (n *notes) command(c smmuv3.Command, code smmuv3.CmdqErr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	failed := 0
	if code != smmuv3.CERROR_NONE {
		failed = 1
	}
	n.commands[failed][c.Opcode()]++
	switch c.Opcode() {
	case smmuv3.OpTLBINHAll, smmuv3.OpTLBINHASID, smmuv3.OpTLBINHVA, smmuv3.OpTLBINHVAA, smmuv3.OpTLBINSNHAll,
		smmuv3.OpCfgiCD, smmuv3.OpCfgiCDAll, smmuv3.OpATCInv:
		n.cost.commands++
		n.interval.commands++
	case smmuv3.OpSync:
		n.cost.syncs++
		if n.interval.commands > 1 {
			n.cost.alone += uint64(n.interval.alone)
		}
		n.interval = interval{}
	}
}

// batch counts a batch of commands for the host.
func (n *notes) batch(size int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if size == 1 {
		n.interval.alone++
	}
}

func (n *notes) bind(sid smmuv3.StreamID, g bridge.GuestStage, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := n.streams[sid]
	if s == nil {
		if len(n.streams) == maxStreams {
			return
		}
		s = &machine.Stream{StreamID: uint32(sid), Host: "iommufd"}
		if sid == virtioID {
			s.Host = "soft"
		}
		n.streams[sid] = s
	}
	text := g.String()
	if err != nil {
		text += ": " + err.Error()
	}
	if s.Calls++; len(s.Binds) < maxBinds {
		s.Binds = append(s.Binds, text)
	}
}

func (n *notes) event(e smmuv3.Event, fate vsmmu.Fate) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if fate == vsmmu.Recorded && len(n.events) < maxEvents {
		n.events = append(n.events, machine.Event{
			Name: e.Type().String(), StreamID: uint32(e.StreamID()), Address: e.InputAddr(),
		})
	}
}

// place keeps an attach or detach of the NVMe disk under a StreamID.
func (n *notes) place(sid smmuv3.StreamID, attached bool, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.places) == maxPlaces {
		return
	}
	p := machine.Place{StreamID: uint32(sid), Attached: attached}
	if err != nil {
		p.Error = err.Error()
	}
	n.places = append(n.places, p)
}

// spent returns the cost so far.
func (n *notes) spent() cost {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.cost
}

// end returns the notes.
func (n *notes) end() machine.End {
	n.mu.Lock()
	defer n.mu.Unlock()
	end := machine.End{Commands: map[string]uint64{}, Places: slices.Clone(n.places), Events: slices.Clone(n.events)}
	for failed, suffix := range []string{"", " (error)"} {
		for op, count := range n.commands[failed] {
			if count > 0 {
				end.Commands[smmuv3.Opcode(op).String()+suffix] = count
			}
		}
	}
	for _, sid := range slices.Sorted(maps.Keys(n.streams)) {
		end.Streams = append(end.Streams, *n.streams[sid])
	}
	return end
}

// counted is the NVMe disk's host. It counts the batches.
type counted struct {
	*iommufd.Host
	notes *notes
}

// Invalidate implements bridge.Host.
func (c *counted) Invalidate(cmds []smmuv3.Command) error {
	c.notes.batch(len(cmds))
	return c.Host.Invalidate(cmds)
}
