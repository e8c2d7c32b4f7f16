package guest

// Message is one line of JSON from the guest's init to the VMM, over the guest's second UART. Exactly one field is set.
type Message struct {
	Hello *Hello `json:"hello,omitempty"`
	// Stage names what the guest does from now on.
	Stage string `json:"stage,omitempty"`
	Disk  *Disk  `json:"disk,omitempty"`
	// Up asks for the misbehaving endpoint's DMA; the init goes on when the VMM has answered with the line Done.
	Up *Up `json:"up,omitempty"`
	// Faults are the lines that the guest's kernel printed about faults. It is the last message.
	Faults *Faults `json:"faults,omitempty"`
	// Error says why the init gives up. It is the last message.
	Error string `json:"error,omitempty"`
}

// Done is the VMM's only word to the guest.
const Done = "done"

// Hello tells who is there.
type Hello struct {
	Release  string `json:"release"` // uname -r
	Version  string `json:"version"` // uname -v
	PageSize int    `json:"page_size"`
	CPUs     int    `json:"cpus"`
}

// Disk is the outcome of one disk's test, in bytes.
type Disk struct {
	Serial   string `json:"serial"`
	Name     string `json:"name"`       // vda, …
	IOMMU    string `json:"iommu_type"` // of the disk's group: a Domain constant; empty without an IOMMU
	Written  int64  `json:"written"`
	Read     int64  `json:"read"`
	Verified int64  `json:"verified"`
	// Rebound is there if the disk was taken from its driver and given back.
	Rebound *Rebound `json:"rebound,omitempty"`
	Error   string   `json:"error,omitempty"`
}

// Rebound is how many bytes were read and right after a disk was bound anew.
type Rebound struct {
	Identity int64 `json:"identity"` // with a domain of that kind
	Before   int64 `json:"before"`   // with the kind that it had before, after that
}

// The kinds of translation that Linux chooses for a device, as sysfs names them.
const (
	DomainStrict   = "DMA"    // translated, and invalidated at each unmap
	DomainLazy     = "DMA-FQ" // translated, and invalidated in batches
	DomainIdentity = "identity"
)

// Up is sent when the disks are done.
type Up struct {
	// Probe holds what the SMMU's driver has printed so far.
	Probe []string `json:"probe"`
}

// Faults holds the kernel's lines, in order.
type Faults struct {
	Lines []string `json:"lines"`
}

// InitRole is the first argument of this program as the guest's init.
const InitRole = "guest-init"

// Rebind is the argument after it by which the disks are taken from their drivers and given back.
const Rebind = "rebind"

// PCI is the argument by which the disks are looked for on the PCI bus.
const PCI = "pci"

// ControlDevice is the guest's end of the channel, its second PL011.
const ControlDevice = "/dev/ttyAMA1"

// TestSize is how many bytes of each disk are written and read back.
const TestSize = 16 << 20

// RebindSize is how many of them are read after a disk has been bound anew.
const RebindSize = 4 << 20

// The serials by which guest and VMM know the disks.
const (
	Plain = "plain" // no substreams: a single context descriptor
	PASID = "pasid" // pasid-num-bits: a context-descriptor table
	Rogue = "rogue" // never tested: its endpoint makes the DMA that nobody mapped
)
