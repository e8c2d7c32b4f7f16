// Package report is what a test boot leaves behind: what was seen, the checks made of it, and how both are shown.
package report

import (
	"github.com/go-vsmmu/vsmmuv3/internal/asjson"
	"github.com/go-vsmmu/vsmmuv3/testbed/guest"
	"github.com/go-vsmmu/vsmmuv3/testbed/host/progress"
)

// Report is everything that one test boot showed. It is filled in by whoever sees a thing first: the guest's init, the
// VMM, or the runner; Judge then makes the checks.
type Report struct {
	// OK is true only if every check held.
	OK bool `json:"ok"`
	// Error says why the boot did not reach its end; empty if it did.
	Error string `json:"error,omitempty"`
	// LastSeen has the last lines before the Error, unless the guest powered off.
	LastSeen *progress.LastSeen `json:"last_seen,omitempty"`
	// Checks has no check that a boot with an Error did not reach.
	Checks []Check `json:"checks"`

	Accel string `json:"accel"` // "kvm": this machine's own; "tcg": that of an emulated host
	Mode  Mode   `json:"mode"`
	Guest Guest  `json:"guest"`
	// Probe holds the lines that the guest's arm-smmu-v3 driver printed as it came up.
	Probe []string    `json:"probe"`
	IDs   []asjson.ID `json:"id_registers"`

	Streams []Stream `json:"streams"`
	Disks   []Disk   `json:"disks"`
	Fault   Fault    `json:"fault"`
	Moves   Moves    `json:"moves,omitzero"`

	Commands   map[string]uint64 `json:"commands"`   // consumed, by opcode
	Events     map[string]uint64 `json:"events"`     // recorded, by type
	Interrupts map[string]uint64 `json:"interrupts"` // signalled, by line

	Bench *Bench `json:"bench,omitempty"` // of the benchmark, which has none of the above

	Phases  []progress.Phase `json:"phases"`
	Seconds float64          `json:"seconds"` // wall time of all phases
}

// Check is one thing that has to be so.
type Check struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"` // what was seen
}

// Guest tells which kernel ran. It is zero if the guest's init never spoke.
type Guest struct {
	Release    string `json:"release"`
	Version    string `json:"version"`
	PageSize   int    `json:"page_size"`
	CPUs       int    `json:"cpus"`
	PoweredOff bool   `json:"powered_off"` // of its own accord
}

// Stream is an endpoint behind the SMMU and what the guest's Stream Table Entries made of it.
type Stream struct {
	StreamID uint32 `json:"stream_id"`
	Endpoint string `json:"endpoint"` // the serial of the disk
	// Binds holds the stages in the order in which they were bound, as many as are kept; BindCalls counts all.
	Binds     []asjson.Bind `json:"binds"`
	BindCalls int           `json:"bind_calls"`
	// Moved counts the bytes that the endpoint moved, by the disposition of the stage that was bound meanwhile.
	Moved map[string]uint64 `json:"moved"`
	// Messages counts the interrupts that it has sent by DMA, in the same way.
	Messages map[string]uint64 `json:"messages,omitempty"`
	// Refused counts the accesses that failed.
	Refused uint64 `json:"refused"`
}

// Disk is what was done to one disk, in bytes.
type Disk struct {
	Serial   string         `json:"serial"`
	StreamID uint32         `json:"stream_id"`
	Name     string         `json:"name"`       // in the guest
	IOMMU    string         `json:"iommu_type"` // how the guest's kernel translates for it
	Written  int64          `json:"written"`
	Read     int64          `json:"read"`
	Verified int64          `json:"verified"` // by the guest, of what it read
	Rebound  *guest.Rebound `json:"rebound,omitempty"`
	Backing  int64          `json:"backing"` // by the VMM, in the backing file, after the guest was gone
	Error    string         `json:"error,omitempty"`
}

// Moves tells how the SMMU was saved, thrown away and restored while the disks were tested.
type Moves struct {
	Made int `json:"made"`
	// At is how many bytes of data the disks had moved, or were about to, at each move; DMA is how many in the end.
	At         []uint64 `json:"at"`
	DMA        uint64   `json:"dma"`
	StateBytes int      `json:"state_bytes"` // of the largest state
	Longest    float64  `json:"longest"`     // move, in seconds
}

// Fault is the misbehaving endpoint's DMA and what became of it.
type Fault struct {
	StreamID uint32 `json:"stream_id"`
	Address  uint64 `json:"address"`
	// Made tells whether the DMA was made at all, Error how it failed: not failing is a breach.
	Made  bool   `json:"made"`
	Error string `json:"error"`
	// Device holds the records that the device wrote for it, Kernel the lines that the guest's kernel printed.
	Device []Event  `json:"device"`
	Kernel []string `json:"kernel"`
	// Resumes are the guest's answers to transactions that stalled, of whichever endpoint.
	Resumes []Resume `json:"resumes,omitempty"`
}

// Resume is a CMD_RESUME.
type Resume struct {
	StreamID uint32 `json:"stream_id"`
	STAG     uint16 `json:"stag"`
	How      string `json:"how"` // "retry", "RAZ/WI" or ResumeAbort
}

// ResumeAbort is the answer of a guest that terminates a transaction.
const ResumeAbort = "abort"

// Event is a record of the event queue.
type Event struct {
	Type     uint8     `json:"type"`
	Name     string    `json:"name"`
	StreamID uint32    `json:"stream_id"`
	Address  uint64    `json:"address"`
	Words    [4]uint64 `json:"words"`
	Stage2   bool      `json:"stage2"` // the fault is of stage 2
	Stall    bool      `json:"stall"`  // the transaction waits, as STAG
	STAG     uint16    `json:"stag"`
}
