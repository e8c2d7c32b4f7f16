//go:build linux && (amd64 || arm64)

package kerneltest

import (
	"structs"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/edu/regs"
)

// Linux attaches, replaces and detaches PASIDs by VFIO, and the SMMU follows: a PASID reaches the
// memory of its own page table, and none when it is detached.
func TestLinuxAttachesPASIDs(t *testing.T) {
	const page = 4096
	u := newUsers(t, 1)[0]
	plain, five := u.newSpace('n', pages), u.newSpace('5', pages)
	tablePlain, err := u.table(plain, hwptPASID)
	require.NoError(t, err)
	tableFive, err := u.table(five, hwptPASID)
	require.NoError(t, err)
	require.NoError(t, u.attach(tablePlain, noPASID))
	lands := func(pasid int, s, other *space, mark byte) {
		t.Helper()
		s.mem[0], other.mem[page] = mark, 0
		require.Equal(t, regs.OK, u.copies(pasid, 0, page))
		assert.Equal(t, mark, s.mem[page])
		assert.Zero(t, other.mem[page])
	}
	assert.Equal(t, regs.Aborted, u.copies(5, 0, page), "PASID 5 is not attached")

	require.NoError(t, u.attach(tableFive, 5))
	lands(5, five, plain, 'F')
	lands(noPASID, plain, five, 'N')
	assert.Equal(t, regs.Aborted, u.copies(6, 0, page), "another PASID")

	u.unmapMemory(five)
	assert.Equal(t, regs.Aborted, u.copies(5, 0, page), "unmapped")
	u.mapMemory(five)
	lands(5, five, plain, 'G')

	require.NoError(t, u.attach(tablePlain, 5), "another page table")
	lands(5, plain, five, 'M')
	require.NoError(t, u.detach(5))
	assert.Equal(t, regs.Aborted, u.copies(5, 0, page), "PASID 5 is detached")
	lands(noPASID, plain, five, 'O')

	const far = 1<<19 + 3 // in the second leaf of a table of 2^20
	require.NoError(t, u.attach(tableFive, far))
	lands(far, five, plain, 'H')
	require.NoError(t, u.detach(noPASID))
	assert.Equal(t, regs.Aborted, u.copies(noPASID, 0, page), "DMA without a PASID is detached")
	lands(far, five, plain, 'I')
	require.NoError(t, u.detach(far))
	assert.Equal(t, regs.Aborted, u.copies(far, 0, page))
}

// Linux translates by stage 2 alone for page tables that may become the parents of others. Each has
// a VMID of its own.
func TestLinuxTranslatesByStage2(t *testing.T) {
	const page = 4096
	users := newUsers(t, 2)
	spaces := make([]*space, 2)
	for i, u := range users {
		spaces[i] = u.newSpace(byte('a'+i), pages)
		table, err := u.table(spaces[i], hwptNestParent)
		require.NoError(t, err)
		require.NoError(t, u.attach(table, noPASID))
	}
	for range 3 {
		for i, u := range users {
			mine, other := spaces[i], spaces[1-i]
			mine.mem[page], other.mem[page] = 0, 0
			require.Equal(t, regs.OK, u.copies(noPASID, 0, page))
			assert.Equal(t, byte('a'+i), mine.mem[page])
			assert.Zero(t, other.mem[page], "the same address in the other space")

			u.unmapMemory(mine)
			assert.Equal(t, regs.Aborted, u.copies(noPASID, 0, page), "unmapped")
			assert.Equal(t, regs.OK, users[1-i].copies(noPASID, 0, page), "the other VMID")
			u.mapMemory(mine)
		}
	}
	for _, u := range users {
		require.NoError(t, u.detach(noPASID))
		assert.Equal(t, regs.Aborted, u.copies(noPASID, 0, page), "detached")
	}
}

// dirty is a page table whose dirty pages Linux tracks by HTTU.
type dirty struct {
	*user
	table uint32
	space *space
}

func (d *dirty) track(on uint32) error {
	arg := struct {
		_                        structs.HostLayout
		size, flags, table, zero uint32
	}{size: 16, flags: on, table: d.table}
	return d.request(d.iommu, iommuDirtyTracking, unsafe.Pointer(&arg))
}

// dirtyPages returns the pages that are dirty, and makes them clean unless keep is set.
func (d *dirty) dirtyPages(keep bool) (found []int) {
	d.t.Helper()
	bitmap := make([]uint64, (len(d.space.mem)/4096+63)/64)
	arg := struct {
		_                        structs.HostLayout
		size, table, flags, zero uint32
		iova, length, page       uint64
		bitmap                   unsafe.Pointer
	}{
		size: 48, table: d.table, iova: spaceAt, length: uint64(len(d.space.mem)), page: 4096,
		bitmap: unsafe.Pointer(&bitmap[0]),
	}
	if keep {
		arg.flags = 1 // IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR
	}
	require.NoError(d.t, d.request(d.iommu, iommuDirtyBitmap, unsafe.Pointer(&arg)))
	for page := range len(d.space.mem) / 4096 {
		if bitmap[page/64]>>(page%64)&1 != 0 {
			found = append(found, page)
		}
	}
	return found
}

// Linux finds the pages that a device writes by the dirty state that HTTU sets. It finds each page
// once: it sends no invalidation when it makes a page clean (Linux 7.3), so the SMMU may go on to
// use the writable translation that it holds.
func TestLinuxFindsDirtyPages(t *testing.T) {
	const page = 4096
	u := newUsers(t, 1)[0]
	d := &dirty{user: u, space: u.newSpace('d', pages)}
	var err error
	if d.table, err = u.table(d.space, hwptDirty); err != nil {
		require.ErrorIs(t, err, unix.EOPNOTSUPP)
		t.Skip(SkipLinux + "IOMMU_HWPT_ALLOC_DIRTY_TRACKING without HTTU: EOPNOTSUPP")
	}
	_, err = u.table(d.space, hwptDirty|hwptNestParent)
	assert.ErrorIs(t, err, unix.EOPNOTSUPP, "Linux tracks no dirty pages of stage 2")
	require.NoError(t, u.attach(d.table, noPASID))
	require.NoError(t, d.track(1))
	assert.Empty(t, d.dirtyPages(false))
	for _, to := range []uint64{5, 7} {
		require.Equal(t, regs.OK, u.copies(noPASID, 2*page, to*page))
	}
	assert.Equal(t, []int{5, 7}, d.dirtyPages(true))
	assert.Equal(t, []int{5, 7}, d.dirtyPages(false))
	assert.Empty(t, d.dirtyPages(false), "reads make no page dirty")
	require.Equal(t, regs.OK, u.copies(noPASID, 2*page, 9*page))
	assert.Equal(t, []int{9}, d.dirtyPages(false), "a page that was not written before")
	require.Equal(t, regs.OK, u.copies(noPASID, 2*page, 9*page))
	t.Logf("written again after it was made clean: page 9; found: %v", d.dirtyPages(false))
	require.NoError(t, d.track(0))
}
