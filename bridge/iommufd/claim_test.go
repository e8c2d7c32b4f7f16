//go:build linux && (amd64 || arm64)

package iommufd

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// aFault is an F_TRANSLATION of stream 0x100.
var aFault = smmuv3.Event{0x0000_0100_0000_0010, 2 << 40, 0xabc, 0}

func TestEvents_second_claim_is_ErrInUse(t *testing.T) {
	k := newFake(t)
	h := openFake(t, k, Config{})
	require.NoError(t, h.Events(nil), "there is no sink to remove")
	require.NoError(t, h.Events(func(smmuv3.Event) {}))
	err := h.Events(func(smmuv3.Event) {})
	assert.ErrorIs(t, err, bridge.ErrInUse)
	assert.EqualError(t, err, "host in use")
	require.NoError(t, h.Events(nil))
	require.NoError(t, h.Events(nil))
	require.NoError(t, h.Events(func(smmuv3.Event) {}))
	require.NoError(t, h.Close())
	assert.ErrorIs(t, h.Events(func(smmuv3.Event) {}), bridge.ErrClosed)
	assert.NoError(t, h.Events(nil), "Events(nil) works after Close as well")
	assert.ErrorIs(t, h.Events(func(smmuv3.Event) {}), bridge.ErrClosed)
}

// The reader that the first claim's stream started delivers to the sink of the next claim. Faults
// that the kernel reported before the next claim are dropped.
func TestEvents_next_claim_gets_its_own_faults(t *testing.T) {
	k := newFake(t)
	h := openFake(t, k, Config{})
	d, err := h.Add(dev0)
	require.NoError(t, err)
	var first, second []smmuv3.Event
	require.NoError(t, h.Events(func(e smmuv3.Event) { first = append(first, e) }))
	k.events.deaf = true // only calls deliver faults
	s, err := h.Attach(0x100, d)
	require.NoError(t, err)
	k.events.put(record(0, 0, aFault))
	require.NoError(t, h.Invalidate(nil))
	require.Len(t, first, 1)
	require.NoError(t, s.Close())

	k.events.put(record(0, 1, aFault))
	require.NoError(t, h.Events(nil))
	k.events.put(record(0, 2, aFault))
	require.NoError(t, h.Events(func(e smmuv3.Event) { second = append(second, e) }))
	_, err = h.Attach(0x100, d)
	require.NoError(t, err)
	assert.Empty(t, second)
	k.events.put(record(0, 3, aFault))
	require.NoError(t, h.Invalidate(nil))
	assert.Len(t, first, 1)
	assert.Len(t, second, 1)
	assert.Zero(t, h.Stats().EventsLost)
}

// Devices claim and release the host while the kernel reports faults and others use the host. A
// sink that was removed is not called again.
func TestEvents_concurrent_claims(t *testing.T) {
	k := newFake(t)
	h := openFake(t, k, Config{})
	d, err := h.Add(dev0)
	require.NoError(t, err)
	_, err = h.Attach(0x100, d) // the reader runs
	require.NoError(t, err)

	done := make(chan struct{})
	var others sync.WaitGroup
	others.Go(func() {
		for i := uint32(0); ; i++ {
			select {
			case <-done:
				return
			default:
				k.events.put(record(0, i, aFault))
			}
		}
	})
	others.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				assert.NoError(t, h.Invalidate(nil))
				h.Stats()
			}
		}
	})
	var owners atomic.Int32
	var claims sync.WaitGroup
	for range 3 {
		claims.Go(func() {
			for range 200 {
				var removed atomic.Bool
				err := h.Events(func(smmuv3.Event) {
					assert.False(t, removed.Load(), "a removed sink is called")
				})
				if err != nil {
					assert.ErrorIs(t, err, bridge.ErrInUse)
					continue
				}
				assert.EqualValues(t, 1, owners.Add(1), "claims of the host")
				owners.Add(-1)
				assert.NoError(t, h.Events(nil))
				removed.Store(true)
			}
		})
	}
	claims.Wait()
	close(done)
	others.Wait()
	require.NoError(t, h.Close())
}

// The next device that claims the host has the same VMID. The host therefore invalidates the
// earlier device's translations before stage 1 translates again.
func TestEvents_next_claim_inherits_no_translations(t *testing.T) {
	k := newFake(t)
	h := openFake(t, k, Config{})
	d, err := h.Add(dev0)
	require.NoError(t, err)
	for range 2 {
		require.NoError(t, h.Events(func(smmuv3.Event) {}))
		s, err := h.Attach(0x100, d)
		require.NoError(t, err)
		require.NoError(t, s.Bind(translate(0x1000)))
		require.NoError(t, s.Close())
		require.NoError(t, h.Events(nil))
	}
	assert.Equal(t, [][]smmuv3.Command{{{0x30}}}, k.commands, "TLBI_NSNH_ALL for the second")
}
