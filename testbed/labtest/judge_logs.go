package labtest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/go-vsmmu/vsmmuv3/testbed/labtest/machine"
)

// logChecks judge the logs of both kernels.
var logChecks = []check{
	{"no kernel printed a warning", func(r *Report) bool {
		// A panic that ended the run is its Error.
		return atEnd(r) || slices.ContainsFunc(r.Warnings, func(line string) bool {
			return !strings.Contains(line, "Kernel panic") && !strings.Contains(line, "Call trace:")
		})
	}, func(r *Report) (string, bool) {
		if len(r.Warnings) > 0 {
			return fmt.Sprintf("%d lines, the first: %s", len(r.Warnings), r.Warnings[0]), false
		}
		return "none in the logs of host and guest", true
	}},
}

// complaints are words that a kernel prints only if something is wrong.
var complaints = []string{
	"WARNING:", "BUG:", "Oops", "Kernel panic", "Internal error", "Unable to handle kernel",
	"Call trace:", "refcount_t:",
	"rcu: INFO:", "soft lockup", "blocked for more than",
	"CMDQ error", "CMD_SYNC timeout", "unexpected global error", "unexpected priority", "EVTQ overflow",
}

// complains reports whether a line of a kernel's log has one of the complaints.
func complains(line string) bool {
	return slices.ContainsFunc(complaints, func(word string) bool { return strings.Contains(line, word) })
}

// excusable are complaints about an ATC that hangs. A test that makes it hang says so in the
// kernel's log.
var excusable = []string{"CMDQ error", "CMD_SYNC timeout", "unexpected global error"}

// excuses is set while the running machine's test says that it makes the kernel complain.
type excuses bool

// complains reports whether a line has a complaint that is not excused.
func (e *excuses) complains(line string) bool {
	switch {
	case strings.Contains(line, machine.ComplaintsExpected):
		*e = true
	case strings.Contains(line, machine.ComplaintsEnd):
		*e = false
	}
	excused := bool(*e) &&
		slices.ContainsFunc(excusable, func(word string) bool { return strings.Contains(line, word) })
	return complains(line) && !excused
}

// maxWarnings is the number of complaints that a report keeps.
const maxWarnings = 100
