package transcript

import (
	"reflect"
	"time"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
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

// fetchesCommands tells a fetch of commands from a look into the stream table:
// it begins where the device consumes. A guest could have both in one place,
// and would then have its transcript misunderstood.
func fetchesCommands(d *vsmmu.Device, gpa guestmem.GPA, n int) bool {
	if n%smmuv3.CommandSize != 0 {
		return false
	}
	q, cons := commandQueue(d)
	return gpa == guestmem.GPA(q.Entry(cons))
}

// commandQueue is where the device consumes commands.
func commandQueue(d *vsmmu.Device) (smmuv3.Queue, smmuv3.Index) {
	ids := d.IDs()
	q := smmuv3.QueueBase(d.Load(smmuv3.RegCMDQBase, 8)).Queue(
		smmuv3.CommandSize, ids.Get(smmuv3.CMDQS), ids.OutputMask())
	return q, smmuv3.Index(d.Load(smmuv3.RegCMDQCons, 4)) & q.Mask()
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

// tapTrace records what the device tells of itself, and passes it on.
func (r *Recorder) tapTrace(t vsmmu.Trace) vsmmu.Trace {
	command, event := t.Command, t.Event
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
	return t
}

type tappedHost struct {
	r      *Recorder
	host   bridge.Host
	number uint32
}

// tap returns the tap of a host, always the same; nil for what a device does
// not take as a host.
func (r *Recorder) tap(h bridge.Host) *tappedHost {
	if h == nil || !reflect.TypeOf(h).Comparable() {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.hosts[h]
	if t == nil {
		t = &tappedHost{r: r, host: h, number: uint32(len(r.hosts))}
		r.hosts[h] = t
	}
	return t
}

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

func (h *tappedHost) Events(sink func(smmuv3.Event)) {
	h.host.Events(func(ev smmuv3.Event) {
		h.r.feed.Lock()
		defer h.r.feed.Unlock()
		h.r.log.add(&Fault{h.number, ev})
		sink(ev)
	})
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
