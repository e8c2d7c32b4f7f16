//go:build linux && (amd64 || arm64)

package iommufd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"golang.org/x/sys/unix"

	"github.com/go-vsmmu/vsmmuv3/bridge/iommufd/internal/uapi"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// fakeKernel imitates iommufd: objects with references, devices, and answers that a test can
// replace. Like the kernel it refuses to destroy an object in use, to attach a table that
// translates without a vDEVICE, and commands with reserved bits.
type fakeKernel struct {
	t  *testing.T
	mu sync.Mutex

	smmus    map[string]*uapi.HWInfoARMSMMUv3 // by device path; devices with one pointer share a physical SMMU
	caps     map[string]uint64                // out_capabilities, by device path
	noHWInfo bool                             // the SMMU's driver was built without nesting
	groups   map[string][]string
	next     uint32
	nextFD   int
	fds      map[int]string // open descriptors, by path
	objects  map[uint32]*object
	devices  map[int]*object // by descriptor
	maps     map[uint64]uint64
	commands [][]smmuv3.Command // of each request
	// handled, if not nil, returns the entry_num that an invalidation reports as handled. n is the
	// number of its commands. request is the number of the invalidation, from 1 on.
	handled func(request int, n uint32) uint32
	log     []string // changes in order
	events  *fakeQueue

	// spoil is called before each request. nth counts the requests of this name. If spoil returns an
	// error, the request fails with it.
	spoil func(name string, nth int) error
	count map[string]int
	// unmapped, if not nil, returns the length that an unmap reports. length is the true one.
	unmapped func(length uint64) uint64
	// onMissing is called if the host destroys an object that does not exist.
	onMissing func(id uint32)
	// refused is set if spoil made a destroy, detach or unmap fail.
	refused bool
}

// object is an object of the kernel. It can be destroyed if nothing holds it.
type object struct {
	kind     string
	id       uint32
	held     int
	holds    []*object
	smmu     *uapi.HWInfoARMSMMUv3
	path     string    // of a device
	vdevice  *object   // of a device
	attached *object   // to a device
	virtID   uint64    // of a vDEVICE
	device   *object   // of a vDEVICE
	ste      [2]uint64 // of a nested table
}

// labSMMU returns the registers of QEMU's SMMU in the lab.
func labSMMU() *uapi.HWInfoARMSMMUv3 {
	return &uapi.HWInfoARMSMMUv3{
		IDR:  [6]uint32{0x0d44101b, 0x02730010, 0, 0x00001414, 0, 0x00000074},
		AIDR: 1,
	}
}

const (
	dev0 = "/dev/vfio/devices/vfio0"
	dev1 = "/dev/vfio/devices/vfio1"
)

func newFake(t *testing.T) *fakeKernel {
	smmu := labSMMU()
	return &fakeKernel{
		t:       t,
		smmus:   map[string]*uapi.HWInfoARMSMMUv3{dev0: smmu, dev1: smmu},
		caps:    map[string]uint64{},
		groups:  map[string][]string{},
		nextFD:  100,
		fds:     map[int]string{},
		objects: map[uint32]*object{},
		devices: map[int]*object{},
		maps:    map[uint64]uint64{},
		count:   map[string]int{},
		spoil:   func(string, int) error { return nil },

		onMissing: func(uint32) {},
	}
}

// fail makes the nth request of a name fail, or all of them if nth is 0. The first one is number 1.
func (k *fakeKernel) fail(name string, nth int, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.count = map[string]int{}
	k.spoil = func(n string, i int) error {
		if n == name && (nth == 0 || nth == i) {
			return err
		}
		return nil
	}
}

// assertEmpty checks that there is no object, descriptor or mapping.
func (k *fakeKernel) assertEmpty() {
	k.t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, o := range k.objects {
		assert.Fail(k.t, "object left", "%s %d", o.kind, o.id)
	}
	assert.Empty(k.t, k.fds, "descriptors")
	assert.Empty(k.t, k.maps, "mappings")
}

// kinds returns the kinds of the objects, sorted.
func (k *fakeKernel) kinds() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	var kinds []string
	for _, o := range k.objects {
		kinds = append(kinds, o.kind)
	}
	slices.Sort(kinds)
	return kinds
}

// attachedSTE returns the vSTE of the table that a device is attached to.
func (k *fakeKernel) attachedSTE(fd int) (ste [2]uint64, attached bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	d := k.devices[fd]
	if d == nil || d.attached == nil {
		return ste, false
	}
	return d.attached.ste, true
}

// took returns the log and clears it.
func (k *fakeKernel) took() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	log := k.log
	k.log = nil
	return log
}

func (k *fakeKernel) open(path string) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.spoiled("open"); err != nil {
		return 0, err
	}
	if path != DefaultPath && k.smmus[path] == nil {
		return 0, unix.ENOENT
	}
	k.nextFD++
	k.fds[k.nextFD] = path
	return k.nextFD, nil
}

func (k *fakeKernel) close(fd int) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	path, ok := k.fds[fd]
	if !ok {
		return unix.EBADF
	}
	delete(k.fds, fd)
	if d := k.devices[fd]; d != nil {
		k.detach(d)
		if v := d.vdevice; v != nil && !k.refused {
			assert.Fail(k.t, "the device was closed before its vDEVICE was destroyed, which leaks the id")
		}
		delete(k.devices, fd)
		k.drop(d)
	}
	if path == DefaultPath {
		if !k.refused {
			assert.Empty(k.t, k.objects, "objects left when /dev/iommu is closed")
		}
		clear(k.objects)
		clear(k.maps)
	}
	return nil
}

func (k *fakeKernel) group(fd int) ([]string, error) { return k.groups[k.fds[fd]], nil }

func (k *fakeKernel) spoiled(name string) error {
	k.count[name]++
	err := k.spoil(name, k.count[name])
	if err != nil && (name == "destroy" || name == "detach" || name == "unmap") {
		k.refused = true
	}
	return err
}

func (k *fakeKernel) add(o *object, out *uint32) error {
	k.next++
	o.id = k.next
	for _, h := range o.holds {
		h.held++
	}
	k.objects[o.id] = o
	*out = o.id
	k.log = append(k.log, "+"+o.kind)
	return nil
}

func (k *fakeKernel) drop(o *object) {
	for _, h := range o.holds {
		h.held--
	}
	delete(k.objects, o.id)
	k.log = append(k.log, "-"+o.kind)
}

func (k *fakeKernel) detach(d *object) {
	if d.attached != nil {
		d.attached.held--
		d.attached = nil
	}
}

// get returns the object of a kind with an id, or nil.
func (k *fakeKernel) get(id uint32, kind string) *object {
	if o := k.objects[id]; o != nil && o.kind == kind {
		return o
	}
	return nil
}

var requestNames = map[uintptr]string{
	uapi.IOMMUDestroy: "destroy", uapi.IOMMUIOASAlloc: "ioas", uapi.IOMMUIOASMap: "map", uapi.IOMMUIOASUnmap: "unmap",
	uapi.IOMMUHWPTAlloc: "hwpt", uapi.IOMMUGetHWInfo: "hwinfo", uapi.IOMMUHWPTInvalidate: "invalidate",
	uapi.IOMMUVIOMMUAlloc: "viommu", uapi.IOMMUVDeviceAlloc: "vdevice", uapi.IOMMUVEventQAlloc: "veventq",
	uapi.VFIODeviceBindIOMMUFD: "bind", uapi.VFIODeviceAttachIOMMUFDPT: "attach", uapi.VFIODeviceDetachIOMMUFDPT: "detach",
}

func (k *fakeKernel) ioctl(fd int, request uintptr, p unsafe.Pointer) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	name := requestNames[request]
	if err := k.spoiled(name); err != nil {
		if request == uapi.IOMMUHWPTInvalidate && errors.Is(err, unix.ENOMEM) {
			return err // the kernel leaves entry_num as it is, as if it had handled all commands
		}
		if request == uapi.IOMMUHWPTInvalidate {
			a := (*uapi.HWPTInvalidate)(p)
			a.EntryNum = a.EntryNum / 63 * 63
		}
		return err
	}
	if _, ok := k.fds[fd]; !ok {
		return unix.EBADF
	}
	dev := k.devices[fd]
	switch request {
	case uapi.IOMMUDestroy:
		o := k.objects[(*uapi.Destroy)(p).ID]
		switch {
		case o == nil:
			k.onMissing((*uapi.Destroy)(p).ID)
			return unix.ENOENT
		case o.held != 0 || o.kind == "device":
			return unix.EBUSY
		}
		if o.kind == "vdevice" {
			o.device.vdevice = nil
		}
		k.drop(o)
		return nil
	case uapi.IOMMUIOASAlloc:
		return k.add(&object{kind: "ioas"}, &(*uapi.IOASAlloc)(p).OutID)
	case uapi.IOMMUIOASMap:
		a := (*uapi.IOASMap)(p)
		switch {
		case k.get(a.IOASID, "ioas") == nil:
			return unix.ENOENT
		case a.Flags&uapi.MapFixedIOVA == 0 || a.IOVA%4096 != 0 || a.Length%4096 != 0 || a.Length == 0:
			return unix.EINVAL
		}
		for iova, length := range k.maps {
			if a.IOVA < iova+length && iova < a.IOVA+a.Length {
				return unix.EEXIST
			}
		}
		k.maps[a.IOVA] = a.Length
		k.log = append(k.log, fmt.Sprintf("+map %#x flags %d", a.IOVA, a.Flags))
		return nil
	case uapi.IOMMUIOASUnmap:
		a := (*uapi.IOASUnmap)(p)
		if k.maps[a.IOVA] != a.Length {
			return unix.ENOENT
		}
		delete(k.maps, a.IOVA)
		if k.unmapped != nil {
			a.Length = k.unmapped(a.Length)
		}
		return nil
	case uapi.IOMMUGetHWInfo:
		a := (*uapi.HWInfo)(p)
		d := k.get(a.DevID, "device")
		if d == nil {
			return unix.ENOENT
		}
		if k.noHWInfo {
			a.OutDataType = 0
			return nil
		}
		*(*uapi.HWInfoARMSMMUv3)(a.Data) = *d.smmu
		a.OutDataType, a.OutCapabilities = uapi.HWInfoTypeARMSMMUv3, k.caps[d.path]
		return nil
	case uapi.IOMMUHWPTAlloc:
		return k.hwpt((*uapi.HWPTAlloc)(p))
	case uapi.IOMMUVIOMMUAlloc:
		a := (*uapi.VIOMMUAlloc)(p)
		d, parent := k.get(a.DevID, "device"), k.get(a.HWPTID, "parent")
		if d == nil || parent == nil || a.Type != uapi.VIOMMUTypeARMSMMUv3 {
			return unix.ENOENT
		}
		return k.add(&object{kind: "viommu", holds: []*object{parent}, smmu: d.smmu}, &a.OutID)
	case uapi.IOMMUVDeviceAlloc:
		a := (*uapi.VDeviceAlloc)(p)
		d, v := k.get(a.DevID, "device"), k.get(a.VIOMMUID, "viommu")
		switch {
		case d == nil || v == nil:
			return unix.ENOENT
		case d.smmu != v.smmu:
			return unix.EINVAL
		case d.vdevice != nil:
			return unix.EEXIST
		}
		for _, o := range k.objects {
			if o.kind == "vdevice" && o.virtID == a.VirtID {
				return unix.EEXIST
			}
		}
		d.vdevice = &object{kind: "vdevice", holds: []*object{v}, virtID: a.VirtID, device: d}
		return k.add(d.vdevice, &a.OutID)
	case uapi.IOMMUVEventQAlloc:
		a := (*uapi.VEventQAlloc)(p)
		v := k.get(a.VIOMMUID, "viommu")
		if v == nil || a.Type != uapi.VEventQTypeARMSMMUv3 {
			return unix.ENOENT
		}
		q := &object{kind: "veventq", holds: []*object{v}, held: 1} // by the descriptor
		k.nextFD++
		k.fds[k.nextFD] = "veventq"
		k.events = newFakeQueue(k, q)
		a.OutFD = uint32(k.nextFD)
		return k.add(q, &a.OutID)
	case uapi.VFIODeviceBindIOMMUFD:
		a := (*uapi.BindIOMMUFD)(p)
		if dev != nil || k.fds[int(a.IOMMUFD)] != DefaultPath {
			return unix.EINVAL
		}
		d := &object{kind: "device", smmu: k.smmus[k.fds[fd]], path: k.fds[fd]}
		k.devices[fd] = d
		return k.add(d, &a.OutDevID)
	case uapi.VFIODeviceAttachIOMMUFDPT:
		table := k.objects[(*uapi.AttachIOMMUFDPT)(p).PTID]
		switch {
		case dev == nil || table == nil || table.kind != "nested" || table.smmu != dev.smmu:
			return unix.EINVAL
		case dev.vdevice == nil && table.ste[0]>>1&7 == 5:
			return unix.ENOENT
		}
		k.detach(dev)
		dev.attached = table
		table.held++
		k.log = append(k.log, fmt.Sprintf("attach %x", table.ste[0]))
		return nil
	case uapi.VFIODeviceDetachIOMMUFDPT:
		if dev == nil {
			return unix.EINVAL
		}
		k.detach(dev)
		k.log = append(k.log, "detach")
		return nil
	case uapi.IOMMUHWPTInvalidate:
		a := (*uapi.HWPTInvalidate)(p)
		if k.get(a.HWPTID, "viommu") == nil || a.DataType != uapi.InvalidateDataARMSMMUv3 || a.EntryLen != 16 {
			return unix.EINVAL
		}
		cmds := slices.Clone(unsafe.Slice((*smmuv3.Command)(a.Data), a.EntryNum))
		k.commands = append(k.commands, cmds)
		k.log = append(k.log, "invalidate")
		if k.handled != nil {
			a.EntryNum = k.handled(len(k.commands), a.EntryNum)
			return nil
		}
		for i, c := range cmds {
			if !k.accepts(k.get(a.HWPTID, "viommu").smmu, c) {
				a.EntryNum = uint32(i)
				return unix.EIO
			}
		}
		return nil
	}
	return unix.ENOTTY
}

// accepts reports whether the kernel issues the command. Like the newest kernels, it refuses an
// unknown StreamID, reserved bits, and combinations of fields that are CERROR_ILL on this SMMU. The
// bits are those of §4.3 to §4.5.
func (k *fakeKernel) accepts(smmu *uapi.HWInfoARMSMMUv3, c smmuv3.Command) bool {
	const (
		vmid, sid, ssid, scale5 = 0xffff << 32, 0xffff_ffff << 32, 0xf_ffff << 12, 1 << 25
		addr                    = 0xffff_ffff_ffff_f000
	)
	asid := uint64(0xff) << 48
	if smmu.IDR[0]>>12&1 != 0 { // ASID16
		asid = 0xffff << 48
	}
	ril, ds, substreams := smmu.IDR[3]>>10&1 != 0, smmu.IDR[5]>>7&1 != 0, smmu.IDR[1]>>6&31 != 0
	known := func() bool {
		for _, o := range k.objects {
			if o.kind == "vdevice" && o.virtID == c[0]>>32 {
				return true
			}
		}
		return false
	}
	keep := [2]uint64{0xff}
	switch c[0] & 0xff {
	case 0x30:
	case 0x10:
		keep[0] |= vmid
	case 0x11:
		keep[0] |= vmid | asid
	case 0x12, 0x13:
		keep[0] |= vmid
		if c[0]&0xff == 0x12 {
			keep[0] |= asid
		}
		keep[1] |= addr | 1
		if ril {
			extent, tg, ttl := c[0]&(0x1f<<12|0x3f<<20), c[1]>>10&3, c[1]>>8&3
			if tg == 0 && (extent != 0 || ttl != 0) || tg == 2 && ttl == 1 && !ds || tg != 0 && extent == 0 && ttl == 0 {
				return false
			}
			keep[0] |= 0x1f<<12 | 0x3f<<20
			keep[1] |= 0xf << 8
			if !ds {
				keep[0] &^= scale5
			}
		}
	case 0x05, 0x06:
		keep[0] |= sid
		if c[0]&0xff == 0x05 {
			keep[1] |= 1
			if substreams {
				keep[0] |= ssid
			}
		}
		if !known() {
			return false
		}
	case 0x40:
		if smmu.IDR[0]>>10&1 == 0 || c[1]&0x3f > 52 || !known() {
			return false
		}
		keep[0] |= sid
		keep[1] |= addr | 0x3f
		if substreams {
			keep[0] |= ssid | 1<<11 | 1<<9
		}
	default:
		return false
	}
	return c[0]&^keep[0] == 0 && c[1]&^keep[1] == 0
}

func (k *fakeKernel) hwpt(a *uapi.HWPTAlloc) error {
	d := k.get(a.DevID, "device")
	if d == nil {
		return unix.ENOENT
	}
	if a.Flags&uapi.HWPTAllocNestParent != 0 {
		ioas := k.get(a.PTID, "ioas")
		if ioas == nil {
			return unix.EINVAL
		}
		return k.add(&object{kind: "parent", holds: []*object{ioas}, smmu: d.smmu}, &a.OutID)
	}
	v := k.get(a.PTID, "viommu")
	if v == nil || v.smmu != d.smmu || a.DataType != uapi.HWPTDataARMSMMUv3 || a.DataLen != 16 {
		return unix.EINVAL
	}
	ste := (*uapi.HWPTARMSMMUv3)(a.Data).STE
	if ste[0]&^0xf80fffffffffffff != 0 || ste[1]&^0x380000ff != 0 {
		return unix.EIO
	}
	return k.add(&object{kind: "nested", holds: []*object{v}, smmu: d.smmu, ste: ste}, &a.OutID)
}

// fakeQueue is a vEVENTQ with its descriptor.
type fakeQueue struct {
	k *fakeKernel
	o *object

	mu     sync.Mutex
	moved  sync.Cond
	held   []byte
	deaf   bool // Wait does not notice events
	closed bool
}

func newFakeQueue(k *fakeKernel, o *object) *fakeQueue {
	q := &fakeQueue{k: k, o: o}
	q.moved.L = &q.mu
	return q
}

// put adds records to the queue.
func (q *fakeQueue) put(records ...[]byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.held = append(q.held, slices.Concat(records...)...)
	q.moved.Broadcast()
}

func (q *fakeQueue) Wait() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	for !q.closed && (q.deaf || len(q.held) == 0) {
		q.moved.Wait()
	}
	if q.closed {
		return os.ErrClosed
	}
	return nil
}

func (q *fakeQueue) Read(p []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := copy(p, q.held)
	q.held = q.held[n:]
	return n, nil
}

func (q *fakeQueue) Close() error {
	q.k.mu.Lock()
	q.o.held--
	q.k.mu.Unlock()
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.moved.Broadcast()
	return nil
}

func (k *fakeKernel) queue(fd int) (queue, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.fds, fd)
	if err := k.spoiled("queue"); err != nil {
		k.events.o.held--
		return nil, err
	}
	return k.events, nil
}

// record returns a header with the event records that follow it.
func record(flags, sequence uint32, e ...smmuv3.Event) []byte {
	p := binary.NativeEndian.AppendUint32(nil, flags)
	p = binary.NativeEndian.AppendUint32(p, sequence)
	for _, e := range e {
		var b [smmuv3.EventSize]byte
		e.Put(&b)
		p = append(p, b[:]...)
	}
	return p
}
