//go:build linux && (amd64 || arm64)

package iommufd

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// failAll answers every request of the names with an error, until the returned function is called.
func (k *fakeKernel) failAll(err error, names ...string) (heal func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.spoil = func(name string, _ int) error {
		for _, n := range names {
			if n == name {
				return err
			}
		}
		return nil
	}
	return func() { k.fail("", 0, nil) }
}

// objectCount returns the number of objects in the kernel.
func (k *fakeKernel) objectCount() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.objects)
}

// The host keeps a vDEVICE that it could neither attach nor destroy. The kernel allows one vDEVICE
// for each device, so the device would otherwise be unusable.
func TestAttach_fails_and_keeps_the_vDEVICE(t *testing.T) {
	setup := func(t *testing.T) (*fakeKernel, *Host, *Device, func()) {
		k := newFake(t)
		h := openFake(t, k, Config{})
		d, err := h.Add(dev0)
		require.NoError(t, err)
		heal := k.failAll(unix.EBUSY, "attach", "destroy")
		_, err = h.Attach(0x100, d)
		require.ErrorIs(t, err, unix.EBUSY)
		assert.Contains(t, k.kinds(), "vdevice")
		assert.Equal(t, k.objectCount(), h.Stats().Objects, "Stats counts the vDEVICE")
		return k, h, d, heal
	}
	works := func(t *testing.T, k *fakeKernel, h *Host, sid smmuv3.StreamID, d *Device) {
		t.Helper()
		s, err := h.Attach(sid, d)
		require.NoError(t, err)
		require.NoError(t, s.Bind(translate(0x1000)))
		assert.EqualValues(t, sid, k.devices[d.FD()].vdevice.virtID)
		require.NoError(t, s.Close())
		assert.NotContains(t, k.kinds(), "vdevice")
	}
	t.Run("Attach with the same StreamID uses it", func(t *testing.T) {
		k, h, d, heal := setup(t)
		heal()
		k.took()
		works(t, k, h, 0x100, d)
		assert.NotContains(t, k.took(), "+vdevice")
	})
	t.Run("even if the kernel still does not destroy it", func(t *testing.T) {
		k, h, d, heal := setup(t)
		heal()
		k.fail("destroy", 0, unix.EBUSY)
		s, err := h.Attach(0x100, d)
		require.NoError(t, err)
		k.fail("", 0, nil)
		require.NoError(t, s.Close())
	})
	t.Run("Attach with another StreamID destroys it", func(t *testing.T) {
		k, h, d, heal := setup(t)
		_, err := h.Attach(0x200, d)
		assert.ErrorIs(t, err, unix.EBUSY)
		heal()
		works(t, k, h, 0x200, d)
	})
	t.Run("another device gets the StreamID", func(t *testing.T) {
		k, h, d, heal := setup(t)
		heal()
		other, err := h.Add(dev1)
		require.NoError(t, err)
		works(t, k, h, 0x100, other)
		works(t, k, h, 0x100, d)
	})
	t.Run("another device with another StreamID", func(t *testing.T) {
		k, h, d, heal := setup(t)
		heal()
		other, err := h.Add(dev1)
		require.NoError(t, err)
		k.fail("destroy", 0, unix.EBUSY)
		s, err := h.Attach(0x200, other)
		require.NoError(t, err, "the old vDEVICE does not prevent this")
		k.fail("", 0, nil)
		require.NoError(t, s.Close())
		works(t, k, h, 0x100, d)
	})
	t.Run("the device's Close destroys it", func(t *testing.T) {
		k, h, d, heal := setup(t)
		assert.ErrorIs(t, d.Close(), unix.EBUSY)
		_, open := k.fds[d.FD()]
		assert.True(t, open, "the device is not closed")
		heal()
		require.NoError(t, d.Close())
		assert.NotContains(t, k.kinds(), "vdevice")
		again, err := h.Add(dev0)
		require.NoError(t, err)
		works(t, k, h, 0x100, again)
	})
	t.Run("the host's Close destroys it", func(t *testing.T) {
		k, h, _, heal := setup(t)
		heal()
		require.NoError(t, h.Close())
		k.assertEmpty()
		assert.Zero(t, h.Stats().Objects)
	})
	t.Run("the host's Close tries it again without the device", func(t *testing.T) {
		k, h, _, heal := setup(t)
		heal()
		k.fail("destroy", 1, unix.EBUSY)
		require.NoError(t, h.Close())
		assert.Zero(t, h.Stats().Objects)
	})
}

// There is one vDEVICE for each device, however often Attach fails.
func TestAttach_fails_and_nothing_grows(t *testing.T) {
	k := newFake(t)
	h := openFake(t, k, Config{})
	var devices []*Device
	for _, path := range []string{dev0, dev1} {
		d, err := h.Add(path)
		require.NoError(t, err)
		devices = append(devices, d)
	}
	before := k.objectCount()
	heal := k.failAll(unix.EBUSY, "attach", "destroy")
	for sid := range smmuv3.StreamID(100) {
		for _, d := range devices {
			_, err := h.Attach(sid, d)
			require.Error(t, err)
		}
	}
	assert.Equal(t, before+len(devices), k.objectCount())
	assert.Equal(t, k.objectCount(), h.Stats().Objects)
	heal()
	require.NoError(t, h.Close())
	k.assertEmpty()
	assert.Zero(t, h.Stats().Objects)
}

// If the kernel fails to create a shared object and then refuses to destroy the others, the host
// keeps these. The next Add destroys them.
func TestAdd_fails_and_keeps_undestroyed_objects(t *testing.T) {
	for _, tt := range []struct {
		request string
		nth     int
		left    []string
	}{
		{"viommu", 1, []string{"parent"}},
		{"hwpt", 2, []string{"parent", "viommu"}},                        // the table that aborts
		{"hwpt", 3, []string{"nested", "parent", "viommu"}},              // the table that bypasses
		{"veventq", 1, []string{"nested", "nested", "parent", "viommu"}}, //
		{"queue", 1, []string{"nested", "nested", "parent", "veventq", "viommu"}},
	} {
		t.Run(tt.request, func(t *testing.T) {
			k := newFake(t)
			h := openFake(t, k, Config{})
			k.spoil = func(name string, nth int) error {
				if name == tt.request && nth == tt.nth {
					return unix.ENOMEM
				}
				if name == "destroy" {
					return unix.EBUSY
				}
				return nil
			}
			_, err := h.Add(dev0)
			require.ErrorIs(t, err, unix.ENOMEM)
			assert.Equal(t, append([]string{"ioas"}, tt.left...), k.kinds())
			assert.Equal(t, k.objectCount(), h.Stats().Objects)

			k.fail("", 0, nil)
			k.took()
			d, err := h.Add(dev0)
			require.NoError(t, err)
			assert.Len(t, k.kinds(), 7, "IOAS, device, parent, vIOMMU, two tables, vEVENTQ")
			assert.Equal(t, k.objectCount(), h.Stats().Objects)
			s, err := h.Attach(0x100, d)
			require.NoError(t, err)
			require.NoError(t, s.Bind(translate(0x1000)))
			require.NoError(t, h.Close())
			k.assertEmpty()
			assert.Zero(t, h.Stats().Objects)
		})
	}
}

// If the kernel never destroys anything, the number of leftover objects is bounded for all calls of
// the VMM.
func TestAdd_fails_and_nothing_grows(t *testing.T) {
	k := newFake(t)
	h := openFake(t, k, Config{})
	k.failAll(unix.EBUSY, "veventq", "destroy")
	for range 100 {
		_, err := h.Add(dev0)
		require.ErrorIs(t, err, unix.EBUSY)
	}
	assert.Less(t, k.objectCount(), maxLeftovers+6)
	assert.Equal(t, k.objectCount(), h.Stats().Objects)
	k.fail("", 0, nil)
	_, err := h.Add(dev0)
	require.NoError(t, err)
	require.NoError(t, h.Close())
	k.assertEmpty()
	assert.Zero(t, h.Stats().Objects)
}

// The probe for a later device can also be left over.
func TestAdd_of_later_devices_and_nothing_grows(t *testing.T) {
	k := newFake(t)
	h := openFake(t, k, Config{})
	_, err := h.Add(dev0)
	require.NoError(t, err)
	k.fail("destroy", 0, unix.EBUSY)
	for range 100 {
		d, err := h.Add(dev1)
		if err == nil {
			require.NoError(t, d.Close())
		}
	}
	assert.Equal(t, 7+maxLeftovers, k.objectCount())
	k.fail("", 0, nil)
	require.NoError(t, h.Close())
	k.assertEmpty()
	assert.Zero(t, h.Stats().Objects)
}

// Every object is destroyed once, for every order of refused and successful requests. iommufd
// reuses object numbers, so a second destruction could hit another object.
func TestDestroy_never_twice(t *testing.T) {
	for period := 2; period <= 7; period++ { // every period-th destruction works
		k := newFake(t)
		destroys := 0
		k.spoil = func(name string, _ int) error {
			if name != "destroy" {
				return nil
			}
			if destroys++; destroys%period != 0 {
				return unix.EBUSY
			}
			return nil
		}
		k.onMissing = func(id uint32) { assert.Fail(t, "destroyed twice", "object %d", id) }
		h := openFake(t, k, Config{})
		for range 3 {
			scenarioOn(k, h)
		}
		k.fail("", 0, nil)
		_ = h.Close()
		k.assertEmpty()
		assert.Zero(t, h.Stats().Objects)
	}
}

// A new table stays in use even if the kernel does not destroy the old one. Each Bind of a stage
// that translates retries the destruction.
func TestBind_destroys_leftover_tables(t *testing.T) {
	k := newFake(t)
	h, _, s := attached(t, k)
	require.NoError(t, s.Bind(translate(0x1000)))
	k.fail("destroy", 0, unix.EBUSY)
	for i := range 5 {
		require.NoError(t, s.Bind(translate(guestmem.GPA(i+2)<<12)))
	}
	assert.Equal(t, 9+5, k.objectCount(), "IOAS, parent, vIOMMU, two tables, vEVENTQ, device, vDEVICE, table; five tables")
	assert.Equal(t, k.objectCount(), h.Stats().Objects)
	k.fail("", 0, nil)
	require.NoError(t, s.Bind(translate(0x9000)))
	assert.Equal(t, 9, k.objectCount())
	assert.Equal(t, 9, h.Stats().Objects)
}

// A stream is not closed until its vDEVICE is destroyed. It aborts, and another Close retries.
func TestStreamClose_keeps_the_vDEVICE(t *testing.T) {
	k := newFake(t)
	h, d, s := attached(t, k)
	require.NoError(t, s.Bind(translate(0x1000)))
	require.NoError(t, s.Bind(bypass))
	k.fail("destroy", 0, unix.EBUSY)
	assert.ErrorIs(t, s.Close(), unix.EBUSY)
	_, on := k.attachedSTE(d.FD())
	assert.False(t, on)
	assert.ErrorIs(t, d.Close(), bridge.ErrInUse)
	k.fail("", 0, nil)
	require.NoError(t, s.Bind(translate(0x1000)), "the stream can be bound again")
	require.NoError(t, s.Close())
	assert.ErrorIs(t, s.Close(), bridge.ErrClosed)
	require.NoError(t, d.Close())
	require.NoError(t, h.Close())
	k.assertEmpty()
}

// Host.Close retries if the kernel refuses once to destroy an object, for every object.
func TestClose_destroys_again_what_the_kernel_refused(t *testing.T) {
	const objects = 10 // vDEVICE, leftover table, table, bypass, abort, vEVENTQ, vIOMMU, parent, IOAS; one more to see no failure
	for nth := 1; nth <= objects; nth++ {
		k := newFake(t)
		h, _, s := attached(t, k)
		require.NoError(t, s.Bind(translate(0x1000)))
		k.fail("destroy", 1, unix.EBUSY)
		require.NoError(t, s.Bind(translate(0x2000)))
		require.Len(t, h.leftovers, 1)
		k.fail("destroy", nth, unix.EBUSY)
		require.NoError(t, h.Close(), "destruction %d", nth)
		assert.Zero(t, h.Stats().Objects)
		k.assertEmpty()
	}
}

// The kernel frees the remaining objects with the descriptor. The host is closed even if the kernel
// destroys none.
func TestClose_ends_with_an_error(t *testing.T) {
	k := newFake(t)
	h, d, s := attached(t, k)
	k.fail("destroy", 0, unix.EBUSY)
	assert.ErrorIs(t, h.Close(), unix.EBUSY)
	assert.Empty(t, k.fds)
	assert.ErrorIs(t, h.Close(), bridge.ErrClosed)
	assert.ErrorIs(t, d.Close(), bridge.ErrClosed)
	assert.ErrorIs(t, s.Close(), bridge.ErrClosed)
}
