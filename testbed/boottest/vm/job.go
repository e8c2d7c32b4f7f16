// Package boot runs the guest of the test boot on this machine's KVM: the glue between the VMM, the virtual SMMU and
// the endpoints behind it, and the judge of what the guest did with them.
package vm

// Job says what to boot. The image and the initramfs are given apart from it.
type Job struct {
	Cmdline string `json:"cmdline"` // appended to what the machine needs
	Mem     uint64 `json:"mem"`     // the guest's memory in bytes
	CPUs    int    `json:"cpus"`
	// Record asks for a transcript with the title Title.
	Record bool   `json:"record,omitempty"`
	Title  string `json:"title,omitempty"`
	// Rebind has the guest take the disks from their driver and give them back, after their test.
	Rebind bool `json:"rebind,omitempty"`
	// Moves is how often the SMMU is saved, thrown away and restored while the disks are tested.
	Moves int `json:"moves,omitempty"`
	// PASIDBits is pasid-num-bits of the endpoint that has it.
	PASIDBits uint8 `json:"pasid_bits"`
	// PCI has the disks be functions of the PCI bus.
	PCI bool `json:"pci,omitempty"`
	// Stage2 has the SMMU show a stage 2 in place of a stage 1.
	Stage2 bool `json:"stage2,omitempty"`
	// Stalls has the misbehaving endpoint's DMA stall.
	Stalls bool `json:"stalls,omitempty"`
	// Peer, if it is not empty, asks for the benchmark in place of the boot: it is the root below which PeerProgram and
	// its libraries are.
	Peer string `json:"peer,omitempty"`
	// Rounds is how often the benchmark boots each of the guests.
	Rounds int `json:"rounds,omitempty"`
}

// PeerProgram is the QEMU that the benchmark compares with, from Job.Peer.
const PeerProgram = "usr/bin/qemu-system-aarch64"

// Sink is told what happens while it happens. Its methods may be called from any goroutine.
type Sink interface {
	// Stage says that a new stretch of the boot begins.
	Stage(name string)
	// Line is a line of a machine's console.
	Line(machine, text string)
	// Transcript takes the transcript as it comes, in pieces, of which it keeps none.
	Transcript(p []byte) error
}

// Guest is the machine's name on a Sink.
const Guest = "guest"
