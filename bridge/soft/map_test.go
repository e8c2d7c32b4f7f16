package soft_test

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// newMappedRig returns a rig on memory that can be mapped.
func newMappedRig(t *testing.T, cfg soft.Config) (*rig, *ram) {
	m := newRAM(t)
	cfg.Memory = m
	r := newRig(t, cfg)
	r.guest = m
	return r, m
}

// lens returns the lengths of segments.
func lens(segments [][]byte) (n []int) {
	for _, s := range segments {
		n = append(n, len(s))
	}
	return n
}

func TestMapReturnsGuestMemory(t *testing.T) {
	r, m := newMappedRig(t, soft.Config{})
	r.map4K(cd4K, 0x5000_0000|pageRW, 0x5000_1000|pageRW, 0x6000_0000|pageRW, 0x5000_2000|pageRW)
	r.bind(oneCD)
	m.SetWords(0x5000_0ff8, 0x11)
	m.SetWords(0x5000_1000, 0x22)

	for _, c := range []struct {
		name string
		iova uint64
		n    int
		want []int
	}{
		{"nothing", 0, 0, nil},
		{"within a page", 0x10, 0x20, []int{0x20}},
		{"adjacent pages are one segment", 0xff8, 0x10, []int{0x10}},
		{"pages apart are two segments", 0x1ff8, 0x10, []int{8, 8}},
		{"all", 0, 0x4000, []int{0x2000, 0x1000, 0x1000}},
	} {
		t.Run(c.name, func(t *testing.T) {
			mapped, err := r.ep.Map(c.iova, c.n, false, nil)
			require.NoError(t, err)
			defer mapped.Release()
			assert.Equal(t, c.want, lens(mapped.Segments))
			for _, s := range mapped.Segments {
				assert.Equal(t, len(s), cap(s), "the capacity ends with the range")
			}
		})
	}

	mapped, err := r.ep.Map(0xff8, 16, true, nil)
	require.NoError(t, err)
	assert.Equal(t, []byte{0x11, 0, 0, 0, 0, 0, 0, 0, 0x22, 0, 0, 0, 0, 0, 0, 0}, mapped.Segments[0])
	mapped.Segments[0][0], mapped.Segments[0][8] = 0x33, 0x44
	mapped.Release()
	assert.Nil(t, mapped.Segments)
	mapped.Release()
	assert.EqualValues(t, []uint64{0x33, 0x44}, m.Words(0x5000_0ff8, 2))
	assert.Empty(t, r.taken())

	// Append to a slice of the caller.
	first := []byte("header")
	mapped, err = r.ep.Map(0, 8, false, [][]byte{first})
	require.NoError(t, err)
	defer mapped.Release()
	assert.Equal(t, []int{6, 8}, lens(mapped.Segments))
	buf := make([][]byte, 0, 4)
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		m, _ := r.ep.Map(0x1ff8, 16, true, buf)
		m.Release()
	}))
}

func TestMappingToTheEndOfASlotIsOneSegment(t *testing.T) {
	m := newRAM(t)
	r := newRig(t, soft.Config{Memory: m})
	r.guest = m
	r.map4K(cd4K, 0x500f_e000|pageRW, 0x500f_f000|pageRW)
	r.bind(oneCD)
	got, err := r.ep.Map(0, 0x2000, false, nil)
	require.NoError(t, err)
	defer got.Release()
	assert.Len(t, got.Segments, 1)
}

func TestMapFails(t *testing.T) {
	r, _ := newMappedRig(t, soft.Config{})
	r.map4K(cd4K, 0x5000_0000|pageRW, 0x5000_1cc3, 0x7000_0000|pageRW)
	r.bind(oneCD)
	for _, c := range []struct {
		name   string
		iova   uint64
		n      int
		write  bool
		done   int
		err    error
		events int
	}{
		{"on a fault in the middle", 0xff0, 0x20, true, 0x10, soft.ErrFault, 1},
		{"no memory", 0x1ff0, 0x20, false, 0x10, guestmem.ErrUnmapped, 0},
		{"more than MaxMap", 0, soft.MaxMap + 1, false, 0, soft.ErrTooLong, 0},
		{"a negative size", 0, -1, false, 0, soft.ErrTooLong, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			mapped, err := r.ep.Map(c.iova, c.n, c.write, nil)
			require.ErrorIs(t, err, c.err)
			assert.Empty(t, mapped.Segments)
			var f *soft.Fault
			require.ErrorAs(t, err, &f)
			assert.Equal(t, c.done, f.Done)
			assert.Equal(t, c.iova+uint64(c.done), f.IOVA)
			assert.Len(t, r.taken(), c.events)
			mapped.Release()
		})
	}
	r.invalidate(smmuv3.Command{0x10}) // returns: no section is in use

	_, err := soft.NewEndpoint().Map(0, 1, false, nil)
	assert.ErrorIs(t, err, bridge.ErrClosed)
	other := newRig(t, soft.Config{})
	other.bind(bridge.GuestStage{Disposition: bridge.Bypass})
	_, err = other.ep.Map(0, 1, false, nil)
	assert.ErrorIs(t, err, errors.ErrUnsupported)
}

// §5.5: with A = 0, a device that faults reads zero, and its writes are ignored.
func TestMapOfRAZWIIsScratchMemory(t *testing.T) {
	r, m := newMappedRig(t, soft.Config{})
	r.map4K(cd4K&^(1<<46), 0x5000_0000|pageRW, 0, 0x5000_1000|pageRW)
	r.bind(oneCD)
	mapped, err := r.ep.Map(0xff8, 0x1010, true, nil)
	require.NoError(t, err)
	require.Equal(t, []int{8, 0x1000, 8}, lens(mapped.Segments))
	assert.Equal(t, make([]byte, 0x1000), mapped.Segments[1])
	mapped.Segments[1][0] = 0xee
	mapped.Segments[2][0] = 0x77
	mapped.Release()
	assert.EqualValues(t, 0x77, m.Words(0x5000_1000, 1)[0])
	assert.Len(t, r.taken(), 1, "R = 1: the fault is recorded")
}

func TestMapHasThePortsAttributes(t *testing.T) {
	r, _ := newMappedRig(t, soft.Config{})
	r.map4K(cd4K, 0x5000_0c03) // privileged
	r.bind(oneCD)
	_, err := r.ep.Map(0, 1, false, nil)
	assert.ErrorIs(t, err, soft.ErrFault)
	mapped, err := r.ep.With(soft.Attrs{Privileged: true}).Map(0, 1, false, nil)
	require.NoError(t, err)
	mapped.Release()
}

// With HTTU, Map for writing marks the page dirty before it returns.
func TestMapToWriteMarksPagesDirty(t *testing.T) {
	r, m := newMappedRig(t, soft.Config{})
	at := r.map4K(cd4K|1<<43|1<<42, 0x5000_0843|1<<7|1<<51)
	r.bind(oneCD)
	mapped, err := r.ep.Map(0, 1, false, nil)
	require.NoError(t, err)
	mapped.Release()
	assert.NotZero(t, m.Words(at, 1)[0]&(1<<7))
	mapped, err = r.ep.Map(0, 1, true, nil)
	require.NoError(t, err)
	mapped.Release()
	assert.Zero(t, m.Words(at, 1)[0]&(1<<7))
}

// §3.21.1: a mapping is in-flight DMA.
func TestInvalidationsWaitForMappings(t *testing.T) {
	for name, invalidate := range map[string]func(r *rig, m *ram) error{
		"TLBI_NH_VA":   func(r *rig, _ *ram) error { return r.host.Invalidate([]smmuv3.Command{{0x12 | 1<<48}}) },
		"CFGI_CD":      func(r *rig, _ *ram) error { return r.host.Invalidate([]smmuv3.Command{{0x42_00000005}}) },
		"Bind":         func(r *rig, _ *ram) error { return r.stream.Bind(bridge.GuestStage{}) },
		"Stream.Close": func(r *rig, _ *ram) error { return r.stream.Close() },
		"Host.Close":   func(r *rig, _ *ram) error { return r.host.Close() },
		"Slots.Remove": func(_ *rig, m *ram) error { return m.Remove(0x5000_0000) },
	} {
		t.Run(name, func(t *testing.T) {
			onGates(t, func(t *testing.T, r *rig, _ *gate) {
				m, ok := r.guest.(*ram)
				if !ok {
					t.Skip("cannot be mapped")
				}
				r.map4K(cd4K, 0x5000_0000|pageRW, 0x6000_0000|pageRW)
				r.bind(oneCD)
				mapped, err := r.ep.Map(0, 8, true, nil)
				require.NoError(t, err)
				over := start(func() { assert.NoError(t, invalidate(r, m)) })
				assert.False(t, over.Load(), "the device holds the mapping")
				_, _ = word(r.ep, 0x1010) // returns

				mapped.Segments[0][0] = 1
				mapped.Release()
				for !over.Load() {
					sleep()
				}
			})
		})
	}
}

// TestMappingOfNothingHoldsNothing shows that a Mapping of 0 bytes delays no invalidation, even if
// it is not released.
func TestMappingOfNothingHoldsNothing(t *testing.T) {
	r, _ := newMappedRig(t, soft.Config{})
	r.bind(bridge.GuestStage{})
	first := []byte("header")
	mapped, err := r.ep.Map(0xdead_0000, 0, true, [][]byte{first})
	require.NoError(t, err, "no address is translated")
	assert.Equal(t, [][]byte{first}, mapped.Segments)
	done := make(chan struct{})
	go func() {
		r.bind(oneCD) // waits for in-flight DMA
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Error("bind waits for a Mapping of 0 bytes")
		mapped.Release()
		<-done
	}
	mapped.Release()
}
