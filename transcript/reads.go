package transcript

import (
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// reads holds the reads of the recorded device, in a form that does not depend on the time of the
// reads.
//
// The number of commands in a fetch depends on the number that the guest has queued at that time.
// reads therefore numbers the commands: command n is the last command fetched for position n. A
// read of the stream table belongs to the command that was in execution. reads finds it by its
// address and the number of that command.
type reads struct {
	commands []command
	failed   map[uint64]int // by command: aborted fetches of this command alone
	looks    map[place]*looks
	ste      *smmuv3.STE // the last one read
}

type command struct {
	smmuv3.Command
	known bool
}

type place struct {
	gpa guestmem.GPA
	n   int
}

// looks are the reads of one structure.
type looks struct {
	all  []look
	next int
}

type look struct {
	entry    int
	executed uint64 // commands before the read
	data     []byte
	err      *Error
}

func (r *reads) learn(entries []Entry) {
	r.failed, r.looks = map[uint64]int{}, map[place]*looks{}
	var executed uint64
	for i, e := range entries {
		switch b := e.Body.(type) {
		case *Command:
			executed++
		case *MemRead:
			switch {
			case b.Command && b.Err == nil:
				r.fetched(executed, b.Data)
			case b.Command && b.Len == smmuv3.CommandSize:
				r.failed[executed]++
			case !b.Command:
				at := place{b.GPA, int(b.Len)}
				if r.looks[at] == nil {
					r.looks[at] = &looks{}
				}
				r.looks[at].all = append(r.looks[at].all, look{i, executed, b.Data, b.Err})
			}
		}
	}
}

// fetched adds commands from number n on.
func (r *reads) fetched(n uint64, p []byte) {
	for ; len(p) >= smmuv3.CommandSize; p, n = p[smmuv3.CommandSize:], n+1 {
		for uint64(len(r.commands)) <= n {
			r.commands = append(r.commands, command{})
		}
		r.commands[n] = command{smmuv3.LoadCommand(p), true}
	}
}

// command returns command n, if the recorded device fetched it.
func (r *reads) command(n uint64) (smmuv3.Command, bool) {
	if n >= uint64(len(r.commands)) {
		return smmuv3.Command{}, false
	}
	return r.commands[n].Command, r.commands[n].known
}

// fetch fills p with the commands from number n on. known is false if the recorded device did not
// fetch them.
func (r *reads) fetch(p []byte, n uint64) (known bool, err error) {
	one := len(p) == smmuv3.CommandSize
	for ; len(p) >= smmuv3.CommandSize; p, n = p[smmuv3.CommandSize:], n+1 {
		if r.failed[n] > 0 {
			if one {
				r.failed[n]--
			}
			return true, guestmem.ErrUnmapped
		}
		c, ok := r.command(n)
		if !ok {
			return false, nil
		}
		c.Put((*[smmuv3.CommandSize]byte)(p))
	}
	return true, nil
}

// look fills p with the bytes that the recorded device read at gpa after this number of executed
// commands, and returns the entry of that read. If all reads at gpa are earlier, it uses the last
// one.
func (r *reads) look(p []byte, gpa guestmem.GPA, executed uint64) (entry int, known bool, err error) {
	l := r.looks[place{gpa, len(p)}]
	if l == nil {
		return 0, false, nil
	}
	if l.next < len(l.all) && (l.next == 0 || l.all[l.next].executed <= executed) {
		l.next++
	}
	found := &l.all[l.next-1]
	copy(p, found.data)
	if len(p) == smmuv3.STESize {
		ste := smmuv3.LoadSTE((*[smmuv3.STESize]byte)(p))
		r.ste = &ste
	}
	return found.entry, true, found.err.err()
}
