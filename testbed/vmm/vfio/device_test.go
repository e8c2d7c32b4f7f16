//go:build linux && (amd64 || arm64)

package vfio

import (
	"errors"
	"slices"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// The sizes are those of the structures in include/uapi/linux/vfio.h, by a C compiler.
func TestStructuresHaveTheSizesOfTheHeader(t *testing.T) {
	assert.EqualValues(t, 24, unsafe.Sizeof(deviceInfo{}))
	assert.EqualValues(t, 32, unsafe.Sizeof(regionInfo{}))
	assert.EqualValues(t, 16, unsafe.Sizeof(irqInfo{}))
	assert.EqualValues(t, 20, unsafe.Sizeof(irqSet{}), "without its data")
	assert.EqualValues(t, 16, unsafe.Offsetof(regionInfo{}.size))
}

// The numbers start at VFIO_BASE, 100, with the type ';'.
func TestRequestNumbersAreThoseOfTheHeader(t *testing.T) {
	for nr, got := range map[uintptr]uintptr{7: getInfo, 8: getRegionInfo, 9: getIRQInfo, 10: setIRQs, 11: reset} {
		assert.Equal(t, ';'<<8|100+nr, got)
	}
}

// fake is a kernel with one device.
type fake struct {
	flags   uint32
	regions uint32
	fail    map[uintptr]error
	few     int       // what VFIO_DEVICE_SET_IRQS answers
	set     [][]int32 // VFIO_DEVICE_SET_IRQS: argsz, flags, index, start, count, data
	at      []int64   // of reads and writes
	short   bool
}

func newFake() *fake {
	return &fake{flags: devicePCI | deviceReset, regions: 9, fail: map[uintptr]error{}}
}

func (f *fake) ioctl(_ int, request uintptr, arg unsafe.Pointer) (int, error) {
	if err := f.fail[request]; err != nil {
		return 0, err
	}
	switch request {
	case getInfo:
		i := (*deviceInfo)(arg)
		i.flags, i.numRegions, i.numIRQs = f.flags, f.regions, 5
	case getRegionInfo:
		r := (*regionInfo)(arg)
		r.offset, r.size, r.flags = uint64(r.index)<<40, 0x4000, regionRead|regionWrite
		if r.index == BAR0 {
			r.flags |= regionMmap
		}
	case getIRQInfo:
		i := (*irqInfo)(arg)
		i.flags, i.count = irqEventfd, 1+4*i.index
	case setIRQs:
		s := (*irqSet)(arg)
		words := unsafe.Slice((*int32)(arg), s.argsz/4)
		f.set = append(f.set, slices.Clone(words))
		return f.few, nil
	}
	return 0, nil
}

func (f *fake) pread(_ int, p []byte, off int64) (int, error)  { return f.move(p, off) }
func (f *fake) pwrite(_ int, p []byte, off int64) (int, error) { return f.move(p, off) }

func (f *fake) move(p []byte, off int64) (int, error) {
	f.at = append(f.at, off)
	if f.short {
		return len(p) - 1, nil
	}
	return len(p), nil
}

func (f *fake) mmap(_ int, off int64, size int) ([]byte, error) {
	f.at = append(f.at, off)
	return make([]byte, size), nil
}

func (f *fake) munmap([]byte) error { return nil }

func TestOpenRefusesWhatIsNoUsablePCIDevice(t *testing.T) {
	for _, tt := range []struct {
		name string
		edit func(*fake)
		is   error
	}{
		{"another kind of device", func(f *fake) { f.flags = 1 << 2 }, ErrNotPCI},
		{"no configuration space", func(f *fake) { f.regions = 7 }, ErrNotPCI},
		{"a descriptor of something else", func(f *fake) { f.fail[getInfo] = unix.ENOTTY }, unix.ENOTTY},
		{"a removed device", func(f *fake) { f.fail[getRegionInfo] = unix.ENODEV }, unix.ENODEV},
		{"no interrupts", func(f *fake) { f.fail[getIRQInfo] = unix.EINVAL }, unix.EINVAL},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFake()
			tt.edit(f)
			_, err := open(3, f)
			assert.ErrorIs(t, err, tt.is)
		})
	}
}

func TestRegionAccessesStayInTheRegion(t *testing.T) {
	f := newFake()
	d, err := open(3, f)
	require.NoError(t, err)
	assert.EqualValues(t, 0x4000, d.RegionSize(2))
	assert.True(t, d.CanMap(BAR0))
	assert.False(t, d.CanMap(2))

	require.NoError(t, d.ReadRegion(2, make([]byte, 4), 0x3ffc))
	require.NoError(t, d.WriteRegion(ConfigSpace, make([]byte, 2), 4))
	_, err = d.Map(BAR0, 0x1000, 0x2000)
	require.NoError(t, err)
	assert.Equal(t, []int64{2<<40 | 0x3ffc, 7<<40 | 4, 0x1000}, f.at)

	for _, err := range []error{
		d.ReadRegion(2, make([]byte, 4), 0x3ffd),
		d.ReadRegion(2, make([]byte, 4), ^uint64(0)),
		d.WriteRegion(2, make([]byte, 4), 0x4000),
		second(d.Map(BAR0, 0x1000, 0x3001)),
		second(d.Map(BAR0, ^uint64(0), 0x1000)),
		second(d.Map(2, 0, 0x1000)),
	} {
		assert.ErrorIs(t, err, errors.ErrUnsupported)
	}
	assert.Len(t, f.at, 3, "no call reaches the kernel")

	f.short = true
	assert.Error(t, d.ReadRegion(2, make([]byte, 4), 0))
}

func second(_ []byte, err error) error { return err }

func TestInterruptRequestsMatchStructVFIOIRQSet(t *testing.T) {
	f := newFake()
	d, err := open(3, f)
	require.NoError(t, err)
	assert.Equal(t, 1, d.IRQs(INTx))
	assert.Equal(t, 9, d.IRQs(MSIX))

	require.NoError(t, d.EnableMSIX([]int32{10, -1, 12}))
	require.NoError(t, d.Disable(MSIX))
	require.NoError(t, d.EnableINTx(20, 21))
	require.NoError(t, d.EnableRemoval(30))
	assert.Equal(t, [][]int32{
		{32, 1<<2 | 1<<5, 2, 0, 3, 10, -1, 12},
		{20, 1<<0 | 1<<5, 2, 0, 0},
		{24, 1<<2 | 1<<5, 0, 0, 1, 20},
		{24, 1<<2 | 1<<4, 0, 0, 1, 21},
		{24, 1<<2 | 1<<5, 4, 0, 1, 30},
	}, f.set)

	assert.ErrorIs(t, d.EnableMSIX(make([]int32, 2049)), errors.ErrUnsupported)
	f.few = 2
	assert.ErrorContains(t, d.EnableMSIX([]int32{10, 11, 12}), "only 2 vectors", "none is enabled")
	f.few = 0
	f.fail[setIRQs] = unix.ENOSPC
	assert.ErrorIs(t, d.EnableINTx(20, 21), unix.ENOSPC)
	f.fail[reset] = unix.EAGAIN
	assert.True(t, d.CanReset())
	assert.ErrorIs(t, d.Reset(), unix.EAGAIN)
}

func TestRegionsAndIRQsThatDoNotExist(t *testing.T) {
	d, err := open(3, newFake())
	require.NoError(t, err)
	for _, region := range []int{-1, NumRegions, 1 << 40} {
		assert.Zero(t, d.RegionSize(region))
		assert.False(t, d.CanMap(region))
		assert.ErrorIs(t, d.ReadRegion(region, make([]byte, 4), 0), errors.ErrUnsupported)
		assert.ErrorIs(t, d.WriteRegion(region, make([]byte, 4), 0), errors.ErrUnsupported)
		assert.ErrorIs(t, second(d.Map(region, 0, 0x1000)), errors.ErrUnsupported)
	}
	for _, kind := range []IRQ{5, 1<<32 - 1} {
		assert.Zero(t, d.IRQs(kind))
		assert.Contains(t, kind.String(), "IRQ(")
	}
	assert.Equal(t, "IRQ(5)", IRQ(5).String())
}

func TestErrorsNameTheRequestAndItsObject(t *testing.T) {
	f := newFake()
	f.fail[getRegionInfo] = unix.ENODEV
	_, err := open(3, f)
	assert.EqualError(t, err, "vfio: VFIO_DEVICE_GET_REGION_INFO of region 0: no such device")
	f = newFake()
	f.fail[getIRQInfo] = unix.EINVAL
	_, err = open(3, f)
	assert.EqualError(t, err, "vfio: VFIO_DEVICE_GET_IRQ_INFO of INTx: invalid argument")
	d, err := open(3, newFake())
	require.NoError(t, err)
	assert.EqualError(t, d.EnableMSIX(make([]int32, 2049)), "vfio: VFIO_DEVICE_SET_IRQS of MSI-X: 2049 vectors: unsupported operation")
}
