package vsmmuv3_test

import (
	"encoding/json"
	"expvar"
	"fmt"
	"log"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	vsmmuv3 "github.com/go-vsmmu/vsmmuv3"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmu"
)

// TestStatsAreOneTree shows that one JSON value has commands by name, the host's calls, the streams
// with their stages, and the endpoints' DMA.
func TestStatsAreOneTree(t *testing.T) {
	ram := newRAM(t)
	smmu := newSMMU(t, config(ram))
	disk, err := smmu.Endpoint(0x10)
	require.NoError(t, err)
	g := newGuest(ram, smmu)
	require.NoError(t, g.Enable())
	require.NoError(t, g.MapStage1(0x10, iova, page, 0x1000))
	require.NoError(t, disk.WriteAt(make([]byte, 512), iova))
	require.Error(t, disk.WriteAt(make([]byte, 512), iova+0x1000))

	text, err := json.Marshal(smmu.Stats())
	require.NoError(t, err)
	var s struct {
		Device struct {
			Commands, Events map[string]uint64
			Hosts            []struct{ Calls map[string]uint64 }
			Streams          []struct{ Disposition string }
		}
		Host struct {
			Endpoints map[string]map[string]uint64
		}
	}
	require.NoError(t, json.Unmarshal(text, &s))
	assert.NotZero(t, s.Device.Commands["SYNC"])
	assert.EqualValues(t, 1, s.Device.Events["recorded"])
	assert.EqualValues(t, 1, s.Device.Hosts[0].Calls["attach"])
	assert.Equal(t, "translate", s.Device.Streams[0].Disposition)
	assert.Equal(t, map[string]uint64{
		"transactions": 1, "bytes_read": 0, "bytes_written": 512, "misses": 2, "faults": 1,
	}, s.Host.Endpoints["16"])

	assert.Empty(t, (*vsmmuv3.SMMU)(nil).Stats().Device.Commands)
}

// One line publishes the counts at /debug/vars.
func ExampleSMMU_Stats() {
	ram := new(guestmem.Slots)
	if err := ram.Add(guestmem.Slot{GPA: 0x4000_0000, Mem: make([]byte, 1<<20)}); err != nil {
		log.Fatal(err)
	}
	smmu, err := vsmmuv3.New(vsmmuv3.Config{
		Memory: ram, Interrupts: vsmmu.SPIs(74, func(uint32, bool) error { return nil }),
	})
	if err != nil {
		log.Fatal(err)
	}
	defer smmu.Close()
	expvar.Publish("smmu", expvar.Func(func() any { return smmu.Stats() }))

	disk, err := smmu.Endpoint(0x10)
	if err != nil {
		log.Fatal(err)
	}
	_ = disk.WriteAt(make([]byte, 4096), 0x4000_0000)
	s := smmu.Stats()
	fmt.Println("written by stream 0x10:", s.Host.Endpoints[0x10].BytesWritten)
	fmt.Println("syncs:", s.Device.Commands[smmuv3.OpSync])
	// Output:
	// written by stream 0x10: 4096
	// syncs: 0
}
