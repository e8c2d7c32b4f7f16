package machine

import "github.com/go-vsmmu/vsmmuv3/smmuv3"

// OwnJob describes the guest's machine of package ownsmmu.
type OwnJob struct {
	// IDs are fields of the SMMU's ID registers that differ from the default, by name.
	IDs map[string]uint32 `json:"ids,omitempty"`
	// Cmdline is appended to the guest's command line. It ends with the arguments of its init.
	Cmdline string `json:"cmdline"`
}

// JobFile is the path of an OwnJob, in JSON, in the machine's initramfs.
const JobFile = "guest/job"

// Own is the last message of the VMM of package ownsmmu.
type Own struct {
	// IDs are the ID registers that the guest reads.
	IDs SMMU `json:"ids"`
	// Moves counts how often the SMMU was saved, discarded and restored, by the moment of the move.
	Moves map[string]int `json:"moves"`
	// Busy counts the moves that were not made, because DMA did not stop.
	Busy       int     `json:"moves_not_made"`
	StateBytes int     `json:"state_bytes"`          // of the largest state
	Longest    float64 `json:"longest_move_seconds"` // of the moves
	// Commands, Events and Binds count the SMMU's actions by opcode, type and disposition.
	Commands map[string]uint64 `json:"commands"`
	Events   map[string]uint64 `json:"events"`
	Binds    map[string]uint64 `json:"binds"`
	// Rejected are the first commands that the SMMU answered with an error.
	Rejected []string `json:"rejected_commands,omitempty"`
}

// SMMUOf returns ID registers.
func SMMUOf(ids smmuv3.IDRegs) SMMU { return SMMU{IDR: ids.IDR, IIDR: ids.IIDR, AIDR: ids.AIDR} }
