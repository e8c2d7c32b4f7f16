// Package vm runs the guest of the test boot on this machine's KVM. It connects the test VMM, the
// virtual SMMU and the endpoints behind it, and reports what the guest did with them.
package vm

import (
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm"
)

// Job describes a boot, except the guest's image and initramfs.
type Job struct {
	// Layout is the guest's hardware. Each of Tables has its own.
	Layout
	Cmdline string `json:"cmdline"` // appended to the parameters that the machine needs
	Mem     uint64 `json:"mem"`     // the guest's memory in bytes
	CPUs    int    `json:"cpus"`
	// Record makes the boot record a transcript titled Title.
	Record bool   `json:"record,omitempty"`
	Title  string `json:"title,omitempty"`
	// Rebind makes the guest unbind the disks from their driver and bind them again, after their
	// test.
	Rebind bool `json:"rebind,omitempty"`
	// Moves is the number of times that the SMMU is saved, discarded and restored during the test
	// of the disks.
	Moves int `json:"moves,omitempty"`
	// PASIDBits is pasid-num-bits of the endpoint pasid.
	PASIDBits uint8 `json:"pasid_bits"`
	// Stage2 gives the SMMU stage 2 and no stage 1.
	Stage2 bool `json:"stage2,omitempty"`
	// Stalls makes the misbehaving endpoint's DMA stall.
	Stalls bool `json:"stalls,omitempty"`
	// Loaded is the number of bytes that the firmware reads from its disk: kernel and initramfs.
	Loaded int64 `json:"loaded,omitempty"`
	// Quick makes the guest write and read less of the disks.
	Quick bool `json:"quick,omitempty"`
	// Tables, unless empty, makes this a boot for each of these Tables.
	Tables []string `json:"tables,omitempty"`
	// Peer, unless empty, makes this the benchmark instead of the boot. It is the root directory of
	// PeerProgram and its libraries.
	Peer string `json:"peer,omitempty"`
	// Rounds is the number of times that the benchmark boots each guest.
	Rounds int `json:"rounds,omitempty"`
}

// Layout is how the guest finds disks and SMMUs, and how these are connected.
type Layout struct {
	// PCI makes the disks PCI functions, or only the first one if Mixed is set.
	PCI   bool `json:"pci,omitempty"`
	Mixed bool `json:"mixed,omitempty"`
	// ACPI describes the machine to the guest by ACPI tables, in place of a device tree.
	ACPI bool `json:"acpi,omitempty"`
	// UEFI makes firmware boot the guest from a disk, and describe the machine by ACPI tables.
	UEFI bool `json:"uefi,omitempty"`
	// SMMUs is their number; 0 means one. PCI functions are behind the first.
	SMMUs  int        `json:"-"`
	Wiring vmm.Wiring `json:"-"`
	// IDs are values of ID register fields other than the default ones.
	IDs map[smmuv3.IDField]uint32 `json:"-"`
}

func (l *Layout) smmus() int { return max(l.SMMUs, 1) }

// PeerProgram is the path below Job.Peer of the QEMU that the benchmark compares with.
const PeerProgram = "usr/bin/qemu-system-aarch64"

// Sink is notified of a boot's progress. Its methods may be called from any goroutine.
type Sink interface {
	// Stage starts a new stage of the boot.
	Stage(name string)
	// Line takes a line of a machine's console.
	Line(machine, text string)
	// Transcript takes the next piece of the transcript. It must not keep p.
	Transcript(p []byte) error
}

// Guest is the guest's name as a machine of a Sink.
const Guest = "guest"
