package bridgetest_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/bridgetest"
	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
)

// The test of a host calls Run with a function that makes the host, two devices and the guest's
// memory. Here the host is bridge/soft.
func ExampleRun() {
	newRig := func(t *testing.T) bridgetest.Rig {
		ram := new(guestmem.Slots)
		const base = 0x4000_0000
		require.NoError(t, ram.Add(guestmem.Slot{GPA: base, Mem: make([]byte, bridgetest.RAMSize)}))
		host, err := soft.New(soft.Config{Memory: ram})
		require.NoError(t, err)
		t.Cleanup(func() { _ = host.Close() })
		return bridgetest.Rig{
			Host: host, Endpoints: []bridge.Endpoint{soft.NewEndpoint(), soft.NewEndpoint()},
			Memory: ram, RAM: base,
			DMA: func(ep bridge.Endpoint, write bool, iova uint64, p []byte) error {
				if write {
					return ep.(*soft.Endpoint).WriteAt(p, iova)
				}
				return ep.(*soft.Endpoint).ReadAt(p, iova)
			},
			Software: true,
		}
	}

	// In a file of tests:
	_ = func(t *testing.T) { bridgetest.Run(t, newRig) }
}
