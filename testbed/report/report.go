// Package report has the reports of test boots and benchmarks: observations, checks and summaries.
package report

import (
	"github.com/go-vsmmu/vsmmuv3/internal/asjson"
	"github.com/go-vsmmu/vsmmuv3/testbed/guest"
	"github.com/go-vsmmu/vsmmuv3/testbed/host/progress"
)

// Report has all observations of a test boot. The guest's init, the VMM and the runner fill it in.
// Then Judge makes the checks.
type Report struct {
	// OK is true if every check holds and there is no Error.
	OK bool `json:"ok"`
	// Error says why the boot did not reach its end; empty if it did.
	Error string `json:"error,omitempty"`
	// LastSeen has the last lines before the Error, unless the guest powered off.
	LastSeen *progress.LastSeen `json:"last_seen,omitempty"`
	// Checks omits the checks that a boot with an Error did not reach.
	Checks []Check `json:"checks"`

	Accel string `json:"accel"` // "kvm" is this machine's own, "tcg" that of an emulated host
	Mode  Mode   `json:"mode"`
	Guest Guest  `json:"guest"`
	// Probe has the lines that the guest's arm-smmu-v3 driver printed when it probed the SMMU.
	Probe []string    `json:"probe"`
	IDs   []asjson.ID `json:"id_registers"`

	Streams []Stream `json:"streams"`
	Disks   []Disk   `json:"disks"`
	Fault   Fault    `json:"fault"`
	Wiring  Wiring   `json:"wiring"`
	Reboots int      `json:"reboots,omitempty"` // through the firmware
	// Description is how the guest's kernel found its hardware; nil if its init did not report it.
	Description *guest.Description `json:"description,omitempty"`
	Moves       Moves              `json:"moves,omitzero"`

	Commands   map[string]uint64 `json:"commands"` // consumed, by opcode
	Removed    RemovedTables     `json:"removed_tables"`
	Events     map[string]uint64 `json:"events"`     // recorded, by type
	Interrupts map[string]uint64 `json:"interrupts"` // signalled, by line

	// Bench and Tables are set by the benchmark and by the boots of testbed tables, which set no
	// field above.
	Bench  *Bench  `json:"bench,omitempty"`
	Tables *Tables `json:"tables,omitempty"`

	Phases  []progress.Phase `json:"phases"`
	Seconds float64          `json:"seconds"` // wall time of all phases
}

// Check is a statement about a boot, and whether it holds.
type Check struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"` // the observation
}

// Guest describes the guest's kernel. It is zero if the guest's init never reported.
type Guest struct {
	Release    string `json:"release"`
	Version    string `json:"version"`
	PageSize   int    `json:"page_size"`
	CPUs       int    `json:"cpus"`
	PoweredOff bool   `json:"powered_off"` // by itself
}

// Stream is an endpoint behind the SMMU, with the stages that the guest's STEs bound for it.
type Stream struct {
	StreamID uint32 `json:"stream_id"`
	Endpoint string `json:"endpoint"` // the serial of the disk
	// Binds has the first stages in the order in which they were bound. BindCalls counts all.
	Binds     []asjson.Bind `json:"binds"`
	BindCalls int           `json:"bind_calls"`
	// Moved counts the bytes that the endpoint moved, by the disposition of the bound stage.
	Moved map[string]uint64 `json:"moved"`
	// Messages counts the interrupts that the endpoint sent by DMA, in the same way.
	Messages map[string]uint64 `json:"messages,omitempty"`
	// Refused counts the endpoint's accesses that failed.
	Refused uint64 `json:"refused"`
}

// Disk is the test of a disk, in bytes.
type Disk struct {
	Serial   string         `json:"serial"`
	StreamID uint32         `json:"stream_id"`
	Name     string         `json:"name"`       // in the guest
	IOMMU    string         `json:"iommu_type"` // the domain type in the guest's kernel
	Written  int64          `json:"written"`
	Read     int64          `json:"read"`
	Verified int64          `json:"verified"` // by the guest, of what it read
	Table    int64          `json:"table"`    // by mappings that filled a translation table
	Rebound  *guest.Rebound `json:"rebound,omitempty"`
	Backing  int64          `json:"backing"` // correct in the backing file after power off
	Error    string         `json:"error,omitempty"`
}

// Wiring is how the VMM connected the interrupts of SMMUs and disks.
type Wiring struct {
	ITS bool `json:"its"` // there is an ITS, to which functions and SMMUs send messages
	// SMMUs has the INTIDs of each SMMU's wired interrupts, by the names of their lines.
	SMMUs []map[string]uint32 `json:"smmus"`
	// Disks has the INTIDs of the disks that interrupt by wires.
	Disks []uint32 `json:"disks,omitempty"`
	// Functions is the number of disks that send messages.
	Functions int `json:"functions,omitempty"`
}

// RemovedTables counts the TLBIs by address with Leaf = 0. The guest's kernel sends them when it removes a
// translation table.
type RemovedTables struct {
	TLBI   uint64 `json:"tlbi"`
	Hinted uint64 `json:"hinted"` // of these with a TTL hint
}

// Moves describes how the SMMU was saved, discarded and restored during the test of the disks.
type Moves struct {
	Made int `json:"made"`
	// At has the number of bytes that the disks had moved at each move, including the bytes in
	// progress. DMA is the number at the end.
	At         []uint64 `json:"at"`
	DMA        uint64   `json:"dma"`
	StateBytes int      `json:"state_bytes"` // size of the largest state
	Longest    float64  `json:"longest"`     // seconds of the longest move
}

// Fault is the misbehaving endpoint's DMA and its result.
type Fault struct {
	StreamID uint32 `json:"stream_id"`
	Address  uint64 `json:"address"`
	// Made is true if the DMA was made. Error says how it failed. An empty Error is a breach of
	// isolation.
	Made  bool   `json:"made"`
	Error string `json:"error"`
	// Device has the device's event records, Kernel the lines that the guest's kernel printed.
	Device []Event  `json:"device"`
	Kernel []string `json:"kernel"`
	// Resumes has the guest's answers to stalled transactions, of any endpoint.
	Resumes []Resume `json:"resumes,omitempty"`
}

// Resume is a CMD_RESUME.
type Resume struct {
	StreamID uint32 `json:"stream_id"`
	STAG     uint16 `json:"stag"`
	How      string `json:"how"` // "retry", "RAZ/WI" or ResumeAbort
}

// ResumeAbort is Resume.How of a transaction that the guest aborts.
const ResumeAbort = "abort"

// Event is a record of the event queue.
type Event struct {
	Type     uint8     `json:"type"`
	Name     string    `json:"name"`
	StreamID uint32    `json:"stream_id"`
	Address  uint64    `json:"address"`
	Words    [4]uint64 `json:"words"`
	Stage2   bool      `json:"stage2"` // stage 2 faulted
	Stall    bool      `json:"stall"`  // the transaction is stalled, with STAG
	STAG     uint16    `json:"stag"`
}
