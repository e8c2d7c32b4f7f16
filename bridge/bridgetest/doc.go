// Package bridgetest is what every bridge.Host must pass: the states of the
// bind-guest-stage thread, withdrawals, faults, and each layout of a Context
// Descriptor table, shown by DMA that arrives where the guest's tables say and
// nowhere else.
//
// A host's test calls Run with a function that makes a Rig: the host, devices
// that it takes, and the guest's memory. Devices may be of hardware that says
// nothing of a DMA that was aborted: the suite looks at the data, and waits for
// events. What a host does not have, by its ID registers, is not asked of it.
package bridgetest

import (
	"testing"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// Rig is a host under test with what belongs to it. It lasts for one test;
// what made it also clears it away, by testing.T's Cleanup.
type Rig struct {
	// Host has no streams, and Events has not been called.
	Host bridge.Host
	// Endpoints are devices that the host takes, and that are not attached: at
	// least one. With two, tests of two streams run as well. The first can wait for
	// faults to be resolved, if the host has stalls.
	Endpoints []bridge.Endpoint
	// Memory is the guest's, in which RAM is the suite's to use: it begins at a
	// multiple of 64 MiB, for the largest table there is, and has 16 MiB.
	Memory guestmem.Memory
	RAM    guestmem.GPA

	// DMA has a device read guest memory into p, or write p to it, and comes back
	// when that is over: at most 4 KiB, within a page of 4 KiB, by unprivileged
	// data accesses without a SubstreamID. A device that is told of an abort
	// returns an error; one that is not returns nil, with p as it likes. It may be
	// called while a method of the host is under way.
	DMA func(ep bridge.Endpoint, write bool, iova uint64, p []byte) error
	// SubstreamDMA is DMA with a SubstreamID, or nil if the devices have none.
	SubstreamDMA func(ep bridge.Endpoint, s smmuv3.SubstreamID, write bool, iova uint64, p []byte) error
	// ATS is how a device with an ATC is used, or nil if the devices have none.
	ATS func(ep bridge.Endpoint) ATS
}

// RAMSize is how much memory from Rig.RAM on the suite uses, in bytes.
const RAMSize = 16 << 20

// Run tests a host; newRig makes one for each test.
func Run(t *testing.T, newRig func(t *testing.T) Rig) {
	for _, c := range []struct {
		name string
		test func(*suite)
	}{
		{"Capabilities", testCapabilities},
		{"States", testStates},
		{"Identity", testIdentity},
		{"Rejected", testRejected},
		{"Granules", testGranules},
		{"Permissions", testPermissions},
		{"Invalidate", testInvalidate},
		{"UnderWay", testUnderWay},
		{"Tables", testTables},
		{"Faults", testFaults},
		{"Stage2", testStage2},
		{"Stalls", testStalls},
		{"ATS", testATS},
		{"TwoStreams", testTwoStreams},
		{"Close", testClose},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.test(&suite{T: t, newRig: newRig})
		})
	}
}
