// Package machine is the side of package iommulab that runs on the machine: the init, which a test program becomes by calling
// Main, and what it says to the runner.
package machine

// Message is a line of JSON from the machine to the runner. Exactly one field is set.
type Message struct {
	Hello *Hello `json:"hello,omitempty"` // the first
	// Line is one that the program has written to its standard output.
	Line *string `json:"line,omitempty"`
	// IORT is the ACPI table as the firmware made it.
	IORT    []byte   `json:"iort,omitempty"`
	SMMU    *SMMU    `json:"smmu,omitempty"`
	Figures *Figures `json:"figures,omitempty"`
	Guest   *Guest   `json:"guest,omitempty"`
	Exit    *Exit    `json:"exit,omitempty"` // the last
}

// Hello tells which kernel runs.
type Hello struct {
	Release string `json:"release"` // uname -r
}

// SMMU is what the kernel lets a guest have of the physical one.
type SMMU struct {
	IDR  [6]uint32 `json:"idr"`
	IIDR uint32    `json:"iidr"`
	AIDR uint32    `json:"aidr"`
}

// Figures are those of a host at the end of a test: iommufd.Stats, field by field.
type Figures struct {
	Ioctls         uint64 `json:"ioctls"`
	Invalidations  uint64 `json:"invalidations"`
	Commands       uint64 `json:"commands"`
	Events         uint64 `json:"events"`
	EventsLost     uint64 `json:"events_lost"`
	EventsWithheld uint64 `json:"events_withheld"`
	EventErrors    uint64 `json:"event_errors"`
	Objects        int    `json:"objects"`
}

// Exit is the end of the program.
type Exit struct {
	Status int    `json:"status"`
	Error  string `json:"error,omitempty"` // why it was not run at all
}

// NoStallWarnings is what every kernel of the lab is told, or it would complain of a processor that a starved machine has not let run for
// 21 s.
const NoStallWarnings = "rcupdate.rcu_cpu_stall_timeout=300"

// VMRole is the first argument of the program of package vm.
const VMRole = "lab-host"

// DumpIORT is the first argument that has Main show the IORT, before it runs the program with the others.
const DumpIORT = "dump-iort"
