package labtest

import (
	"slices"
	"strings"
)

// complaints are words that a kernel in order does not print.
var complaints = []string{
	"WARNING:", "BUG:", "Oops", "Kernel panic", "Internal error", "Unable to handle kernel", "Call trace:", "refcount_t:",
	"rcu: INFO:", "soft lockup", "blocked for more than",
	"CMDQ error", "CMD_SYNC timeout", "unexpected global error", "unexpected priority", "EVTQ overflow",
}

// complains tells whether a line of a kernel's log is one of trouble.
func complains(line string) bool {
	return slices.ContainsFunc(complaints, func(word string) bool { return strings.Contains(line, word) })
}

// maxWarnings is how many complaints are kept.
const maxWarnings = 100
