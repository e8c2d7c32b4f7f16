package transcript

import (
	"fmt"
	"strings"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

func (b *Load) String() string {
	return fmt.Sprintf("load of %s reads %#x", register(b.Offset, b.Size), b.Value)
}

func (b *Store) String() string {
	return fmt.Sprintf("store of %#x to %s", b.Value, register(b.Offset, b.Size))
}

// register returns the name of the register at an offset, or the size and the offset.
func register(off uint64, size uint8) string {
	name := smmuv3.RegisterName(off)
	if name == "" {
		return fmt.Sprintf("%d bytes at %#x", size, off)
	}
	return name
}

func (b *Call) String() string {
	switch b.Op {
	case OpAttach:
		return fmt.Sprintf("attach of stream %v to host %d", b.StreamID, b.Host)
	case OpDetach:
		return fmt.Sprintf("detach of stream %v", b.StreamID)
	case OpGuestWrote:
		return fmt.Sprintf("the guest wrote %d bytes at %v", b.Range.Len, b.Range.GPA)
	}
	return b.Op.String()
}

func (b *Restore) String() string { return fmt.Sprintf("restore of a state of %d bytes", len(b.State)) }

func (b *Return) String() string {
	s := b.Op.String()
	if b.Op == OpAttach || b.Op == OpDetach {
		s += fmt.Sprintf(" of stream %v", b.StreamID)
	}
	if b.Failed {
		return s + " fails: " + b.Text
	}
	return s + " succeeds"
}

func (b *Fault) String() string { return fmt.Sprintf("host %d reports %v", b.Host, b.Event) }

func (b *MemRead) String() string {
	what := "read of the stream table"
	if b.Command {
		what = "fetch of commands"
	}
	return fmt.Sprintf("%s, %d bytes at %v", what, b.Len, b.GPA) + answered(b.Err)
}

func (b *MemWrite) String() string {
	if len(b.Data) == smmuv3.EventSize {
		ev := smmuv3.LoadEvent((*[smmuv3.EventSize]byte)(b.Data))
		return fmt.Sprintf("record at %v: %v", b.GPA, ev) + answered(b.Err)
	}
	return fmt.Sprintf("write at %v: % x", b.GPA, b.Data) + answered(b.Err)
}

func (b *HostCapabilities) String() string {
	return fmt.Sprintf("host %d asked for its capabilities", b.Host) + answered(b.Err)
}

func (b *HostAttach) String() string {
	return fmt.Sprintf("attach stream %v to host %d", b.StreamID, b.Host) + answered(b.Err)
}

func (b *HostBind) String() string {
	return fmt.Sprintf("bind stream %v: %v", b.StreamID, b.Stage) + answered(b.Err)
}

func (b *HostDetach) String() string {
	return fmt.Sprintf("close stream %v", b.StreamID) + answered(b.Err)
}

// named is the number of commands of a batch that String lists.
const named = 8

func (b *HostInvalidate) String() string {
	var s strings.Builder
	fmt.Fprintf(&s, "invalidate on host %d:", b.Host)
	for i, c := range b.Commands {
		if i == named {
			fmt.Fprintf(&s, " and %d more", len(b.Commands)-named)
			break
		}
		if i > 0 {
			s.WriteString(",")
		}
		fmt.Fprintf(&s, " %v", c)
	}
	return s.String() + answered(b.Err)
}

func (b *Pulse) String() string { return fmt.Sprintf("pulse of line %v", b.Line) + answered(b.Err) }

func (b *MSI) String() string {
	return fmt.Sprintf("MSI of %#x to %v", b.Data, b.Addr) + answered(b.Err)
}

func (b *Command) String() string {
	if b.Code != smmuv3.CERROR_NONE {
		return fmt.Sprintf("%v: %v", b.Command, b.Code)
	}
	return b.Command.String()
}

func (b *Event) String() string { return fmt.Sprintf("%v: %v", b.Event, b.Fate) }

func (b *DMA) String() string {
	dir := "read"
	if b.Write {
		dir = "write"
	}
	return fmt.Sprintf("stream %v: %s of %d bytes at %#x", b.StreamID, dir, b.Len, b.IOVA) + answered(b.Err)
}

func (b *Note) String() string { return b.Text }

func (b *End) String() string {
	if b.Cut != "" {
		return "the recording was cut off: " + b.Cut
	}
	return "the end"
}

func (b *PageFault) String() string {
	return fmt.Sprintf("host %d forwards a page request: %s", b.Host, request(b.Request))
}

func (b *PageRequest) String() string {
	return fmt.Sprintf("page request: %s: %v", request(b.Request), b.Fate)
}

func request(r smmuv3.PageRequest) string {
	return fmt.Sprintf("stream %v group %d at %#x", r.StreamID(), r.PRGIndex(), r.Addr())
}

func (b *HostRespond) String() string {
	r := b.Response
	s := fmt.Sprintf("answer stream %v, page request group %d: %v", r.StreamID, r.PRGIndex, r.Response)
	return s + answered(b.Err)
}

func (b *HostClaim) String() string {
	return fmt.Sprintf("host %d: %v", b.Host, b.Step) + answered(b.Err)
}

func (b *HostRefetcher) String() string {
	if !b.Set {
		return fmt.Sprintf("host %d: release STE refetches", b.Host)
	}
	return fmt.Sprintf("host %d: claim STE refetches", b.Host)
}

func (b *Refetch) String() string {
	return fmt.Sprintf("host %d requests another read of the STE of stream %v", b.Host, b.StreamID)
}

func (b *Refetched) String() string {
	if b.Again {
		return fmt.Sprintf("retry the transaction of stream %v", b.StreamID)
	}
	return fmt.Sprintf("abort the transaction of stream %v", b.StreamID)
}

func (b *HostResume) String() string {
	how := "retry"
	if b.How != bridge.Retry {
		how = "terminate"
	}
	return fmt.Sprintf("resume stream %v, STAG %d: %s", b.StreamID, b.STAG, how) + answered(b.Err)
}

func (b *HostTerminate) String() string {
	return fmt.Sprintf("terminate the stalled transactions of stream %v", b.StreamID) + answered(b.Err)
}

// answered returns the end of the description of a call that returned err.
func answered(err *Error) string {
	if err == nil {
		return ""
	}
	return " -> " + err.Text
}
