package transcript

import (
	"fmt"
	"reflect"
	"time"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/internal/nilcheck"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmu"
)

type tappedMemory struct {
	r   *Recorder
	mem guestmem.Memory
}

func (m tappedMemory) ReadAt(p []byte, gpa guestmem.GPA) error {
	fetch := fetchesCommands(m.r.dev, gpa, len(p))
	err := m.mem.ReadAt(p, gpa)
	e := &MemRead{GPA: gpa, Len: uint32(len(p)), Command: fetch, Err: newError(err)}
	if err == nil {
		e.Data = p
	}
	m.r.log.add(e)
	return err
}

func (m tappedMemory) WriteAt(p []byte, gpa guestmem.GPA) error {
	err := m.mem.WriteAt(p, gpa)
	m.r.log.add(&MemWrite{gpa, p, newError(err)})
	return err
}

// fetchesCommands reports whether a read fetches commands rather than part of the stream table. A
// fetch starts at the entry that the device consumes next. The transcript is ambiguous if the guest
// places the queue and the stream table at the same address.
func fetchesCommands(d *vsmmu.Device, gpa guestmem.GPA, n int) bool {
	if n%smmuv3.CommandSize != 0 {
		return false
	}
	q, cons := commandQueue(d)
	return gpa == guestmem.GPA(q.Entry(cons))
}

// commandQueue returns the command queue and the index of the next command.
func commandQueue(d *vsmmu.Device) (smmuv3.Queue, smmuv3.Index) {
	ids := d.IDs()
	q := smmuv3.QueueBase(d.Load(smmuv3.RegCMDQ_BASE, 8)).Queue(
		smmuv3.CommandSize, ids.Get(smmuv3.CMDQS), ids.OutputMask())
	return q, smmuv3.Index(d.Load(smmuv3.RegCMDQ_CONS, 4)) & q.Mask()
}

type tappedInterrupts struct {
	r   *Recorder
	out vsmmu.Interrupts
}

func (i tappedInterrupts) Pulse(line vsmmu.Line) error {
	err := i.out.Pulse(line)
	i.r.log.add(&Pulse{line, newError(err)})
	return err
}

func (i tappedInterrupts) SignalMSI(addr guestmem.GPA, data uint32) error {
	err := i.out.SignalMSI(addr, data)
	i.r.log.add(&MSI{addr, data, newError(err)})
	return err
}

// tapTrace returns t with each call recorded and forwarded.
func (r *Recorder) tapTrace(t vsmmu.Trace) vsmmu.Trace {
	command, event, request := t.Command, t.Event, t.PageRequest
	t.Command = func(c smmuv3.Command, code smmuv3.CmdqErr) {
		r.log.add(&Command{c, code})
		if command != nil {
			command(c, code)
		}
	}
	t.Event = func(ev smmuv3.Event, f vsmmu.Fate) {
		r.log.add(&Event{ev, f})
		if event != nil {
			event(ev, f)
		}
	}
	t.PageRequest = func(q smmuv3.PageRequest, f vsmmu.Fate) {
		r.log.add(&PageRequest{q, f})
		if request != nil {
			request(q, f)
		}
	}
	return t
}

type tappedHost struct {
	r      *Recorder
	host   bridge.Host
	number uint32
}

// tap returns the tap of a host, always the same one, and the host's number. It returns nil for a
// value that a device refuses as a host, and for hosts beyond maxHosts.
func (r *Recorder) tap(h bridge.Host) (bridge.Host, uint32) {
	if nilcheck.IsNil(h) || !reflect.ValueOf(h).Comparable() {
		return nil, 0
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.hosts[h]
	if t == nil && len(r.hosts) == maxHosts {
		r.log.cutOff(fmt.Sprintf("more than %d hosts", maxHosts))
		return nil, 0
	}
	if t == nil {
		t = (&tappedHost{r: r, host: h, number: uint32(len(r.hosts))}).withOptional()
		r.hosts[h] = t
	}
	return t, t.(interface{ no() uint32 }).no()
}

func (h *tappedHost) no() uint32 { return h.number }

func (h *tappedHost) Capabilities() (bridge.Capabilities, error) {
	caps, err := h.host.Capabilities()
	h.r.log.add(&HostCapabilities{h.number, caps.IDs, newError(err)})
	return caps, err
}

func (h *tappedHost) Attach(sid smmuv3.StreamID, ep bridge.Endpoint) (bridge.Stream, error) {
	began := time.Now()
	s, err := h.host.Attach(sid, ep)
	h.r.log.add(&HostAttach{h.number, sid, time.Since(began), newError(err)})
	if err != nil {
		return nil, err
	}
	return &tappedStream{h.r, sid, s}, nil
}

func (h *tappedHost) Invalidate(cmds []smmuv3.Command) error {
	began := time.Now()
	err := h.host.Invalidate(cmds)
	h.r.log.add(&HostInvalidate{h.number, cmds, time.Since(began), newError(err)})
	return err
}

func (h *tappedHost) SetGuestIDs(ids smmuv3.IDRegs) error {
	return h.claimed(ClaimGuestIDs, h.host.SetGuestIDs(ids))
}

func (h *tappedHost) Events(sink func(smmuv3.Event)) error {
	if sink == nil {
		return h.claimed(ReleaseEvents, h.host.Events(nil))
	}
	return h.claimed(ClaimEvents, h.host.Events(func(ev smmuv3.Event) {
		h.r.feed.fault(func() { h.r.log.add(&Fault{h.number, ev}) }, func() { sink(ev) })
	}))
}

// claimed records a failure to claim or release the host, and returns err.
func (h *tappedHost) claimed(step ClaimStep, err error) error {
	if err != nil {
		h.r.log.add(&HostClaim{h.number, step, newError(err)})
	}
	return err
}

func (h *tappedHost) Close() error { return h.host.Close() }

type tappedStream struct {
	r      *Recorder
	sid    smmuv3.StreamID
	stream bridge.Stream
}

func (s *tappedStream) Bind(g bridge.GuestStage) error {
	began := time.Now()
	err := s.stream.Bind(g)
	s.r.log.add(&HostBind{s.sid, g, time.Since(began), newError(err)})
	return err
}

func (s *tappedStream) Close() error {
	began := time.Now()
	err := s.stream.Close()
	s.r.log.add(&HostDetach{s.sid, time.Since(began), newError(err)})
	return err
}
