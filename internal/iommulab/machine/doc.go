// Package machine is the side of package iommulab that runs on the machine: the init, which a test program becomes by calling
// Main, and what it says to the runner.
package machine

// What the program says on the console for the runner, each at the start of a line.
const (
	ExitMark = "IOMMULAB-EXIT " // and the exit status
	IORTMark = "IOMMULAB-IORT " // and a part of the table in base64
)

// DumpIORT is the argument that has Main show the IORT and nothing else.
const DumpIORT = "dump-iort"
