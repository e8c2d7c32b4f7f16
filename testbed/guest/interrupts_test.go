package guest

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// The rows are from Linux 7.3 and 6.1.
func TestCountInterruptsSeparatesINTxAndMSIs(t *testing.T) {
	const table = `           CPU0       CPU1       
 11:       1734       1802     GICv3  27 Level     arch_timer
 14:         12          0     GICv3  45 Level     nvme0q0, nvme0q1
 17:          5          2  ITS-PCI-MSIX-0000:01:00.0   0 Edge      nvme0q0
 18:          0         30   ITS-MSI 524289 Edge      nvme0q1
IPI0:       114         95       Rescheduling interrupts
`
	assert.Equal(t, LabInterrupts{Line: 12, Messages: 37}, countInterrupts(table, "nvme"))
	assert.Equal(t, LabInterrupts{Line: 3536}, countInterrupts(table, "arch_timer"))
	assert.Equal(t, LabInterrupts{}, countInterrupts(table, "virtio"))
	assert.Equal(t, LabInterrupts{}, countInterrupts("nvme", "nvme"))
}
