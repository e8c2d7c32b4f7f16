package guest

// LabRole is the first argument of cmd/testbed when it is the init of the lab's guest.
const LabRole = "guest-lab"

// LabMessage is a line of JSON from the init of the lab's guest to the VMM. Exactly one field is
// set.
type LabMessage struct {
	// Hello is the first message of each boot. The VMM answers with the number of the boot, from 1.
	Hello *Hello `json:"hello,omitempty"`
	// Begin names the step or read that starts.
	Begin string `json:"begin,omitempty"`
	// Ask requests something of the VMM: an Ask constant. The init continues when the VMM answers
	// with the line Done.
	Ask string `json:"ask,omitempty"`
	// Disk is the result of a disk's test in the current step.
	Disk *Disk `json:"disk,omitempty"`
	// Read is the result of the current read.
	Read *LabRead `json:"read,omitempty"`
	// Moved is sent when the NVMe disk has a new requester ID.
	Moved *LabMove `json:"moved,omitempty"`
	// Interrupts counts the NVMe disk's interrupts in the step StepINTx.
	Interrupts *LabInterrupts `json:"interrupts,omitempty"`
	// Stray is a DMA of the NVMe disk to an address that is not mapped.
	Stray *LabStray `json:"stray,omitempty"`
	// Reset has the kernel's lines about an SMMU that it found enabled.
	Reset *LabReset `json:"reset,omitempty"`
	// Lost is the state of the disks after the host removed one.
	Lost *LabLost `json:"lost,omitempty"`
	// End says how the boot ends: an End constant. It is the last message of each boot.
	End string `json:"end,omitempty"`
	// Error says why the init failed. It is the last message of all.
	Error string `json:"error,omitempty"`
}

// LabRead is a measured read.
type LabRead struct {
	IOMMU   string  `json:"iommu_type"` // of the disk's group: a Domain constant
	Bytes   int64   `json:"bytes"`
	Seconds float64 `json:"seconds"`
}

// Requests to the VMM.
const (
	AskPort = "add a root port before that of the NVMe disk"
	// AskRemoval is answered when the removal has started.
	AskRemoval = "remove the NVMe disk"
)

// LabMove is a change of a PCI function's requester ID, which is also its StreamID.
type LabMove struct {
	From uint32 `json:"from"`
	To   uint32 `json:"to"`
}

// LabStray is a DMA to an address that was never mapped.
type LabStray struct {
	Address uint64   `json:"address"`
	Kernel  []string `json:"kernel"` // the kernel's messages about the DMA
}

// LabLost is the removal of the NVMe disk while the guest reads it, and the test of the emulated
// disk after it.
type LabLost struct {
	Bytes  int64  `json:"bytes"` // read before the removal
	Error  string `json:"error"` // of the read that failed
	Virtio Disk   `json:"virtio"`
}

// LabReset has lines of the kernel's log.
type LabReset struct {
	Kernel []string `json:"kernel"`
}

// Ends of a boot of the lab's guest.
const (
	EndReboot   = "reboot"    // drivers shut their devices down
	EndCrash    = "crash"     // a panic, which leaves devices as they are
	EndPowerOff = "power off" // the last
)

// Serials of the disks of the lab's guest.
const (
	LabVirtio = "virtio" // emulated
	LabNVMe   = "nvme"   // passed through
)

// Steps. In each the guest writes, reads and verifies both disks.
const (
	StepFirst     = "after the boot"
	StepRebind    = "after an unbind and bind of the driver"
	StepFLR       = "after a function-level reset"
	StepRenumber  = "after a renumbering of the bus"
	StepINTx      = "with INTx instead of MSIs"
	StepDomain    = "after a bypass of stage 1"
	StepStray     = "after an unmapped DMA"
	StepReboot    = "after a reboot"
	StepTakenOver = "after a crash that left the SMMU enabled"
)

// LabSteps has all steps, in order.
var LabSteps = []string{
	StepFirst,
	StepRebind,
	StepFLR,
	StepRenumber,
	StepINTx,
	StepDomain,
	StepStray,
	StepReboot,
	StepTakenOver,
}

// LabSize returns the number of bytes of each disk, from the start, that a step writes. The first
// step writes TestSize bytes, the others fewer, so that bytes of the first step can be checked at
// the end.
func LabSize(step string) int64 {
	if step == StepFirst {
		return TestSize
	}
	return 2 << 20
}

// LabPattern returns the pattern that a step writes to a disk.
func LabPattern(disk, step string) Pattern { return PatternFor(disk + ", " + step) }

// LabCheck checks that a disk starts with the bytes of the last step, followed by those of the
// first step. data has the first TestSize bytes of the disk. LabCheck returns the number of correct
// bytes from the start, and an error that gives the first difference.
func LabCheck(disk string, data []byte) (int64, error) {
	last := LabSteps[len(LabSteps)-1]
	n := LabSize(last)
	if err := LabPattern(disk, last).Check(data[:n], 0); err != nil {
		return 0, err
	}
	if err := LabPattern(disk, StepFirst).Check(data[n:TestSize], n); err != nil {
		return n, err
	}
	return TestSize, nil
}

// Names of the measured reads.
const (
	ReadStrict = "read the NVMe disk with strict invalidation"
	ReadBypass = "read the NVMe disk with stage 1 bypassed"
)
