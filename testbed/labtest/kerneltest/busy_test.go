//go:build linux && (amd64 || arm64)

package kerneltest

import (
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/iommufd"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// neighbour is a second user of the host's iommufd. The kernel refuses to destroy an object with
// EBUSY while a request that names it is in progress.
type neighbour struct {
	t  *testing.T
	fd int
}

func newNeighbour(t *testing.T) neighbour {
	t.Helper()
	open, err := filepath.Glob("/proc/self/fd/*")
	require.NoError(t, err)
	for _, link := range open {
		if target, _ := os.Readlink(link); target == iommufd.DefaultPath {
			n, err := strconv.Atoi(filepath.Base(link))
			require.NoError(t, err)
			return neighbour{t, n}
		}
	}
	require.Fail(t, "no open iommufd")
	return neighbour{}
}

// touch names an object in a request that changes nothing: an IOMMU_HWPT_INVALIDATE without
// commands. It reports whether the object exists.
func (n neighbour) touch(object uint32) bool {
	const hwptInvalidate = ';'<<8 | 0x8d
	arg := struct {
		size, object            uint32
		commands                uint64
		kind, each, count, zero uint32
	}{size: 32, object: object, kind: 1}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(n.fd), hwptInvalidate, uintptr(unsafe.Pointer(&arg)))
	return errno != unix.ENOENT
}

// objects returns the objects with small numbers. iommufd uses the lowest number that is free.
func (n neighbour) objects() map[uint32]bool {
	found := map[uint32]bool{}
	for object := range uint32(100) {
		if object != 0 && n.touch(object) {
			found[object] = true
		}
	}
	return found
}

// created returns the object that f creates.
func (n neighbour) created(f func()) (object uint32) {
	n.t.Helper()
	before := n.objects()
	f()
	for object := range n.objects() {
		if !before[object] {
			return object
		}
	}
	require.Fail(n.t, "no object was created")
	return 0
}

// hold repeats touch for an object without pause until release is called.
func (n neighbour) hold(object uint32) (release func()) {
	var all sync.WaitGroup
	stop := make(chan struct{})
	for range runtime.NumCPU() {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					n.touch(object)
				}
			}
		})
	}
	return func() { close(stop); all.Wait() }
}

// repeat calls f until it returns true.
func repeat(t *testing.T, what string, f func() bool) {
	t.Helper()
	tries := 1
	for began := time.Now(); !f(); tries++ {
		if time.Since(began) > 5*time.Minute {
			require.Fail(t, what, "%d tries", tries)
		}
	}
	t.Logf("%s: after %d tries", what, tries)
}

// The host keeps a vDEVICE that the kernel can neither attach nor destroy. The device is not lost:
// the next Attach or Close uses the vDEVICE or destroys it.
func TestKernelKeepsBusyVDevice(t *testing.T) {
	r := newKernelRig(t)
	require.GreaterOrEqual(t, len(r.ends), 2)
	host, first, second := r.host, r.ends[0], r.ends[1]
	n := newNeighbour(t)
	var st bridge.Stream
	vdevice := n.created(func() {
		var err error
		st, err = host.Attach(sid, first)
		require.NoError(t, err)
	})
	require.NoError(t, st.Close())
	objects := host.Stats().Objects

	// The kernel refuses to attach a device if memory overlaps the addresses that it reserves for MSIs.
	obstacle := guestmem.Slot{GPA: iommufd.MSIBase, Mem: anonymous(t, pages)}
	kept := func(t *testing.T) {
		t.Helper()
		require.NoError(t, host.Map(obstacle))
		defer n.hold(vdevice)()
		repeat(t, "the kernel neither attaches nor destroys the vDEVICE", func() bool {
			_, err := host.Attach(sid, first)
			require.ErrorIs(t, err, unix.EADDRINUSE)
			return host.Stats().Objects > objects
		})
		require.Equal(t, objects+1, host.Stats().Objects)
		require.NoError(t, host.Unmap(obstacle.GPA))
	}
	works := func(t *testing.T, sid smmuv3.StreamID, ep bridge.Endpoint) {
		t.Helper()
		st, err := host.Attach(sid, ep)
		require.NoError(t, err)
		require.NoError(t, st.Bind(bypass))
		want := []byte("the device is not lost")
		require.NoError(t, r.WriteAt(make([]byte, pages), pageA))
		require.NoError(t, r.dma(ep, true, uint64(pageA), want))
		got := make([]byte, len(want))
		require.NoError(t, r.ReadAt(got, pageA))
		assert.Equal(t, want, got)
		require.NoError(t, st.Close())
		assert.Equal(t, objects, host.Stats().Objects)
	}
	t.Run("the same StreamID", func(t *testing.T) {
		kept(t)
		works(t, sid, first)
	})
	t.Run("another StreamID", func(t *testing.T) {
		kept(t)
		works(t, sid+1, first)
	})
	t.Run("another device with the StreamID", func(t *testing.T) {
		kept(t)
		works(t, sid, second)
		works(t, sid, first)
	})
	t.Run("a stream that is closed", func(t *testing.T) {
		release := n.hold(vdevice)
		var st bridge.Stream
		var err error
		repeat(t, "the kernel does not destroy the vDEVICE", func() bool {
			st, err = host.Attach(sid, first)
			require.NoError(t, err)
			err = st.Close()
			return err != nil
		})
		release()
		require.ErrorIs(t, err, unix.EBUSY)
		require.NoError(t, st.Close(), "the next Close destroys the vDEVICE")
		works(t, sid, first)
	})
}
