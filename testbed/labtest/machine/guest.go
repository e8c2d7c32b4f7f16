package machine

import "github.com/go-vsmmu/vsmmuv3/testbed/guest"

// Guest is a message of the VMM about its guest. Exactly one field is set.
type Guest struct {
	Stage string            `json:"stage,omitempty"`
	Line  *string           `json:"line,omitempty"` // of its console
	Said  *guest.LabMessage `json:"said,omitempty"`
	Boot  *Boot             `json:"boot,omitempty"`
	Read  *Read             `json:"read,omitempty"`
	// Removed is sent when the host's kernel has removed the NVMe disk.
	Removed *Removed `json:"removed,omitempty"`
	End     *End     `json:"end,omitempty"` // the last
}

// Boot is a boot of the guest that has ended.
type Boot struct {
	Number int     `json:"number"`
	End    string  `json:"end"` // a guest.End constant, or an error
	Time   float64 `json:"seconds"`
}

// Removed is the removal of a device by the host's kernel.
type Removed struct {
	Seconds float64 `json:"seconds"` // until the VMM had released it
	Error   string  `json:"error,omitempty"`
}

// Read is a measured read of the guest, with the commands and ioctls that it took.
type Read struct {
	guest.LabRead
	Syncs    uint64 `json:"syncs"`    // CMD_SYNC
	Commands uint64 `json:"commands"` // invalidations that the guest gave
	Ioctls   uint64 `json:"ioctls"`   // IOMMU_HWPT_INVALIDATE
	// Alone counts the ioctls with one command between two SYNCs, if the guest gave more commands
	// between these SYNCs.
	Alone uint64 `json:"alone"`
}

// End is the VMM's knowledge at its end.
type End struct {
	Streams  []Stream          `json:"streams"`
	Commands map[string]uint64 `json:"commands"` // consumed, by opcode
	Places   []Place           `json:"places"`   // of the NVMe disk, a bounded number
	Events   []Event           `json:"events"`   // recorded, a bounded number
	// Virtio is the number of bytes of the emulated disk's backing, from the start, that the guest
	// wrote.
	Virtio      int64  `json:"virtio_bytes"`
	VirtioError string `json:"virtio_error,omitempty"`
}

// Stream is a stream and the stages that the SMMU bound to it. Their number is bounded.
type Stream struct {
	StreamID uint32   `json:"stream_id"`
	Host     string   `json:"host"` // "iommufd" or "soft"
	Binds    []string `json:"binds"`
	Calls    int      `json:"bind_calls"`
}

// Place is an attach or detach of the NVMe disk after its requester ID changed.
type Place struct {
	StreamID uint32 `json:"stream_id"`
	Attached bool   `json:"attached"` // false: detached
	Error    string `json:"error,omitempty"`
}

// Event is a record of the SMMU's event queue.
type Event struct {
	Name     string `json:"name"`
	StreamID uint32 `json:"stream_id"`
	Address  uint64 `json:"address"`
}

// Paths of the guest's kernel and initramfs in the machine's initramfs.
const (
	ImageFile  = "guest/image"
	InitrdFile = "guest/initrd"
)

// DiskSize is the size of each of the guest's disks, in bytes.
const DiskSize = 64 << 20
