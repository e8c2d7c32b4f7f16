// Package bridgetest is the test suite for every bridge.Host. It covers the states of a stream,
// invalidations, faults, each layout of a Context Descriptor table, and the rules that package
// bridge states for claims, errors and Close. The suite checks that DMA of the devices reaches the
// memory that the guest's tables name, and no other memory.
//
// A host's test calls Run with a function that makes a Rig: the host, its devices, and the guest's
// memory. The devices may be hardware that does not report aborted DMA, so the suite checks the
// data and waits for events. The suite skips features that the host's ID registers lack.
package bridgetest

import (
	"testing"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// Rig is a host under test with its devices and memory. It lasts for one test. The function that
// makes it registers the cleanup with testing.T.Cleanup.
type Rig struct {
	// Host has no streams and is not claimed: Events has not been called.
	Host bridge.Host
	// Endpoints are devices of the host that are not attached. There is at least one. With two,
	// tests of two streams run as well. If the host has stalls, the transactions of the first
	// endpoint can stall.
	Endpoints []bridge.Endpoint
	// Memory is the guest's memory. The suite uses RAMSize bytes from RAM on. RAM is a multiple of
	// 64 MiB, the alignment of the largest table.
	Memory guestmem.Memory
	RAM    guestmem.GPA

	// DMA makes a device read guest memory into p, or write p to it, and returns when the access is
	// complete. An access moves at most 4 KiB within a page of 4 KiB. It is an unprivileged data
	// access without a SubstreamID. It returns an error if the device detects an abort. If devices
	// do not detect aborts, it returns nil with any bytes in p. The suite also calls it during
	// calls of the host.
	DMA func(ep bridge.Endpoint, write bool, iova uint64, p []byte) error
	// SubstreamDMA is DMA with a SubstreamID, or nil if the devices have none.
	SubstreamDMA func(ep bridge.Endpoint, s smmuv3.SubstreamID, write bool, iova uint64, p []byte) error
	// ATS returns the controls of a device with an ATC. It is nil if the devices have none.
	ATS func(ep bridge.Endpoint) ATS

	// Software is set if the host executes commands and walks tables in software. Such a host also
	// honours every field of SetGuestIDs. It uses TTL hints only where Linux sets them correctly.
	Software bool
}

// RAMSize is the number of bytes from Rig.RAM on that the suite uses.
const RAMSize = 16 << 20

// The parts of Run, in order. Each is the name of a subtest.
const (
	PartCapabilities = "Capabilities"
	PartClaim        = "Claim"
	PartGuestIDs     = "GuestIDs"
	PartStates       = "States"
	PartIdentity     = "Identity"
	PartRejected     = "Rejected"
	PartGranules     = "Granules"
	PartPermissions  = "Permissions"
	PartInvalidate   = "Invalidate"
	PartInFlight     = "InFlight"
	PartTables       = "Tables"
	PartFaults       = "Faults"
	PartStage2       = "Stage2"
	PartStalls       = "Stalls"
	PartATS          = "ATS"
	PartSTERefetch   = "STERefetch"
	PartTwoStreams   = "TwoStreams"
	PartClose        = "Close"
)

// Run tests a host. newRig makes a Rig for each test.
func Run(t *testing.T, newRig func(t *testing.T) Rig) {
	for _, c := range []struct {
		name string
		test func(*suite)
	}{
		{PartCapabilities, testCapabilities},
		{PartClaim, testClaim},
		{PartGuestIDs, testGuestIDs},
		{PartStates, testStates},
		{PartIdentity, testIdentity},
		{PartRejected, testRejected},
		{PartGranules, testGranules},
		{PartPermissions, testPermissions},
		{PartInvalidate, testInvalidate},
		{PartInFlight, testInFlight},
		{PartTables, testTables},
		{PartFaults, testFaults},
		{PartStage2, testStage2},
		{PartStalls, testStalls},
		{PartATS, testATS},
		{PartSTERefetch, testSTERefetch},
		{PartTwoStreams, testTwoStreams},
		{PartClose, testClose},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.test(&suite{T: t, newRig: newRig})
		})
	}
}
