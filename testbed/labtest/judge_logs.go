package labtest

import (
	"fmt"
	"slices"
	"strings"
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

// maxWarnings is the number of complaints that a report keeps.
const maxWarnings = 100
