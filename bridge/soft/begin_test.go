package soft

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
)

// A transaction never begins with a binding that has been replaced. This holds even if it loaded
// the binding before the replacement and entered its read-side section after it.
func TestTransactionNeverBeginsWithAReplacedBinding(t *testing.T) {
	const rounds = 3000
	h, err := New(Config{Memory: new(guestmem.Fake)})
	require.NoError(t, err)
	ep := NewEndpoint()
	s, err := h.Attach(1, ep)
	require.NoError(t, err)

	var replaced sync.Map // of *binding
	var wg sync.WaitGroup
	var stop atomic.Bool
	for range 2 {
		wg.Go(func() {
			for !stop.Load() {
				b, section := ep.begin()
				_, late := replaced.Load(b)
				section.Leave()
				if late {
					t.Error("it began with a replaced binding")
					return
				}
			}
		})
	}
	for range rounds {
		b := ep.bound.Load()
		require.NoError(t, s.Bind(bridge.GuestStage{Disposition: bridge.Bypass}))
		replaced.Store(b, true)
	}
	stop.Store(true)
	wg.Wait()
}
