package vm

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/virtio"
)

var _ virtio.Mapper = (*endpoint)(nil)

func TestEndpointCountsMappingsAndFaults(t *testing.T) {
	var ram guestmem.Slots
	require.NoError(t, ram.Add(guestmem.Slot{Mem: make([]byte, 0x1000)}))
	host, err := soft.New(soft.Config{Memory: &ram})
	require.NoError(t, err)
	defer func() { require.NoError(t, host.Close()) }()
	var told []string
	ep := &endpoint{dma: soft.NewEndpoint(), tap: func(_ smmuv3.StreamID, write bool, iova uint64, n int, err error) {
		told = append(told, fmt.Sprintf("%#x at %#x, write: %v, fault: %v", n, iova, write, err != nil))
	}}
	stream, err := host.Attach(0x10, ep.dma)
	require.NoError(t, err)

	bind := func(s bridge.GuestStage) { ep.bind(s, stream.Bind(s)) }
	bind(bridge.GuestStage{Disposition: bridge.Bypass})
	m, err := ep.Map(0x800, 0x100, true, nil)
	require.NoError(t, err)
	m.Release()
	_, err = ep.Map(0x800, 0x1000, true, nil)
	assert.ErrorIs(t, err, guestmem.ErrUnmapped)
	assert.Zero(t, ep.report().Refused, "the caller tries again without a mapping")

	bind(bridge.GuestStage{Disposition: bridge.Abort})
	_, err = ep.Map(0x800, 0x100, true, nil)
	assert.ErrorIs(t, err, soft.ErrFault)
	assert.Equal(t, uint64(1), ep.report().Refused)
	assert.Equal(t, map[string]uint64{"bypass": 0x100}, ep.report().Moved)
	assert.Equal(t, []string{"0x100 at 0x800, write: true, fault: false", "0x100 at 0x800, write: true, fault: true"}, told)
}

func TestMasterHasTheEndpointsStreamIDAndProperties(t *testing.T) {
	for _, tt := range []struct {
		name string
		job  Job
		want []vmm.Master
	}{
		{"platform devices", Job{PASIDBits: 6}, []vmm.Master{{StreamID: 0x10}, {StreamID: 0x21, PASIDBits: 6}, {StreamID: 0x32}}},
		{"with stalls", Job{PASIDBits: 6, Stalls: true}, []vmm.Master{{StreamID: 0x10}, {StreamID: 0x21, PASIDBits: 6}, {StreamID: 0x32, CanStall: true}}},
		{"PCI functions", Job{PASIDBits: 6, Layout: Layout{PCI: true}}, []vmm.Master{{StreamID: 0x08}, {StreamID: 0x10, PASIDBits: 6}, {StreamID: 0x18}}},
	} {
		for i, want := range tt.want {
			assert.Equal(t, want, tt.job.master(i), tt.name)
		}
	}
}
