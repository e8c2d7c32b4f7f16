package trap_test

import (
	"fmt"

	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmu/trap"
)

// Decide needs no device: it maps registers and an STE to the stage of a stream.
func ExampleDecide() {
	ids := soft.DefaultIDs()
	enabled := &trap.Regs{Enabled: true}
	for _, ste := range []smmuv3.STE{
		{},                       // V = 0
		{0b1 | 0b000<<1},         // abort
		{0b1 | 0b100<<1},         // bypass
		{0b1 | 0b101<<1 | 1<<20}, // stage 1, with the CD at 0x100000
	} {
		fmt.Println(trap.Decide(enabled, &trap.Entry{STE: ste}, &ids))
	}
	fmt.Println(trap.Decide(&trap.Regs{}, &trap.Entry{}, &ids)) // SMMUEN = 0, GBPA.ABORT = 0
	// Output:
	// abort with C_BAD_STE
	// abort
	// bypass
	// translate s1fmt=linear s1dss=terminate s1cdmax=0 cd=0x100000 s1cir=0 s1cor=0 s1csh=0 s1stalld=false eats=none
	// bypass (SMMU disabled)
}
