//go:build linux && (amd64 || arm64)

package kerneltest

import (
	"bytes"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"structs"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-vsmmu/vsmmuv3/bridge/bridgetest"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/testbed/labtest/edu"
	"github.com/go-vsmmu/vsmmuv3/testbed/labtest/machine"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/edu/regs"
)

// patience is how long the tests wait for the kernel, on a machine that is emulated twice.
const patience = 2 * time.Minute

// newUserWith returns a user whose device has all features, or skips the test.
func newUserWith(t *testing.T, features regs.Feature) *user {
	t.Helper()
	u := newUsers(t, 1)[0]
	u.open()
	if !u.Has(features) {
		t.Skipf("%s: no edu function of this machine has %v", bridgetest.SkipNoFeature, features)
	}
	return u
}

// attributes returns those of DMA with a PASID.
func attributes(pasid int) regs.Attrs {
	if pasid == noPASID {
		return 0
	}
	return regs.Attrs(0).WithPASID(uint32(pasid))
}

// copied is the size of a copy, in bytes.
const copied = 64

// copiesWith makes the device copy memory between addresses of its own. The result is how that
// ended.
func (u *user) copiesWith(a regs.Attrs, from, to uint64) regs.Code {
	if err := u.LoadWith(a, from, 0, copied); err != nil {
		return edu.Code(err)
	}
	return edu.Code(u.StoreWith(a, to, 0, copied))
}

// background makes the device copy memory. The channel receives how that ended.
func (u *user) background(a regs.Attrs, from, to uint64) <-chan regs.Code {
	ended := make(chan regs.Code, 1)
	go func() { ended <- u.copiesWith(a, from, to) }()
	return ended
}

// faultQueue is an iommufd object that passes faults which wait for an answer to the user.
type faultQueue struct {
	u  *user
	id uint32
	fd int
}

// fault is struct iommu_hwpt_pgfault.
type fault struct {
	_                                    structs.HostLayout
	flags, device, pasid, group, perm, _ uint32
	addr                                 uint64
	length, cookie                       uint32
}

// Bits of a fault, and answers to it.
const (
	faultHasPASID = 1 << 0 // IOMMU_PGFAULT_FLAGS_PASID_VALID
	faultRead     = 1 << 0 // IOMMU_PGFAULT_PERM_READ
	faultWrite    = 1 << 1

	faultSuccess = 0
	faultInvalid = 1
)

func (u *user) newFaultQueue() *faultQueue {
	u.t.Helper()
	const iommuFaultQueueAlloc = 0x3b8e
	arg := struct {
		_                   structs.HostLayout
		size, flags, id, fd uint32
	}{size: 16}
	require.NoError(u.t, u.request(u.iommu, iommuFaultQueueAlloc, unsafe.Pointer(&arg)))
	q := &faultQueue{u, arg.id, int(arg.fd)}
	u.t.Cleanup(q.close)
	return q
}

func (q *faultQueue) close() {
	if q.fd >= 0 {
		assert.NoError(q.u.t, unix.Close(q.fd))
		q.fd = -1
	}
}

// wait returns the next fault.
func (q *faultQueue) wait() (f fault) {
	q.u.t.Helper()
	require.Eventually(q.u.t, func() bool {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(q.fd), Events: unix.POLLIN}}, 0)
		return n == 1 && err == nil
	}, patience, time.Millisecond, "no fault")
	record := (*[unsafe.Sizeof(f)]byte)(unsafe.Pointer(&f))
	n, err := unix.Read(q.fd, record[:])
	require.NoError(q.u.t, err)
	require.Equal(q.u.t, len(record), n)
	return f
}

func (q *faultQueue) answer(f fault, code uint32) error {
	answer := binary.NativeEndian.AppendUint32(nil, f.cookie)
	_, err := unix.Write(q.fd, binary.NativeEndian.AppendUint32(answer, code))
	return err
}

// faultTable returns a page table with a fault queue: of a space or, with two words of an STE, of a
// vIOMMU.
func (q *faultQueue) faultTable(parent, flags uint32, ste ...uint64) uint32 {
	q.u.t.Helper()
	const (
		hwptFaultID  = 1 << 2
		hwptDataARM3 = 2
	)
	arg := struct {
		_                                                   structs.HostLayout
		size, flags, device, parent, id, zero, kind, length uint32
		data                                                unsafe.Pointer
		fault, zero2                                        uint32
	}{size: 48, flags: flags | hwptFaultID, device: q.u.device, parent: parent, fault: q.id}
	if len(ste) > 0 {
		arg.kind, arg.length, arg.data = hwptDataARM3, uint32(8*len(ste)), unsafe.Pointer(&ste[0])
	}
	require.NoError(q.u.t, q.u.request(q.u.iommu, iommuHWPTAlloc, unsafe.Pointer(&arg)))
	return arg.id
}

// emptySpace returns a space whose memory is not mapped.
func (u *user) emptySpace(mark byte) *space {
	u.t.Helper()
	s := u.newSpace(mark, pages)
	u.unmapMemory(s)
	return s
}

func (u *user) newTable(s *space, flags uint32) uint32 {
	u.t.Helper()
	id, err := u.table(s, flags)
	require.NoError(u.t, err)
	return id
}

// A stalled transaction reaches the fault queue of its page table, and continues or ends as the user
// answers.
func TestLinuxForwardsStalls(t *testing.T) {
	for _, tt := range []struct {
		name  string
		pasid int
		flags uint32
	}{{"without PASID", noPASID, 0}, {"with PASID", 5, hwptPASID}} {
		t.Run(tt.name, func(t *testing.T) {
			u := newUserWith(t, regs.Stalls|regs.PASID)
			q, s := u.newFaultQueue(), u.emptySpace('f')
			if tt.pasid != noPASID {
				require.NoError(t, u.attach(u.newTable(u.emptySpace(0), hwptPASID), noPASID))
			}
			require.NoError(t, u.attach(q.faultTable(s.id, tt.flags), tt.pasid))

			ended := u.background(attributes(tt.pasid), spaceAt, spaceAt+copied)
			f := q.wait()
			assert.EqualValues(t, spaceAt, f.addr)
			assert.Equal(t, u.device, f.device)
			assert.EqualValues(t, faultRead, f.perm&(faultRead|faultWrite))
			assert.Equal(t, tt.pasid != noPASID, f.flags&faultHasPASID != 0)
			if tt.pasid != noPASID {
				assert.EqualValues(t, tt.pasid, f.pasid)
			}
			s.mem[copied] = 0
			u.mapMemory(s)
			require.NoError(t, q.answer(f, faultSuccess))
			assert.Equal(t, regs.OK, <-ended, "resumed")
			assert.EqualValues(t, 'f', s.mem[copied])

			ended = u.background(attributes(tt.pasid), spaceAt+pages, spaceAt)
			f = q.wait()
			assert.EqualValues(t, spaceAt+pages, f.addr)
			require.NoError(t, q.answer(f, faultInvalid))
			assert.Equal(t, regs.Aborted, <-ended, "refused")
		})
	}
}

// A stalled transaction ends when its page table is replaced or detached, without an answer. It does
// not end when the fault queue alone is closed.
func TestLinuxEndsStallsWithoutAnAnswer(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(u *user, q *faultQueue) error
	}{
		{"replaced", func(u *user, _ *faultQueue) error { return u.attach(u.newTable(u.emptySpace(0), 0), noPASID) }},
		{"detached", func(u *user, _ *faultQueue) error { return u.detach(noPASID) }},
		{"queue closed, detached", func(u *user, q *faultQueue) error {
			q.close()
			return u.detach(noPASID)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			u := newUserWith(t, regs.Stalls)
			q := u.newFaultQueue()
			require.NoError(t, u.attach(q.faultTable(u.emptySpace(0).id, 0), noPASID))
			ended := u.background(0, spaceAt, spaceAt)
			q.wait()
			require.NoError(t, tt.end(u, q))
			assert.Equal(t, regs.Aborted, <-ended)
		})
	}
}

// The transaction of a guest whose CD has S = 1 waits for an answer on the fault queue of the nested
// page table.
func TestLinuxForwardsStallsOfNestedTables(t *testing.T) {
	u := newUserWith(t, regs.Stalls)
	s := u.newSpace(0, 1<<20)
	// The structures have the places of guestDriver's, from the start of the space on.
	const (
		cd, root, page = uint64(cdAt - ram), uint64(ttb - ram), uint64(pageA - ram)
		base           = spaceAt
	)
	words := func(at uint64, words ...uint64) {
		for i, w := range words {
			binary.LittleEndian.PutUint64(s.mem[at+uint64(8*i):], w)
		}
	}
	words(root+2*8, base+root+0x1000|3)
	words(root+0x1000, base+root+0x2000|3)
	// As guestDriver.tables, with S.
	words(cd, 25|1<<8|1<<10|3<<12|1<<30|1<<31|4<<32|1<<41|1<<44|1<<45|1<<46|1<<48, base+root, 0, 0xff)
	q := u.newFaultQueue()
	viommu := u.viommu(u.newTable(s, hwptNestParent))
	require.NoError(t, u.attach(q.faultTable(viommu, 0, 1|5<<1|base+cd, 1<<2|1<<4|3<<6), noPASID))

	ended := u.background(0, iova, iova+copied)
	f := q.wait()
	assert.EqualValues(t, iova, f.addr)
	words(root+0x2000+1*8, base+page|0xf43)
	require.NoError(t, q.answer(f, faultSuccess))
	assert.Equal(t, regs.OK, <-ended, "resumed")
}

// viommu returns a vIOMMU in which the device has the StreamID driverID.
func (u *user) viommu(parent uint32) uint32 {
	u.t.Helper()
	const (
		iommuVIOMMUAlloc  = 0x3b90
		iommuVDeviceAlloc = 0x3b91
		viommuARM3        = 1
	)
	v := struct {
		_                                                structs.HostLayout
		size, flags, kind, device, parent, id, length, _ uint32
		data                                             uint64
	}{size: 40, kind: viommuARM3, device: u.device, parent: parent}
	require.NoError(u.t, u.request(u.iommu, iommuVIOMMUAlloc, unsafe.Pointer(&v)))
	d := struct {
		_                        structs.HostLayout
		size, viommu, device, id uint32
		virtual                  uint64
	}{size: 24, viommu: v.id, device: u.device, virtual: driverID}
	require.NoError(u.t, u.request(u.iommu, iommuVDeviceAlloc, unsafe.Pointer(&d)))
	return v.id
}

// Linux 7.3 does not enable PRI for a device of VFIO, and answers page requests with a failure. A
// device that asks nevertheless is not left waiting.
func TestLinuxAnswersPageRequests(t *testing.T) {
	u := newUserWith(t, regs.ATS|regs.PRI|regs.PASID)
	require.NoError(t, u.attach(u.newTable(u.emptySpace(0), 0), noPASID))
	assert.Equal(t, regs.NotEnabled, edu.Code(u.RequestPage(0, 0, spaceAt, true, false, true)))
	const groups = 4
	for group := range uint16(groups) {
		a := regs.Force
		if group%2 == 1 {
			a = a.WithPASID(5)
		}
		require.NoError(t, u.RequestPage(a, group, spaceAt, true, true, true))
	}
	require.Eventually(t, func() bool {
		c, err := u.Counts()
		require.NoError(t, err)
		return c.PageResponses == groups && c.PageGroups == 0
	}, patience, 10*time.Millisecond, "a response to each group")
	responses, err := u.Responses()
	require.NoError(t, err)
	require.Len(t, responses, groups)
	for group, r := range responses {
		assert.EqualValues(t, group, r.Group())
		assert.NotEqual(t, smmuv3.PRGSuccess, smmuv3.PRGResponse(r.Code()), "there is no page")
	}
	code := u.copiesWith(regs.ByATS|regs.AskForPages|regs.Force, spaceAt, spaceAt)
	assert.Equal(t, regs.PageRefused, code, "a DMA that asks for its page")
}

// Linux enables ATS for a device behind a root complex that supports it. It invalidates the ATC when
// memory is unmapped and when it disables ATS.
func TestLinuxInvalidatesTheATC(t *testing.T) {
	u := newUserWith(t, regs.ATS)
	s := u.newSpace('a', pages)
	require.NoError(t, u.attach(u.newTable(s, 0), noPASID))
	held := func() uint64 {
		c, err := u.Counts()
		require.NoError(t, err)
		return c.ATCEntries
	}
	require.Equal(t, regs.OK, u.copiesWith(regs.ByATS, spaceAt, spaceAt+copied))
	require.NotZero(t, held())
	u.unmapMemory(s)
	assert.Zero(t, held(), "unmapped")
	assert.Equal(t, regs.NotGranted, u.copiesWith(regs.ByATS, spaceAt, spaceAt))

	u.mapMemory(s)
	require.Equal(t, regs.OK, u.copiesWith(regs.ByATS, spaceAt, spaceAt+copied))
	require.NoError(t, u.detach(noPASID))
	assert.Zero(t, held(), "detached")
	assert.Equal(t, regs.NotEnabled, u.copiesWith(regs.ByATS, spaceAt, spaceAt), "ATS is disabled")
	assert.Equal(t, regs.Unsupported, u.copiesWith(regs.ByATS|regs.Force, spaceAt, spaceAt), "for a broken device, too")
}

// An ATC that hangs delays Linux, which gives up. No stale translation is used then. After a reset
// the device works again.
func TestLinuxSurvivesAnATCThatHangs(t *testing.T) {
	u := newUserWith(t, regs.ATS|regs.FLR)
	log := newKernelLog(t)
	log.print(machine.ComplaintsExpected)
	defer log.print(machine.ComplaintsEnd)
	s := u.newSpace('a', pages)
	require.NoError(t, u.attach(u.newTable(s, 0), noPASID))
	require.Equal(t, regs.OK, u.copiesWith(regs.ByATS, spaceAt, spaceAt+copied))
	require.NoError(t, u.Hang(true))
	u.unmapMemory(s)
	assert.Equal(t, regs.Isolated, u.copiesWith(regs.ByATS, spaceAt, spaceAt))
	require.Eventually(t, func() bool { return log.has("ATC invalidate timeout") }, patience, 10*time.Millisecond)
	require.NoError(t, u.Hang(false))
	require.NoError(t, edu.Reset(u.vfio))
	u.mapMemory(s)
	assert.Equal(t, regs.OK, u.copiesWith(0, spaceAt, spaceAt+copied))
	assert.Equal(t, regs.OK, u.copiesWith(regs.ByATS, spaceAt, spaceAt+copied), "the reset ended the isolation")
}

// A fault of DMA names its PASID as the SubstreamID. The kernel prints some of many faults.
func TestLinuxFaultOfADetachedPASIDNamesIt(t *testing.T) {
	u := newUserWith(t, regs.PASID)
	log := newKernelLog(t)
	s := u.newSpace('x', pages)
	table := u.newTable(s, hwptPASID)
	require.NoError(t, u.attach(table, noPASID))
	require.NoError(t, u.attach(table, 1))
	require.NoError(t, u.detach(1))
	address := filepath.Base(lab.Alone()[0])
	require.Eventually(t, func() bool {
		assert.Equal(t, regs.Aborted, u.copiesWith(attributes(1), spaceAt, spaceAt))
		return log.has("event: C_BAD_CD client: "+address+" sid: ") && log.has(" ssid: 0x1")
	}, patience, time.Second, "the kernel's log")
	assert.Equal(t, regs.OK, u.copiesWith(0, spaceAt, spaceAt))
}

// kernelLog is the kernel's log from a moment on.
type kernelLog struct {
	t    *testing.T
	file *os.File
	text bytes.Buffer
}

func newKernelLog(t *testing.T) *kernelLog {
	t.Helper()
	f, err := os.OpenFile("/dev/kmsg", os.O_RDWR|unix.O_NONBLOCK, 0)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, f.Close()) })
	_, err = f.Seek(0, io.SeekEnd)
	require.NoError(t, err)
	return &kernelLog{t: t, file: f}
}

// has reports whether the log has a text.
func (l *kernelLog) has(text string) bool {
	var record [8192]byte
	for {
		n, err := unix.Read(int(l.file.Fd()), record[:])
		if err != nil {
			break // no more, or records that were overwritten
		}
		l.text.Write(record[:n])
	}
	return bytes.Contains(l.text.Bytes(), []byte(text))
}

// print adds a warning to the log.
func (l *kernelLog) print(text string) {
	_, err := l.file.WriteString("<4>" + text)
	assert.NoError(l.t, err)
}
