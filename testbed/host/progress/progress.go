// Package progress shows people what a run of several machines is at, and keeps what explains its failure.
package progress

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/go-vsmmu/vsmmuv3/internal/cli"
)

const (
	// heartbeat is how long the output may rest before the stage and its time are told anew.
	heartbeat = 10 * time.Second
	// keepLines is how much of each console is kept to tell what was last seen.
	keepLines = 20
	// runner is the name of whoever brings the machines up, beside theirs.
	runner = "-----"
)

// Phase is a stretch of wall time.
type Phase struct {
	Name    string  `json:"name"`
	Seconds float64 `json:"seconds"`
}

// Progress prints what happens, each line with its time and machine. Its methods may be called from any goroutine.
type Progress struct {
	mu      sync.Mutex
	out     io.Writer
	start   time.Time
	stage   string
	since   time.Time // of the stage
	heard   time.Time // of the last line or stage
	printed time.Time // of the last line printed
	phases  []Phase
	last    map[string][]string // of each machine, the oldest first
}

// New begins now.
func New(out io.Writer) *Progress {
	now := time.Now()
	return &Progress{out: out, start: now, heard: now, printed: now, last: map[string][]string{}}
}

// Stage ends the stage before and begins a new one.
func (p *Progress) Stage(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	p.endStage(now)
	p.stage, p.since, p.heard = name, now, now
	p.print(runner, "stage: "+name)
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

// Beat tells the stage anew whenever nothing was printed for a while, until ctx ends.
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

// quiet is for how long no machine has said anything and no stage has begun.
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

// LastSeen says in which stage the run is, and what was seen last: of the first of the machines that said anything.
func (p *Progress) LastSeen(machines ...string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	seen := fmt.Sprintf("in stage %q", p.stage)
	for _, machine := range machines {
		if line := telling(p.last[machine]); line != "" {
			return fmt.Sprintf("%s; last seen of the %s: %q", seen, machine, line)
		}
	}
	return seen
}

// telling picks the line that explains most: that of a panic, or else the last.
func telling(console []string) string {
	for _, line := range console {
		if strings.Contains(line, "Kernel panic") {
			return line
		}
	}
	if len(console) == 0 {
		return ""
	}
	return console[len(console)-1]
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

// Watch calls giveUp with the reason when the machines have been quiet for too long, unless ctx ends before.
func (p *Progress) Watch(ctx context.Context, tooQuiet time.Duration, giveUp context.CancelCauseFunc) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if p.quiet() > tooQuiet {
				giveUp(fmt.Errorf("no machine said anything for %v", tooQuiet))
				return
			}
		}
	}
}
