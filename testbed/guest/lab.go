package guest

// LabRole is the first argument of this program as the init of the lab's guest.
const LabRole = "guest-lab"

// LabMessage is one line of JSON from the init of the lab's guest to the VMM. Exactly one field is set.
type LabMessage struct {
	// Hello is the first of each boot. The VMM answers with the number of the boot, from 1.
	Hello *Hello `json:"hello,omitempty"`
	// Begin names what the guest does from now on.
	Begin string `json:"begin,omitempty"`
	// Ask has the VMM do something: an Ask constant. The init goes on when the VMM has answered with the line Done.
	Ask string `json:"ask,omitempty"`
	// Disk is what has become of one disk under what was begun.
	Disk *Disk `json:"disk,omitempty"`
	// Read is how fast the NVMe disk is under what was begun.
	Read *LabRead `json:"read,omitempty"`
	// Moved is sent when the NVMe disk has another requester ID.
	Moved *LabMove `json:"moved,omitempty"`
	// Interrupts is how the NVMe disk has interrupted in the step StepINTx.
	Interrupts *LabInterrupts `json:"interrupts,omitempty"`
	// Stray is a DMA that the guest has had the NVMe disk make where nothing is mapped.
	Stray *LabStray `json:"stray,omitempty"`
	// Reset holds what the kernel has said of the SMMU that it found enabled.
	Reset *LabReset `json:"reset,omitempty"`
	// Lost is what has become of the disks when the host took one.
	Lost *LabLost `json:"lost,omitempty"`
	// End is how the boot ends, which follows: an End constant. It is the last message of each boot.
	End string `json:"end,omitempty"`
	// Error says why the init gives up. It is the last message of all.
	Error string `json:"error,omitempty"`
}

// LabRead is a measured read.
type LabRead struct {
	IOMMU   string  `json:"iommu_type"` // of the disk's group: a Domain constant
	Bytes   int64   `json:"bytes"`
	Seconds float64 `json:"seconds"`
}

// What the VMM can be asked for.
const (
	AskPort = "a root port that comes before the one of the NVMe disk"
	// AskRemoval is answered before it is over.
	AskRemoval = "the host to take the NVMe disk back"
)

// LabMove is a change of a PCI function's requester ID, which is its StreamID.
type LabMove struct {
	From uint32 `json:"from"`
	To   uint32 `json:"to"`
}

// LabStray is a DMA to an address that was never mapped.
type LabStray struct {
	Address uint64   `json:"address"`
	Kernel  []string `json:"kernel"` // what the kernel printed about it
}

// LabLost is how a disk was lost while it was read, and what another was like then.
type LabLost struct {
	Bytes  int64  `json:"bytes"` // that were read of it before
	Error  string `json:"error"` // of the read after those
	Virtio Disk   `json:"virtio"`
}

// LabReset holds lines of the kernel's.
type LabReset struct {
	Kernel []string `json:"kernel"`
}

// How a boot of the lab's guest ends.
const (
	EndReboot   = "reboot"    // as every reboot: drivers shut their devices down
	EndCrash    = "crash"     // in a panic, which leaves all devices as they are
	EndPowerOff = "power off" // and so does the lab
)

// The disks of the lab's guest.
const (
	LabVirtio = "virtio" // emulated
	LabNVMe   = "nvme"   // passed through
)

// The steps in which the disks are written and read.
const (
	StepFirst     = "after the boot"
	StepRebind    = "after unbinding and binding the driver"
	StepFLR       = "after a function-level reset"
	StepRenumber  = "after its bus got another number"
	StepINTx      = "with INTx in place of messages"
	StepDomain    = "after a turn past the SMMU"
	StepStray     = "after a stray DMA"
	StepReboot    = "after a reboot"
	StepTakenOver = "after a crash that left the SMMU enabled"
)

// LabSteps are all of them, in order.
var LabSteps = []string{StepFirst, StepRebind, StepFLR, StepRenumber, StepINTx, StepDomain, StepStray, StepReboot, StepTakenOver}

// LabSize is how many bytes of each disk a step writes, from the start: the first TestSize, the others less, so that what
// the first has written can be checked in the end, too.
func LabSize(step string) int64 {
	if step == StepFirst {
		return TestSize
	}
	return 2 << 20
}

// LabPattern is what a step writes to a disk.
func LabPattern(disk, step string) Pattern { return PatternFor(disk + ", " + step) }

// LabCheck says how many bytes, from the start, of a disk are what the last step and the first have left there. Data holds
// TestSize bytes.
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

// The measured reads.
const (
	ReadStrict = "NVMe is read with strict invalidation"
	ReadBypass = "NVMe is read past the SMMU's stage 1"
)
