package transcript

import (
	"fmt"
	"reflect"
	"time"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/internal/verbs"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmu"
)

// Entry is one event of a recording.
type Entry struct {
	At   time.Duration // since the start of the transcript, in whole microseconds
	Body Body
}

// Body is the content of an entry. It is a pointer to one of the types of this file.
type Body interface {
	// String describes the entry on one line.
	String() string
	// Channel returns the channel of the entry. The order within a channel is exact.
	Channel() Channel

	// question lists the fields that replay compares; answer lists those that replay returns to the
	// device.
	question(*coder)
	answer(*coder)
}

// Channel is a sequence of entries whose order is exact (see the package).
type Channel struct {
	Name string
	N    uint64 // the StreamID, the number of the host, the line, or the address
}

func (c Channel) String() string {
	switch c.Name {
	case chStream, chEndpoint, chMessage, chMemory:
		return fmt.Sprintf("%s %#x", c.Name, c.N)
	case chHost:
		return fmt.Sprintf("%s %d", c.Name, c.N)
	case chLine:
		return fmt.Sprintf("%s %v", c.Name, vsmmu.Line(c.N))
	}
	return c.Name
}

const (
	chRegisters = "registers"
	chCommands  = "command queue"
	chRecords   = "event queue"
	chEvents    = "events"
	chPages     = "PRI queue"
	chRequests  = "page requests"
	chStream    = "stream"
	chHost      = "host"
	chLine      = "line"
	chMessage   = "MSI to"
	chMemory    = "memory at"
	chCalls     = "calls of the embedder"
	chEndpoint  = "endpoint"
	chNotes     = "notes"
)

// kinds are the types of bodies by their number in the format. New ones go to the end.
var kinds = [...]func() Body{
	1:  func() Body { return new(Load) },
	2:  func() Body { return new(Store) },
	3:  func() Body { return new(Call) },
	4:  func() Body { return new(Return) },
	5:  func() Body { return new(Fault) },
	6:  func() Body { return new(MemRead) },
	7:  func() Body { return new(MemWrite) },
	8:  func() Body { return new(HostCapabilities) },
	9:  func() Body { return new(HostAttach) },
	10: func() Body { return new(HostBind) },
	11: func() Body { return new(HostDetach) },
	12: func() Body { return new(HostInvalidate) },
	13: func() Body { return new(Pulse) },
	14: func() Body { return new(MSI) },
	15: func() Body { return new(Command) },
	16: func() Body { return new(Event) },
	17: func() Body { return new(DMA) },
	18: func() Body { return new(Note) },
	19: func() Body { return new(End) },
	20: func() Body { return new(PageFault) },
	21: func() Body { return new(PageRequest) },
	22: func() Body { return new(HostRespond) },
	23: func() Body { return new(HostResume) },
	24: func() Body { return new(HostTerminate) },
	25: func() Body { return new(Restore) },
	26: func() Body { return new(HostClaim) },
	27: func() Body { return new(HostRefetcher) },
	28: func() Body { return new(Refetch) },
	29: func() Body { return new(Refetched) },
}

// numbers has the numbers of the types in kinds.
var numbers = func() map[reflect.Type]uint8 {
	m := map[reflect.Type]uint8{}
	for i, make := range kinds {
		if make != nil {
			m[reflect.TypeOf(make())] = uint8(i)
		}
	}
	return m
}()

// sizes are the bytes of memory that an entry of each kind takes, without its slices and strings.
var sizes = func() (s [len(kinds)]uint64) {
	for i, make := range kinds {
		if make != nil {
			s[i] = uint64(reflect.TypeFor[Entry]().Size() + reflect.TypeOf(make()).Elem().Size())
		}
	}
	return s
}()

// Load is a load by the guest, with the value that it read.
type Load struct {
	Offset uint64
	Size   uint8
	Value  uint64
	// Racing means that a store to the same register was in progress, so the load may have read the
	// earlier value. Replay does not compare the value.
	Racing bool
}

// Store is a store by the guest.
type Store struct {
	Offset uint64
	Size   uint8
	Value  uint64
}

// Op is a method of the device that the embedder calls.
type Op uint8

// The methods of the device.
const (
	OpAttach Op = iota
	OpDetach
	OpReset
	OpGuestWrote
	OpClose
	OpSave
	OpRestore // in a Return; the call itself is a Restore
)

func (o Op) String() string {
	names := [...]string{"attach", "detach", "reset", "guest wrote", "close", "save", "restore"}
	if int(o) < len(names) {
		return names[o]
	}
	return fmt.Sprintf("Op(%d)", uint8(o))
}

// Format implements fmt.Formatter: %v, %s and %q print the text of String, other verbs print the
// number.
func (o Op) Format(f fmt.State, verb rune) { verbs.Code(f, verb, o.String(), uint8(o)) }

// Call is a call of the device by the embedder.
type Call struct {
	Op       Op
	StreamID smmuv3.StreamID // of attach and detach
	Host     uint32          // of attach; hosts are numbered in the order of their first attach
	Range    guestmem.Range  // of GuestWrote
}

// Restore is a call of Device.Restore by the embedder.
type Restore struct{ State []byte }

// Return is the result of a Call or a Restore.
type Return struct {
	Op       Op
	StreamID smmuv3.StreamID
	Failed   bool
	Text     string // of the error; not compared
}

// Fault is an event that a host reports for the guest.
type Fault struct {
	Host  uint32
	Event smmuv3.Event
}

// MemRead is a read of guest memory by the device.
type MemRead struct {
	GPA     guestmem.GPA
	Len     uint32
	Command bool // a fetch of commands; otherwise a read of the stream table
	Data    []byte
	Err     *Error
}

// MemWrite is a write of guest memory by the device: a record of an output queue, or the completion
// of a CMD_SYNC.
type MemWrite struct {
	GPA  guestmem.GPA
	Data []byte
	Err  *Error
}

// HostCapabilities is a call of Host.Capabilities by the device.
type HostCapabilities struct {
	Host uint32
	IDs  smmuv3.IDRegs
	Err  *Error
}

// HostAttach is a call of Host.Attach by the device.
type HostAttach struct {
	Host     uint32
	StreamID smmuv3.StreamID
	Took     time.Duration
	Err      *Error
}

// HostBind is a call of Stream.Bind by the device.
type HostBind struct {
	StreamID smmuv3.StreamID
	Stage    bridge.GuestStage
	Took     time.Duration
	Err      *Error
}

// HostDetach is a call of Stream.Close by the device.
type HostDetach struct {
	StreamID smmuv3.StreamID
	Took     time.Duration
	Err      *Error
}

// HostInvalidate is a call of Host.Invalidate by the device.
type HostInvalidate struct {
	Host     uint32
	Commands []smmuv3.Command
	Took     time.Duration
	Err      *Error
}

// Pulse is a wired interrupt of the device.
type Pulse struct {
	Line vsmmu.Line
	Err  *Error
}

// MSI is a message of the device to the interrupt controller.
type MSI struct {
	Addr guestmem.GPA
	Data uint32
	Err  *Error
}

// Command is a command that the device executed or found illegal.
type Command struct {
	Command smmuv3.Command
	Code    smmuv3.CmdqErr
}

// Event is an event of the device, and whether it was recorded.
type Event struct {
	Event smmuv3.Event
	Fate  vsmmu.Fate
}

// PageFault is a page request that a host forwards from an endpoint.
type PageFault struct {
	Host    uint32
	Request smmuv3.PageRequest
}

// PageRequest is a page request of the device, with its outcome.
type PageRequest struct {
	Request smmuv3.PageRequest
	Fate    vsmmu.Fate
}

// HostRespond is a call of PageRequester.Respond by the device.
type HostRespond struct {
	Response bridge.PageResponse
	Err      *Error
}

// HostResume is a call of Staller.Resume by the device.
type HostResume struct {
	StreamID smmuv3.StreamID
	STAG     uint16
	How      bridge.Resumption
	Err      *Error
}

// HostTerminate is a call of Staller.TerminateStalled by the device.
type HostTerminate struct {
	StreamID smmuv3.StreamID
	Err      *Error
}

// ClaimStep is a call by which a device claims or releases a host.
type ClaimStep uint8

// The steps of claiming and releasing a host.
const (
	ClaimEvents         ClaimStep = iota // Host.Events with a sink
	ClaimGuestIDs                        // Host.SetGuestIDs
	ClaimPageRequests                    // PageRequester.PageRequests with a sink
	ReleaseEvents                        // Host.Events(nil)
	ReleasePageRequests                  // PageRequester.PageRequests(nil)
)

func (s ClaimStep) String() string {
	names := [...]string{
		"claim events", "set guest IDs", "claim page requests", "release events", "release page requests",
	}
	if int(s) < len(names) {
		return names[s]
	}
	return fmt.Sprintf("ClaimStep(%d)", uint8(s))
}

// Format implements fmt.Formatter: %v, %s and %q print the text of String, other verbs print the
// number.
func (s ClaimStep) Format(f fmt.State, verb rune) { verbs.Code(f, verb, s.String(), uint8(s)) }

// HostClaim is a step of claiming or releasing a host that fails. A step that succeeds has no
// entry.
type HostClaim struct {
	Host uint32
	Step ClaimStep
	Err  *Error
}

// HostRefetcher is a call of STERefetcher.SetSTERefetch by the device. A host without such an entry
// is not an STERefetcher.
type HostRefetcher struct {
	Host uint32
	Set  bool // false for nil
}

// Refetch is a request of a host, for a transaction, to read an STE again.
type Refetch struct {
	Host     uint32
	StreamID smmuv3.StreamID
}

// Refetched is the device's answer to a Refetch. It depends on time, and replay does not compare
// it.
type Refetched struct {
	StreamID smmuv3.StreamID
	Again    bool // the host retries the transaction
}

// DMA is an access by an endpoint. The device sees no DMA; the entry is for readers.
type DMA struct {
	StreamID smmuv3.StreamID
	Write    bool
	IOVA     uint64
	Len      uint64
	Err      *Error
}

// Note is a remark of the embedder, such as the stage of the boot.
type Note struct{ Text string }

// End is the last entry.
type End struct {
	// Cut is why the transcript ends before the device's Close. It is empty for a complete
	// transcript.
	Cut string
}

func (b *Load) question(c *coder) { num(c, &b.Offset); num(c, &b.Size) }
func (b *Load) answer(c *coder)   { num(c, &b.Value); c.bool(&b.Racing) }

func (b *Store) question(c *coder) { num(c, &b.Offset); num(c, &b.Size); num(c, &b.Value) }
func (b *Store) answer(*coder)     {}

func (b *Call) question(c *coder) {
	num(c, &b.Op)
	num(c, &b.StreamID)
	num(c, &b.Host)
	num(c, &b.Range.GPA)
	num(c, &b.Range.Len)
}
func (b *Call) answer(*coder) {}

func (b *Return) question(c *coder) { num(c, &b.Op); num(c, &b.StreamID); c.bool(&b.Failed) }
func (b *Return) answer(c *coder)   { c.text(&b.Text) }

func (b *Fault) question(c *coder) { num(c, &b.Host); words(c, b.Event[:]) }
func (b *Fault) answer(*coder)     {}

func (b *MemRead) question(c *coder) { num(c, &b.GPA); num(c, &b.Len); c.bool(&b.Command) }
func (b *MemRead) answer(c *coder)   { c.bytes(&b.Data); c.error(&b.Err) }

func (b *MemWrite) question(c *coder) { num(c, &b.GPA); c.bytes(&b.Data) }
func (b *MemWrite) answer(c *coder)   { c.error(&b.Err) }

func (b *HostCapabilities) question(c *coder) { num(c, &b.Host) }
func (b *HostCapabilities) answer(c *coder) {
	words(c, b.IDs.IDR[:])
	num(c, &b.IDs.IIDR)
	num(c, &b.IDs.AIDR)
	c.error(&b.Err)
}

func (b *HostAttach) question(c *coder) { num(c, &b.Host); num(c, &b.StreamID) }
func (b *HostAttach) answer(c *coder)   { c.took(&b.Took); c.error(&b.Err) }

func (b *HostBind) question(c *coder) { num(c, &b.StreamID); c.stage(&b.Stage) }
func (b *HostBind) answer(c *coder)   { c.took(&b.Took); c.error(&b.Err) }

func (b *HostDetach) question(c *coder) { num(c, &b.StreamID) }
func (b *HostDetach) answer(c *coder)   { c.took(&b.Took); c.error(&b.Err) }

func (b *HostInvalidate) question(c *coder) {
	num(c, &b.Host)
	c.commands(&b.Commands)
}
func (b *HostInvalidate) answer(c *coder) { c.took(&b.Took); c.error(&b.Err) }

func (b *Pulse) question(c *coder) { num(c, &b.Line) }
func (b *Pulse) answer(c *coder)   { c.error(&b.Err) }

func (b *MSI) question(c *coder) { num(c, &b.Addr); num(c, &b.Data) }
func (b *MSI) answer(c *coder)   { c.error(&b.Err) }

func (b *Command) question(c *coder) {
	words(c, b.Command[:])
	if num(c, &b.Code); b.Code > 0x7f { // CMDQ_CONS.ERR has seven bits (§6.3.28)
		c.fail(fmt.Errorf("command error code %#x", uint32(b.Code)))
		b.Code = smmuv3.CERROR_NONE
	}
}
func (b *Command) answer(*coder) {}

func (b *Event) question(c *coder) {
	words(c, b.Event[:])
	c.fate(&b.Fate)
}
func (b *Event) answer(*coder) {}

func (b *DMA) question(c *coder) {
	num(c, &b.StreamID)
	c.bool(&b.Write)
	num(c, &b.IOVA)
	num(c, &b.Len)
}
func (b *DMA) answer(c *coder) { c.error(&b.Err) }

func (b *Note) question(c *coder) { c.text(&b.Text) }
func (b *Note) answer(*coder)     {}

func (b *End) question(c *coder) { c.text(&b.Cut) }
func (b *End) answer(*coder)     {}

func (b *PageFault) question(c *coder) { num(c, &b.Host); words(c, b.Request[:]) }
func (b *PageFault) answer(*coder)     {}

func (b *PageRequest) question(c *coder) { words(c, b.Request[:]); c.fate(&b.Fate) }
func (b *PageRequest) answer(*coder)     {}

func (b *HostRespond) question(c *coder) {
	num(c, &b.Response.StreamID)
	num(c, &b.Response.SubstreamID)
	c.bool(&b.Response.SSV)
	num(c, &b.Response.PRGIndex)
	num(c, &b.Response.Response)
}
func (b *HostRespond) answer(c *coder) { c.error(&b.Err) }

func (b *HostResume) question(c *coder) { num(c, &b.StreamID); num(c, &b.STAG); num(c, &b.How) }
func (b *HostResume) answer(c *coder)   { c.error(&b.Err) }

func (b *Restore) question(c *coder) { c.bytes(&b.State) }
func (b *Restore) answer(*coder)     {}

func (b *HostTerminate) question(c *coder) { num(c, &b.StreamID) }
func (b *HostTerminate) answer(c *coder)   { c.error(&b.Err) }

func (b *HostClaim) question(c *coder) { num(c, &b.Host); num(c, &b.Step) }
func (b *HostClaim) answer(c *coder)   { c.error(&b.Err) }

func (b *HostRefetcher) question(c *coder) { num(c, &b.Host); c.bool(&b.Set) }
func (b *HostRefetcher) answer(*coder)     {}

func (b *Refetch) question(c *coder) { num(c, &b.Host); num(c, &b.StreamID) }
func (b *Refetch) answer(*coder)     {}

func (b *Refetched) question(c *coder) { num(c, &b.StreamID) }
func (b *Refetched) answer(c *coder)   { c.bool(&b.Again) }

func (c *coder) fate(f *vsmmu.Fate) {
	num(c, f)
	if *f > vsmmu.Held {
		c.fail(fmt.Errorf("unknown fate %d", uint8(*f)))
		*f = vsmmu.Discarded
	}
}

// took is the duration of a call, in microseconds.
func (c *coder) took(d *time.Duration) {
	us := uint64(max(*d, 0) / time.Microsecond)
	num(c, &us)
	*d = micros(us)
}

// micros returns us microseconds, or the longest Duration.
func micros(us uint64) time.Duration {
	const most = uint64(1<<63-1) / uint64(time.Microsecond)
	return time.Duration(min(us, most)) * time.Microsecond
}

func (c *coder) stage(g *bridge.GuestStage) {
	num(c, &g.Disposition)
	if g.Disposition > bridge.TranslateNested || c.v1 && g.Disposition > bridge.Translate {
		c.fail(fmt.Errorf("unknown disposition %d", uint8(g.Disposition)))
		g.Disposition = bridge.Abort
	}
	c.bool(&g.Disabled)
	num(c, &g.Cause)
	num(c, &g.FetchAddr)
	num(c, &g.S1ContextPtr)
	num(c, &g.S1CDMax)
	num(c, &g.S1Fmt)
	num(c, &g.S1DSS)
	num(c, &g.S1CIR)
	num(c, &g.S1COR)
	num(c, &g.S1CSH)
	c.bool(&g.S1STALLD)
	num(c, &g.EATS)
	if c.v1 {
		return
	}
	num(c, &g.S2VMID)
	if g.Disposition.Stage2() {
		c.stage2(&g.S2)
	}
}

func (c *coder) stage2(t *smmuv3.Stage2) {
	num(c, &t.TTB)
	num(c, &t.T0SZ)
	num(c, &t.SL0)
	num(c, &t.TG)
	num(c, &t.PS)
	num(c, &t.IR0)
	num(c, &t.OR0)
	num(c, &t.SH0)
	for _, flag := range []*bool{
		&t.AA64, &t.DS, &t.ENDI, &t.FWB, &t.PTW, &t.AFFD, &t.HA, &t.HD, &t.HAFT, &t.S, &t.R,
	} {
		c.bool(flag)
	}
}

// Channel implements Body.
func (b *Load) Channel() Channel { return Channel{Name: chRegisters} }

// Channel implements Body.
func (b *Store) Channel() Channel { return Channel{Name: chRegisters} }

// Channel implements Body.
func (b *Call) Channel() Channel { return Channel{Name: chCalls} }

// Channel implements Body.
func (b *Restore) Channel() Channel { return Channel{Name: chCalls} }

// Channel implements Body.
func (b *Return) Channel() Channel { return Channel{Name: chCalls} }

// Channel implements Body.
func (b *Fault) Channel() Channel { return Channel{Name: chEvents} }

// Channel implements Body.
func (b *MemRead) Channel() Channel {
	if b.Command {
		return Channel{Name: chCommands}
	}
	return Channel{chMemory, uint64(b.GPA)}
}

// Channel implements Body.
func (b *MemWrite) Channel() Channel {
	switch len(b.Data) {
	case smmuv3.EventSize:
		return Channel{Name: chRecords}
	case smmuv3.PageReqSize:
		return Channel{Name: chPages}
	}
	return Channel{chMessage, uint64(b.GPA)}
}

// Channel implements Body.
func (b *HostCapabilities) Channel() Channel { return Channel{chHost, uint64(b.Host)} }

// Channel implements Body.
func (b *HostAttach) Channel() Channel { return Channel{chStream, uint64(b.StreamID)} }

// Channel implements Body.
func (b *HostBind) Channel() Channel { return Channel{chStream, uint64(b.StreamID)} }

// Channel implements Body.
func (b *HostDetach) Channel() Channel { return Channel{chStream, uint64(b.StreamID)} }

// Channel implements Body.
func (b *HostInvalidate) Channel() Channel { return Channel{chHost, uint64(b.Host)} }

// Channel implements Body.
func (b *Pulse) Channel() Channel { return Channel{chLine, uint64(b.Line)} }

// Channel implements Body.
func (b *MSI) Channel() Channel { return Channel{chMessage, uint64(b.Addr)} }

// Channel implements Body.
func (b *Command) Channel() Channel { return Channel{Name: chCommands} }

// Channel implements Body.
func (b *Event) Channel() Channel { return Channel{Name: chEvents} }

// Channel implements Body.
func (b *DMA) Channel() Channel { return Channel{chEndpoint, uint64(b.StreamID)} }

// Channel implements Body.
func (b *Note) Channel() Channel { return Channel{Name: chNotes} }

// Channel implements Body.
func (b *End) Channel() Channel { return Channel{Name: chNotes} }

// Channel implements Body.
func (b *PageFault) Channel() Channel { return Channel{Name: chRequests} }

// Channel implements Body.
func (b *PageRequest) Channel() Channel { return Channel{Name: chRequests} }

// Channel implements Body.
func (b *HostRespond) Channel() Channel { return Channel{chStream, uint64(b.Response.StreamID)} }

// Channel implements Body.
func (b *HostResume) Channel() Channel { return Channel{chStream, uint64(b.StreamID)} }

// Channel implements Body.
func (b *HostTerminate) Channel() Channel { return Channel{chStream, uint64(b.StreamID)} }

// Channel implements Body.
func (b *HostClaim) Channel() Channel { return Channel{chHost, uint64(b.Host)} }

// Channel implements Body.
func (b *HostRefetcher) Channel() Channel { return Channel{chHost, uint64(b.Host)} }

// Channel implements Body.
func (b *Refetch) Channel() Channel { return Channel{chStream, uint64(b.StreamID)} }

// Channel implements Body.
func (b *Refetched) Channel() Channel { return Channel{chStream, uint64(b.StreamID)} }
