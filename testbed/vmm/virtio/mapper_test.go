package virtio

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
)

// mapper is memory that can also be mapped, by an endpoint whose stream bypasses translation. Its
// log has the mappings.
type mapper struct {
	*memory
	endpoint *soft.Endpoint
	stream   bridge.Stream
	refusal  error // unless nil, the error of each Map
}

// newMapper returns a mapper. The test does not end while anything is mapped.
func newMapper(t testing.TB, m *memory) *mapper {
	ram := new(guestmem.Slots)
	require.NoError(t, ram.Add(guestmem.Slot{Mem: m.bytes[:]}))
	host, err := soft.New(soft.Config{Memory: ram, TLBEntries: 1})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, host.Close()) })
	endpoint := soft.NewEndpoint()
	stream, err := host.Attach(1, endpoint)
	require.NoError(t, err)
	require.NoError(t, stream.Bind(bridge.GuestStage{Disposition: bridge.Bypass}))
	return &mapper{memory: m, endpoint: endpoint, stream: stream}
}

func (m *mapper) Map(iova uint64, n int, write bool, buf [][]byte) (soft.Mapping, error) {
	m.mu.Lock()
	_, err := m.at(make([]byte, n), iova)
	m.log = append(m.log, fmt.Sprintf("map %d at %#x, write: %v", n, iova, write))
	m.mu.Unlock()
	switch {
	case m.refusal != nil:
		return soft.Mapping{}, m.refusal
	case err != nil:
		return soft.Mapping{}, fmt.Errorf("%w: %w", soft.ErrFault, err)
	}
	return m.endpoint.Map(iova, n, write, buf)
}

// paths are the ways in which a device moves data. All give the same results.
var paths = []struct {
	name string
	dma  func(t testing.TB, m *memory) DMA
}{
	{"copied", func(_ testing.TB, m *memory) DMA { return m }},
	{"mapped", func(t testing.TB, m *memory) DMA { return newMapper(t, m) }},
	{"refused", func(t testing.TB, m *memory) DMA {
		mapper := newMapper(t, m)
		mapper.refusal = guestmem.ErrUnmapped
		return mapper
	}},
}

func onEachPath(t *testing.T, test func(t *testing.T, dma func(m *memory) DMA)) {
	for _, path := range paths {
		t.Run(path.name, func(t *testing.T) {
			test(t, func(m *memory) DMA { return path.dma(t, m) })
		})
	}
}
