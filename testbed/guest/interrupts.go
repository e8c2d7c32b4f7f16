package guest

import (
	"slices"
	"strconv"
	"strings"
)

// LabInterrupts is how often a device has interrupted.
type LabInterrupts struct {
	Line     uint64 `json:"line"`     // by a level-triggered interrupt, as INTx is
	Messages uint64 `json:"messages"` // by one that is an edge, as messages are
}

// countInterrupts adds up the rows of /proc/interrupts in which a name occurs: a number, a count for each CPU, where the interrupt
// comes from, how it is triggered, and who handles it.
func countInterrupts(table, name string) (n LabInterrupts) {
	for row := range strings.Lines(table) {
		if !strings.Contains(row, name) {
			continue
		}
		fields := strings.Fields(row)
		into := &n.Messages
		if slices.Contains(fields, "Level") {
			into = &n.Line
		}
		for _, field := range fields[1:] {
			count, err := strconv.ParseUint(field, 10, 64)
			if err != nil {
				break
			}
			*into += count
		}
	}
	return n
}
