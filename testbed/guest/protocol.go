package guest

// Message is a line of JSON from the guest's init to the VMM, over the guest's second UART. Exactly
// one field is set.
type Message struct {
	Hello *Hello `json:"hello,omitempty"`
	// Stage names what the guest does next.
	Stage string `json:"stage,omitempty"`
	Disk  *Disk  `json:"disk,omitempty"`
	// Found is set when the disks are there, if the init's arguments have Reboot. The VMM answers with
	// the line Again, on which the init reboots, or with Done.
	Found bool `json:"found,omitempty"`
	// Up requests the misbehaving endpoint's DMA. The init continues when the VMM answers with the
	// line Done.
	Up *Up `json:"up,omitempty"`
	// Faults has the kernel's lines about faults. It is the last message.
	Faults *Faults `json:"faults,omitempty"`
	// Error says why the init failed. It is the last message.
	Error string `json:"error,omitempty"`
}

// Done and Again are the VMM's answers to the guest.
const (
	Done  = "done"
	Again = "again"
)

// Hello identifies the kernel and the machine.
type Hello struct {
	Release  string `json:"release"` // uname -r
	Version  string `json:"version"` // uname -v
	PageSize int    `json:"page_size"`
	CPUs     int    `json:"cpus"`
}

// Disk is the result of a disk's test, in bytes.
type Disk struct {
	Serial   string `json:"serial"`
	Name     string `json:"name"`       // vda, …
	IOMMU    string `json:"iommu_type"` // of the disk's group: a Domain constant; empty without an IOMMU
	Written  int64  `json:"written"`
	Read     int64  `json:"read"`
	Verified int64  `json:"verified"`
	// Table is TableSize if the guest wrote and read as many bytes by a DMA mapping that filled a
	// translation table.
	Table int64 `json:"table,omitempty"`
	// Rebound is set if the disk was unbound from its driver and bound again.
	Rebound *Rebound `json:"rebound,omitempty"`
	Error   string   `json:"error,omitempty"`
}

// Rebound has the number of bytes verified after each unbind and bind.
type Rebound struct {
	Identity int64 `json:"identity"` // with an identity domain
	Before   int64 `json:"before"`   // after that, with the earlier type
}

// Types of a device's DMA domain, as sysfs names them.
const (
	DomainStrict   = "DMA"    // translated; each unmap invalidates
	DomainLazy     = "DMA-FQ" // translated; unmaps are invalidated in batches
	DomainIdentity = "identity"
)

// Up is sent when the disks are done.
type Up struct {
	// Probe has the lines that the SMMU's driver has printed so far.
	Probe []string `json:"probe"`
}

// Faults has the kernel's lines, in order, and what the kernel knows of its hardware at the end.
type Faults struct {
	Lines       []string     `json:"lines"`
	Description *Description `json:"description"`
}

// InitRole is the first argument of cmd/testbed when it is the guest's init.
const InitRole = "guest-init"

// Rebind is a further argument: unbind each disk from its driver and bind it again.
const Rebind = "rebind"

// PCI is a further argument: the disks are on the PCI bus.
const PCI = "pci"

// Reboot is a further argument: reboot when the VMM asks for it.
const Reboot = "reboot"

// Quick is a further argument: write and read QuickSize bytes of each disk.
const Quick = "quick"

// ControlDevice is the guest's end of the channel, its second PL011.
const ControlDevice = "/dev/ttyAMA1"

// TestSize is the number of bytes of each disk that are written and read back.
const TestSize = 16 << 20

// QuickSize is TestSize with Quick.
const QuickSize = 1 << 20

// SizeOf returns the number of bytes of each disk that are written and read back.
func SizeOf(quick bool) int64 {
	if quick {
		return QuickSize
	}
	return TestSize
}

// TableSize is the number of bytes that a table of pages of TablePage maps.
const (
	TablePage = 4 << 10
	TableSize = 2 << 20
)

// RebindSize is the number of bytes that are read after each bind.
const RebindSize = 4 << 20

// The disks' serials.
const (
	Plain = "plain" // no substreams: a single context descriptor
	PASID = "pasid" // pasid-num-bits: a context-descriptor table
	ESP   = "esp"   // not tested: the firmware boots from it
	Rogue = "rogue" // not tested: its endpoint makes a DMA that the guest never mapped
)
