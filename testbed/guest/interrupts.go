package guest

import (
	"slices"
	"strconv"
	"strings"
)

// LabInterrupts counts a device's interrupts.
type LabInterrupts struct {
	Line     uint64 `json:"line"`     // level-triggered: INTx
	Messages uint64 `json:"messages"` // edge-triggered: MSIs
}

// countInterrupts adds up the rows of /proc/interrupts that contain a name. A row has a number, a
// count for each CPU, the interrupt controller, the trigger, and the handlers' names.
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
