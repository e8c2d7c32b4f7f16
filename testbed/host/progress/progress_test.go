package progress

import (
	"bytes"
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
)

// untimed returns the output without its times.
func untimed(out *bytes.Buffer) string {
	return regexp.MustCompile(`(?m)^ *[0-9.]+ |in [0-9.]+ s$`).ReplaceAllString(out.String(), "")
}

func TestOutputHasStagesAndLines(t *testing.T) {
	var out bytes.Buffer
	p := New(&out)
	p.Stage("one")
	p.Line("host", "\x1b[2Jhello")
	p.Stage("two")
	phases, _ := p.Finish()
	assert.Equal(t, "[-----] stage: one\n[host ] .[2Jhello\n[-----]   done: one, \n[-----] stage: two\n[-----]   done: two, \n", untimed(&out),
		"consoles do not control the terminal")
	var names []string
	for _, phase := range phases {
		names = append(names, phase.Name)
	}
	assert.Equal(t, []string{"one", "two"}, names)
}

func TestLastSeenHasTheLineThatExplainsMost(t *testing.T) {
	p := New(new(bytes.Buffer))
	p.Stage("boot")
	assert.Equal(t, `in stage "boot"`, p.LastSeen("guest", "host"))
	p.Line("host", "Kernel panic - not syncing: no init")
	p.Line("host", "---[ end Kernel panic ]---")
	assert.Equal(t, `in stage "boot"; last seen on console host: "Kernel panic - not syncing: no init"`, p.LastSeen("guest", "host"))
	for range 2 * keepLines {
		p.Line("guest", "and so on")
	}
	p.Line("guest", "the end")
	assert.Equal(t, `in stage "boot"; last seen on console guest: "the end"`, p.LastSeen("guest", "host"))
	assert.Len(t, p.last["guest"], keepLines)
	assert.Len(t, p.Last("guest").Lines, showLines)
	p.Line("guest", "Kernel panic - not syncing: no init")
	for range 3 * showLines {
		p.Line("guest", "a call trace")
	}
	lines := p.Last("guest").Lines
	assert.Len(t, lines, showLines)
	assert.Equal(t, "Kernel panic - not syncing: no init", lines[0], "the lines from the panic on")
	assert.Equal(t, "host", p.Last("qemu", "host").Console, "the first console with lines")
	assert.Empty(t, p.Last("qemu").Console)
	p.Line("host", InitFailed+"no console port")
	p.Line("host", "reboot: Power down")
	p.Line("host", " ")
	assert.Contains(t, p.LastSeen("host"), InitFailed+"no console port", "an init's reason comes before a panic")
	p.Line("qemu", "fatal")
	p.Line("qemu", "")
	assert.Contains(t, p.LastSeen("qemu"), `"fatal"`, "not an empty line")
}
