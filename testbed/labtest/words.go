package labtest

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/go-vsmmu/vsmmuv3/testbed/host/qemu"
)

const (
	// keptWords is the number of lines that lastWords keeps of each console. It is enough for the
	// stacks of a Go program that panics and of its kernel.
	keptWords = 500
	// shownWords is the number of lines that a report shows.
	shownWords = 20
)

// lastWords keeps the last lines of the running machine's consoles. Its methods are safe for
// concurrent use.
type lastWords struct {
	mu    sync.Mutex
	lines map[string][]string // by console, the oldest first
}

// reset drops the lines of the previous machine.
func (w *lastWords) reset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lines = map[string][]string{}
}

func (w *lastWords) add(console, text string) {
	if strings.TrimSpace(text) == "" {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	kept := append(w.lines[console], text)
	w.lines[console] = kept[max(0, len(kept)-keptWords):]
}

// most returns the console that explains most, with its lines. It is the host's console if the
// host's kernel complains, or QEMU's if QEMU failed. Otherwise it is the first console with lines:
// the guest's, the VMM's, the program's, or the host's.
func (w *lastWords) most(qemuFailed bool) (console string, lines []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	has := func(console string) bool { return len(w.lines[console]) > 0 }
	switch {
	case slices.ContainsFunc(w.lines[qemu.HostConsole], complains):
		console = qemu.HostConsole
	case has(qemu.QEMUConsole) && (qemuFailed || len(w.lines) == 1):
		console = qemu.QEMUConsole
	default:
		console = qemu.HostConsole
		programs := []string{guestConsole, vmmConsole, programConsole}
		if i := slices.IndexFunc(programs, has); i >= 0 {
			console = programs[i]
		}
	}
	return console, slices.Clone(w.lines[console])
}

func isPanic(line string) bool { return strings.Contains(line, "Kernel panic") }

func isGoPanic(line string) bool {
	return strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "fatal error: ")
}

// initExit matches the panic of a kernel whose init exited. It captures the wait status.
var initExit = regexp.MustCompile(`Attempted to kill init! exitcode=0x([0-9a-f]+)`)

// explainPanic returns the reason of a kernel's panic, or "" if there is no panic. The reason has
// the exit status of the init, and the first line of a Go program's panic.
func explainPanic(lines []string) string {
	i := slices.IndexFunc(lines, isPanic)
	if i < 0 {
		return ""
	}
	m := initExit.FindStringSubmatch(lines[i])
	if m == nil {
		return "the kernel panicked"
	}
	why := "the kernel panicked because its init ended"
	if status, err := strconv.ParseUint(m[1], 16, 32); err == nil && status&0x7f != 0 {
		why = fmt.Sprintf("the kernel panicked because signal %d killed its init", status&0x7f)
	} else if err == nil {
		why = fmt.Sprintf("the kernel panicked because its init exited with status %d", status>>8)
	}
	if j := slices.IndexFunc(lines[:i], isGoPanic); j >= 0 {
		why += ": " + lines[j]
	}
	return why
}

// shown returns the lines that a report shows. After a Go program's panic they start at this panic,
// and include the kernel's panic. Otherwise they start at the kernel's panic, or are the last
// lines.
func shown(lines []string) []string {
	i := slices.IndexFunc(lines, isPanic)
	if i < 0 {
		return lines[max(0, len(lines)-shownWords):]
	}
	if j := slices.IndexFunc(lines[:i], isGoPanic); j >= 0 {
		return append(slices.Clone(lines[j:min(i, j+shownWords-1)]), lines[i])
	}
	return lines[i:min(len(lines), i+shownWords)]
}

// explain completes the report of a run that ended early. It adds the cause, the stage, and the
// exit status and last lines of the program that failed.
func (l *lab) explain(err error) {
	var exit *qemu.ExitError
	died := errors.As(err, &exit)
	seen := l.progress.Last()
	console, lines := l.words.most(died && !exit.Status.Success())
	seen.Console, seen.Lines = console, shown(lines)
	l.report.LastSeen = seen
	if died {
		seen.ExitStatus = exit.Status.String()
	}
	cause := err.Error()
	if why := explainPanic(lines); why != "" && errors.Is(err, errNoExit) {
		cause = strings.Replace(cause, errNoExit.Error(), why, 1)
	}
	l.report.Error = fmt.Sprintf("%s, %s", cause, seen)
}
