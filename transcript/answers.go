package transcript

import (
	"errors"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmu"
)

// errOver is the answer where the transcript has none: after a cut, and after a difference.
var errOver = errors.New("not in the transcript")

// replayHost answers as the recorded host did.
type replayHost struct {
	r       *replay
	number  uint32
	caps    bridge.Capabilities // the last answer
	claimed bool                // by the device
	sink    func(smmuv3.Event)
	pages   func(smmuv3.PageRequest)
	refetch func(smmuv3.StreamID) bool
}

// replayRefetcher answers as a recorded host that is a bridge.STERefetcher did.
type replayRefetcher struct{ *replayHost }

// SetSTERefetch(nil) does not remove the function, for the same reason as Events(nil).
func (h replayRefetcher) SetSTERefetch(refetch func(smmuv3.StreamID) bool) {
	if refetch != nil {
		h.refetch = refetch
	}
	h.r.answer(&HostRefetcher{h.number, refetch != nil})
}

// replayEndpoint replaces any endpoint.
type replayEndpoint struct{}

// A device uses these interfaces only if the guest's ID registers show page requests or stalls.
var (
	_ bridge.PageRequester = (*replayHost)(nil)
	_ bridge.Staller       = (*replayHost)(nil)
)

// PageRequests(nil) does not remove the sink. The recorded host may have finished the report of a
// request after the release.
func (h *replayHost) PageRequests(sink func(smmuv3.PageRequest)) error {
	if sink == nil {
		return h.r.claimed(h.number, ReleasePageRequests)
	}
	h.pages = sink
	return h.r.claimed(h.number, ClaimPageRequests)
}

func (h *replayHost) Respond(r bridge.PageResponse) error {
	if b, ok := h.r.answer(&HostRespond{Response: r}).(*HostRespond); ok {
		return b.Err.err()
	}
	return nil
}

func (h *replayHost) Resume(sid smmuv3.StreamID, stag uint16, how bridge.Resumption) error {
	if b, ok := h.r.answer(&HostResume{StreamID: sid, STAG: stag, How: how}).(*HostResume); ok {
		return b.Err.err()
	}
	return nil
}

func (h *replayHost) TerminateStalled(sid smmuv3.StreamID) error {
	if b, ok := h.r.answer(&HostTerminate{StreamID: sid}).(*HostTerminate); ok {
		return b.Err.err()
	}
	return nil
}

func (h *replayHost) Capabilities() (bridge.Capabilities, error) {
	if h.r.isBetween() {
		return h.caps, nil
	}
	if b, ok := h.r.answer(&HostCapabilities{Host: h.number}).(*HostCapabilities); ok {
		h.caps = bridge.Capabilities{IDs: b.IDs}
		return h.caps, b.Err.err()
	}
	return bridge.Capabilities{}, errOver
}

func (h *replayHost) Attach(sid smmuv3.StreamID, _ bridge.Endpoint) (bridge.Stream, error) {
	if h.r.isBetween() {
		return &replayStream{h.r, sid}, nil
	}
	if b, ok := h.r.answer(&HostAttach{Host: h.number, StreamID: sid}).(*HostAttach); ok {
		if b.Err != nil {
			return nil, b.Err
		}
		return &replayStream{h.r, sid}, nil
	}
	return nil, errOver
}

func (h *replayHost) Invalidate(cmds []smmuv3.Command) error {
	if h.r.renewing {
		return h.r.invalidate(&HostInvalidate{Host: h.number, Commands: cmds})
	}
	if b, ok := h.r.answer(&HostInvalidate{Host: h.number, Commands: cmds}).(*HostInvalidate); ok {
		return b.Err.err()
	}
	return nil
}

// Events(nil) does not remove the sink, for the same reason as PageRequests(nil).
func (h *replayHost) Events(sink func(smmuv3.Event)) error {
	if sink == nil {
		h.claimed = h.r.isBetween()
		return h.r.claimed(h.number, ReleaseEvents)
	}
	h.sink = sink
	err := h.r.claimed(h.number, ClaimEvents)
	h.claimed = err == nil
	return err
}

func (h *replayHost) SetGuestIDs(smmuv3.IDRegs) error { return h.r.claimed(h.number, ClaimGuestIDs) }

func (h *replayHost) Close() error { return nil }

type replayStream struct {
	r   *replay
	sid smmuv3.StreamID
}

func (s *replayStream) Bind(g bridge.GuestStage) error {
	if b, ok := s.r.answer(&HostBind{StreamID: s.sid, Stage: g}).(*HostBind); ok {
		return b.Err.err()
	}
	return nil
}

func (s *replayStream) Close() error {
	if b, ok := s.r.answer(&HostDetach{StreamID: s.sid}).(*HostDetach); ok {
		return b.Err.err()
	}
	return nil
}

type replayInterrupts struct{ r *replay }

func (i replayInterrupts) Pulse(line vsmmu.Line) error {
	if b, ok := i.r.answer(&Pulse{Line: line}).(*Pulse); ok {
		return b.Err.err()
	}
	return nil
}

func (i replayInterrupts) SignalMSI(addr guestmem.GPA, data uint32) error {
	if b, ok := i.r.answer(&MSI{Addr: addr, Data: data}).(*MSI); ok {
		return b.Err.err()
	}
	return nil
}

// replayMemory is guest memory as the recorded device saw it.
type replayMemory struct{ r *replay }

func (m replayMemory) WriteAt(p []byte, gpa guestmem.GPA) error {
	if b, ok := m.r.answer(&MemWrite{GPA: gpa, Data: p}).(*MemWrite); ok {
		return b.Err.err()
	}
	return nil
}

func (m replayMemory) ReadAt(p []byte, gpa guestmem.GPA) error {
	r := m.r
	fetch := fetchesCommands(r.dev, gpa, len(p))
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.released || r.between || r.err != nil {
		return errOver
	}
	var known bool
	var err error
	if fetch {
		known, err = r.reads.fetch(p, r.executed)
	} else {
		var entry int
		if entry, known, err = r.reads.look(p, gpa, r.executed); known {
			r.did(entry)
		}
	}
	if known {
		return err
	}
	if r.t.Complete() {
		r.differ(nil, &MemRead{GPA: gpa, Len: uint32(len(p)), Command: fetch})
	}
	return errOver
}
