package labtest

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/go-vsmmu/vsmmuv3/testbed/host/qemu"
)

func TestExplainPanicHasTheInitsEnd(t *testing.T) {
	for _, tt := range []struct {
		lines []string
		want  string
	}{
		{nil, ""},
		{[]string{"panic: x"}, ""},
		{[]string{"Kernel panic - not syncing: Oops"}, "the kernel panicked"},
		{[]string{"Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100"},
			"the kernel panicked because its init exited with status 1"},
		{[]string{"Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000000b"},
			"the kernel panicked because signal 11 killed its init"},
		{[]string{"fatal error: all goroutines are asleep - deadlock!", "Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000200"},
			"the kernel panicked because its init exited with status 2: fatal error: all goroutines are asleep - deadlock!"},
	} {
		assert.Equal(t, tt.want, explainPanic(tt.lines))
	}
}

func TestReportShowsTheLinesThatExplainMost(t *testing.T) {
	var before, trace, after []string
	for i := range 2 * shownWords {
		before = append(before, fmt.Sprint("booting ", i))
		trace = append(trace, fmt.Sprint("goroutine ", i))
		after = append(after, fmt.Sprint("call trace ", i))
	}
	const oops = "Kernel panic - not syncing: Oops"
	join := func(parts ...[]string) (all []string) {
		for _, p := range parts {
			all = append(all, p...)
		}
		return all
	}
	assert.Equal(t, before[shownWords:], shown(before))
	assert.Equal(t, before[:3], shown(before[:3]))
	assert.Equal(t, join([]string{oops}, after[:shownWords-1]), shown(join(before, []string{oops}, after)))
	assert.Equal(t, join([]string{"panic: x"}, trace[:shownWords-2], []string{oops}),
		shown(join(before, []string{"panic: x"}, trace, []string{oops}, after)))
}

func TestLastWordsChooseTheConsoleThatDied(t *testing.T) {
	for _, tt := range []struct {
		name   string
		say    [][2]string
		failed bool // QEMU
		want   string
	}{
		{"silence", nil, false, qemu.HostConsole},
		{"QEMU fails before the machine boots", [][2]string{{qemu.QEMUConsole, "no such device"}}, false, qemu.QEMUConsole},
		{"QEMU fails later", [][2]string{{qemu.QEMUConsole, "x"}, {qemu.HostConsole, "booting"}, {programConsole, "pass: A"}}, true, qemu.QEMUConsole},
		{"QEMU's warning explains nothing", [][2]string{{qemu.QEMUConsole, "x"}, {qemu.HostConsole, "booting"}}, false, qemu.HostConsole},
		{"the host's kernel panics", [][2]string{{guestConsole, "x"}, {qemu.HostConsole, "Kernel panic - x"}}, false, qemu.HostConsole},
		{"the guest hangs", [][2]string{{qemu.HostConsole, "x"}, {vmmConsole, "x"}, {guestConsole, "x"}}, false, guestConsole},
		{"a test hangs", [][2]string{{qemu.HostConsole, "x"}, {programConsole, "x"}, {qemu.HostConsole, " "}}, false, programConsole},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var w lastWords
			w.reset()
			w.add("host", "Kernel panic of an earlier machine")
			w.reset()
			for _, line := range tt.say {
				w.add(line[0], line[1])
			}
			console, lines := w.most(tt.failed)
			assert.Equal(t, tt.want, console)
			assert.Equal(t, len(tt.say) > 0, len(lines) > 0)
		})
	}
}
