package machine

import "github.com/go-vsmmu/vsmmuv3/testbed/guest"

// Guest is something that was seen of the guest. Exactly one field is set.
type Guest struct {
	Stage string            `json:"stage,omitempty"`
	Line  *string           `json:"line,omitempty"` // of its console
	Said  *guest.LabMessage `json:"said,omitempty"`
	Boot  *Boot             `json:"boot,omitempty"`
	Read  *Read             `json:"read,omitempty"`
	// Removed is sent when the host's kernel has the NVMe disk back.
	Removed *Removed `json:"removed,omitempty"`
	End     *End     `json:"end,omitempty"` // the last, unless the host has not had the disk back by then
}

// Boot is how a boot of the guest ended.
type Boot struct {
	Number int     `json:"number"`
	End    string  `json:"end"` // a guest.End constant, or what befell it
	Time   float64 `json:"seconds"`
}

// Removed is how the host's kernel removed a device.
type Removed struct {
	Seconds float64 `json:"seconds"` // that it waited
	Error   string  `json:"error,omitempty"`
}

// Read is what a measured read of the guest's cost its SMMU.
type Read struct {
	guest.LabRead
	Syncs    uint64 `json:"syncs"`    // CMD_SYNC
	Commands uint64 `json:"commands"` // invalidations that the guest gave
	Ioctls   uint64 `json:"ioctls"`   // IOMMU_HWPT_INVALIDATE
	// Alone counts ioctls with a single command between two SYNCs where the guest gave more.
	Alone uint64 `json:"alone"`
}

// End is what is known in the end.
type End struct {
	Streams  []Stream          `json:"streams"`
	Commands map[string]uint64 `json:"commands"` // consumed, by opcode
	Places   []Place           `json:"places"`   // of the NVMe disk, as many as are kept
	Events   []Event           `json:"events"`   // recorded, as many as are kept
	// Virtio is how many bytes of the emulated disk's backing are as the guest left them.
	Virtio      int64  `json:"virtio_bytes"`
	VirtioError string `json:"virtio_error,omitempty"`
}

// Stream is a stream and the stages that were bound to it, as many as are kept.
type Stream struct {
	StreamID uint32   `json:"stream_id"`
	Host     string   `json:"host"` // which carries them out
	Binds    []string `json:"binds"`
	Calls    int      `json:"bind_calls"`
}

// Place is what has become of the NVMe disk's stream when its requester ID changed.
type Place struct {
	StreamID uint32 `json:"stream_id"`
	Attached bool   `json:"attached"` // to the SMMU by that StreamID, or detached from it
	Error    string `json:"error,omitempty"`
}

// Event is a record of the SMMU's event queue.
type Event struct {
	Name     string `json:"name"`
	StreamID uint32 `json:"stream_id"`
	Address  uint64 `json:"address"`
}

// Where the machine's initramfs holds the guest's parts.
const (
	ImageFile  = "guest/image"
	InitrdFile = "guest/initrd"
)

// DiskSize is the size of each of the guest's disks, in bytes.
const DiskSize = 64 << 20
