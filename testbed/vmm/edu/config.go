package edu

import (
	"fmt"
	"time"

	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/pci"
)

// Features are the features that a function has besides the registers and the MSI of QEMU's edu.
// With any of them but MSIX and Stalls, it has a PCI Express capability.
type Features struct {
	// PASIDBits is the width of PASIDs, at most 20. 0 means no PASID.
	PASIDBits uint8
	// ATS is an ATC with its capability.
	ATS bool
	// PRI is page requests. It needs ATS.
	PRI bool
	// FLR is function-level reset.
	FLR bool
	// ACS isolates the function from the other functions of its device, for the guest's kernel.
	ACS bool
	// MSIX is an MSI-X capability with two vectors: vector 1 for the end of a DMA, vector 0 for
	// everything else.
	MSIX bool
	// Stalls declares that the function's DMA can wait for the guest. The device tree has
	// dma-can-stall for it.
	Stalls bool
}

func (f *Features) express() bool { return f.PASIDBits > 0 || f.ATS || f.PRI || f.FLR || f.ACS }

func (f *Features) check() error {
	switch {
	case f.PASIDBits > pci.MaxPASIDBits:
		return fmt.Errorf("PASIDBits %d: more than %d", f.PASIDBits, pci.MaxPASIDBits)
	case f.PRI && !f.ATS:
		return fmt.Errorf("PRI without ATS")
	}
	return nil
}

// Config describes a function. The zero value is QEMU's edu without an INTx.
type Config struct {
	Features Features
	// INTx sets the level of the function's INTA#. It may be called from any goroutine. Nil means
	// that the function has none.
	INTx func(level bool)
	// PageTimeout ends a DMA that waits for the response to its page request. 0 means 10 s.
	PageTimeout time.Duration
}
