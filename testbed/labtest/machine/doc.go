// Package machine is the init of the lab's machines and its messages to the runner, package
// labtest. A program becomes the init by calling Main.
package machine

// Message is a line of JSON from a machine to the runner. Exactly one field is set.
type Message struct {
	Hello *Hello `json:"hello,omitempty"` // the first
	// Line is a line of the program's standard output.
	Line *string `json:"line,omitempty"`
	// Log is a warning or an error in the log of a kernel that does not print its log on its console.
	Log *string `json:"log,omitempty"`
	// IORT is the firmware's ACPI table.
	IORT    []byte   `json:"iort,omitempty"`
	SMMU    *SMMU    `json:"smmu,omitempty"`
	Figures *Figures `json:"figures,omitempty"`
	Guest   *Guest   `json:"guest,omitempty"`
	// Inner is a message of a program in the machine's guest, which is a lab machine itself.
	Inner *Message `json:"inner,omitempty"`
	Own   *Own     `json:"own,omitempty"`
	Exit  *Exit    `json:"exit,omitempty"` // the last
}

// Hello identifies the kernel.
type Hello struct {
	Release string `json:"release"` // uname -r
}

// SMMU has the ID registers of the physical SMMU, as the kernel reports them.
type SMMU struct {
	IDR  [6]uint32 `json:"idr"`
	IIDR uint32    `json:"iidr"`
	AIDR uint32    `json:"aidr"`
}

// Figures are an iommufd host's Stats at the end of a test, field by field.
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
	Error  string `json:"error,omitempty"` // why the program did not run
}

// NoStallWarnings is on the command line of every kernel in the lab. Without this option, a kernel
// warns if a busy machine has not run one of the CPUs for 21 s.
const NoStallWarnings = "rcupdate.rcu_cpu_stall_timeout=300"

// Lines that a test writes to its kernel's log around what makes the kernel complain.
const (
	ComplaintsExpected = "kerneltest: complaints about an ATC are expected"
	ComplaintsEnd      = "kerneltest: complaints are faults again"
)

// VMRole is the first argument of cmd/testbed when it is the init of package vm.
const VMRole = "lab-host"

// OwnRole is the first argument of cmd/testbed when it is the init of package ownsmmu.
const OwnRole = "lab-own"

// OnUART as the first argument makes Main send its messages through the UART guest.ControlDevice
// instead of a virtio-serial port. The program gets the other arguments.
const OnUART = "on-uart"

// DumpIORT as the first argument makes Main send the IORT. The program gets the other arguments.
const DumpIORT = "dump-iort"
