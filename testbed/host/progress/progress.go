// Package progress prints the stages and consoles of a run of several machines, and keeps the lines
// that explain a failure.
package progress

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-vsmmu/vsmmuv3/internal/cli"
)

const (
	// heartbeat is the time without output after which the stage and its time are printed again.
	heartbeat = 10 * time.Second
	// keepLines is the number of lines kept of each console: enough to have the start of a kernel
	// panic at its end.
	keepLines = 80
	// showLines is the number of lines that explain a failure.
	showLines = 20
	// runner is the name of the runner, printed like the name of a console.
	runner = "-----"
)

// Phase is a stage that has ended, and its wall time.
type Phase struct {
	Name    string  `json:"name"`
	Seconds float64 `json:"seconds"`
}

// Progress prints what happens, each line with its time and console. Its methods are safe for
// concurrent use.
type Progress struct {
	mu      sync.Mutex
	out     io.Writer
	start   time.Time
	stage   string
	since   time.Time // of the stage
	heard   time.Time // of the last line or stage
	printed time.Time // of the last line printed
	phases  []Phase
	last    map[string][]string // by console, the oldest line first
}

// New returns a Progress whose time starts now.
func New(out io.Writer) *Progress {
	now := time.Now()
	return &Progress{out: out, start: now, heard: now, printed: now, last: map[string][]string{}}
}

// Stage ends the current stage and starts another.
func (p *Progress) Stage(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	p.endStage(now)
	p.stage, p.since, p.heard = name, now, now
	p.print(runner, "stage: "+name)
}

// StageQuietly starts a stage whose name is printed only when it ends or lasts: an error in it is
// thus a single line.
func (p *Progress) StageQuietly(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	p.endStage(now)
	p.stage, p.since, p.heard, p.printed = name, now, now, now
}

// Line prints a line of a machine's console.
func (p *Progress) Line(machine, text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.heard = time.Now()
	kept := append(p.last[machine], text)
	p.last[machine] = kept[max(0, len(kept)-keepLines):]
	p.print(machine, text)
}

// Beat prints the stage again whenever nothing was printed for some time, until ctx ends.
func (p *Progress) Beat(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		p.mu.Lock()
		if now := time.Now(); now.Sub(p.printed) >= heartbeat && p.stage != "" {
			p.print(runner, fmt.Sprintf("still in stage: %s, for %.0f s", p.stage, now.Sub(p.since).Seconds()))
		}
		p.mu.Unlock()
	}
}

// quiet returns the time since the last line or the start of the stage.
func (p *Progress) quiet() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Since(p.heard)
}

// Finish ends the last stage and returns all of them.
func (p *Progress) Finish() (phases []Phase, total time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	p.endStage(now)
	p.stage = ""
	return p.phases, now.Sub(p.start)
}

// LastSeen is the stage of a run that failed, and the last lines of a console.
type LastSeen struct {
	Stage      string   `json:"stage"`
	ExitStatus string   `json:"exit_status,omitempty"` // of the emulator, if that ended the run
	Console    string   `json:"console,omitempty"`
	Lines      []string `json:"lines,omitempty"` // of Console, the oldest first
}

// Last returns the current stage, and the last lines of the first console in the list that has
// lines.
func (p *Progress) Last(consoles ...string) *LastSeen {
	p.mu.Lock()
	defer p.mu.Unlock()
	seen := &LastSeen{Stage: p.stage}
	for _, console := range consoles {
		if lines := p.last[console]; len(lines) > 0 {
			seen.Console, seen.Lines = console, excerpt(lines)
			break
		}
	}
	return seen
}

// LastSeen returns the text of Last.
func (p *Progress) LastSeen(consoles ...string) string { return p.Last(consoles...).String() }

// String returns the stage and the line that explains most.
func (l *LastSeen) String() string {
	seen := fmt.Sprintf("in stage %q", l.Stage)
	if line := telling(l.Lines); line != "" {
		seen += fmt.Sprintf("; last seen on console %s: %q", l.Console, line)
	}
	return seen
}

// Write writes the exit status and the last lines for people.
func (l *LastSeen) Write(w io.Writer) {
	if l.ExitStatus != "" {
		fmt.Fprintf(w, "\nEmulator: %s\n", l.ExitStatus)
	}
	if len(l.Lines) > 0 {
		fmt.Fprintf(w, "\nLast lines on console %s\n", l.Console)
		for _, line := range l.Lines {
			fmt.Fprintf(w, "  %s\n", line)
		}
	}
}

// InitFailed is the start of the line in which an init says why it powers its machine off.
const InitFailed = "init failed: "

// cause returns the index of an init's reason or of a kernel panic, or -1.
func cause(console []string) int {
	for _, mark := range []string{InitFailed, "Kernel panic"} {
		if i := slices.IndexFunc(console, func(line string) bool { return strings.Contains(line, mark) }); i >= 0 {
			return i
		}
	}
	return -1
}

// excerpt returns up to showLines lines of a console: from the cause on, or the last ones if there
// is no cause.
func excerpt(console []string) []string {
	last := max(0, len(console)-showLines)
	if i := cause(console); i >= 0 {
		last = min(last, i)
	}
	return slices.Clone(console[last:min(len(console), last+showLines)])
}

// telling returns the line that explains most: the cause, or the last line that is not empty.
func telling(console []string) string {
	if i := cause(console); i >= 0 {
		return console[i]
	}
	for _, line := range slices.Backward(console) {
		if strings.TrimSpace(line) != "" {
			return line
		}
	}
	return ""
}

func (p *Progress) endStage(now time.Time) {
	if p.stage == "" {
		return
	}
	took := now.Sub(p.since).Seconds()
	p.phases = append(p.phases, Phase{Name: p.stage, Seconds: took})
	p.print(runner, fmt.Sprintf("  done: %s, in %.1f s", p.stage, took))
}

func (p *Progress) print(machine, text string) {
	p.printed = time.Now()
	fmt.Fprintf(p.out, "%7.1f [%-5s] %s\n", p.printed.Sub(p.start).Seconds(), machine, cli.Printable(text))
}

// Watch calls giveUp once the machines have been quiet for longer than tooQuiet, unless ctx ends
// first.
func (p *Progress) Watch(ctx context.Context, tooQuiet time.Duration, giveUp context.CancelCauseFunc) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if p.quiet() > tooQuiet {
				giveUp(fmt.Errorf("no machine printed anything for %v", tooQuiet))
				return
			}
		}
	}
}
