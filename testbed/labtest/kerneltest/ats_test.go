//go:build linux && (amd64 || arm64)

package kerneltest

import (
	"bytes"
	"encoding/binary"
	"os"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/bridgetest"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/testbed/labtest/edu"
	"github.com/go-vsmmu/vsmmuv3/testbed/labtest/machine"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/edu/regs"
)

// force makes the device ignore its enables, which the kernel owns, so that the SMMU judges.
const force = regs.ByATS | regs.Force

// ats implements bridgetest.Rig.ATS. The device gets addresses of the host's memory. The rig shows
// the suite the guest's.
func (r *kernelRig) ats(ep bridge.Endpoint) bridgetest.ATS {
	d := r.devices[ep]
	_, err := d.Invalidations()
	require.NoError(r.t, err)
	hosts := map[guestmem.GPA]uint64{} // by page
	dma := func(write bool, addr guestmem.GPA, p []byte) error {
		at, ok := hosts[addr&^0xfff]
		if !ok {
			at = uint64(addr &^ 0xfff)
		}
		at += uint64(addr & 0xfff)
		if !write {
			if err := d.LoadTranslated(force, at, readAt, len(p)); err != nil {
				return err
			}
		}
		if err := d.StoreTranslated(force, at, patternAt, len(p)); err != nil {
			return err
		}
		landed := r.landed(d, len(p))
		switch {
		case landed < 0:
			return nil
		case write:
			copy(r.ram[landed:], p)
			return nil
		}
		if err := d.StoreTranslated(force, at, readAt, len(p)); err != nil {
			return err
		}
		copy(p, r.ram[landed:])
		return nil
	}
	return bridgetest.ATS{
		Translate: func(iova uint64, write bool) (addr guestmem.GPA, mayRead, mayWrite bool, err error) {
			t, err := d.Translate(force, iova, write)
			if err != nil || !t.Read && !t.Write {
				return 0, false, false, err
			}
			addr = r.guestPage(t.Addr)
			hosts[addr] = t.Addr
			return addr, t.Read, t.Write, nil
		},
		DMA: dma,
		Invalidated: func() (all [][2]uint64) {
			log, err := d.Invalidations()
			require.NoError(r.t, err)
			for _, i := range log {
				all = append(all, [2]uint64{i.First, i.Last})
			}
			return all
		},
	}
}

// guestPage returns the page of the guest's memory at an address of the host's memory, or 0.
func (r *kernelRig) guestPage(host uint64) guestmem.GPA {
	r.t.Helper()
	const page, present, frame = 4096, 1 << 63, 1<<55 - 1 // Documentation/admin-guide/mm/pagemap.rst
	f, err := os.Open("/proc/self/pagemap")
	require.NoError(r.t, err)
	defer f.Close()
	words := make([]byte, len(r.ram)/page*8)
	_, err = f.ReadAt(words, int64(uintptr(unsafe.Pointer(unsafe.SliceData(r.ram))))/page*8)
	require.NoError(r.t, err)
	for i := range len(r.ram) / page {
		if w := binary.LittleEndian.Uint64(words[i*8:]); w&present != 0 && w&frame == host/page {
			return ram + guestmem.GPA(i*page)
		}
	}
	return 0
}

// writeLog writes a line to the kernel's log, as a warning.
func writeLog(t *testing.T, line string) {
	t.Helper()
	require.NoError(t, os.WriteFile("/dev/kmsg", []byte("<4>"+line+"\n"), 0))
}

// An ATC that does not complete an invalidation keeps nobody waiting. The SMMU isolates the device
// from ATS until its reset, which the kernel makes when the device is closed; other DMA still works.
func TestKernelATCHangs(t *testing.T) {
	needsOwn(t)
	r := newKernelRigOf(t, lab.Alone()[2])
	d := r.devices[r.ends[0]]
	if !d.Has(regs.ATS) {
		t.Skip(bridgetest.SkipNoIDR0 + "ATS")
	}
	g := &guestDriver{kernelRig: r}
	g.tables()
	st, err := r.host.Attach(sid, r.ends[0])
	require.NoError(t, err)
	translate := bridge.GuestStage{
		Disposition: bridge.Translate, S1ContextPtr: cdAt, S1CIR: 1, S1COR: 1, S1CSH: 3, EATS: smmuv3.EATSFull,
	}
	require.NoError(t, st.Bind(translate))
	require.NoError(t, d.StoreWith(regs.ByATS, iova, patternAt, 64), "by a translation that the ATC keeps")
	c, err := d.Counts()
	require.NoError(t, err)
	assert.NotZero(t, c.ATCEntries)

	writeLog(t, machine.ComplaintsExpected)
	defer writeLog(t, machine.ComplaintsEnd)
	require.NoError(t, d.Hang(true))
	began := time.Now()
	err = r.host.Invalidate([]smmuv3.Command{smmuv3.NewATCInv(sid, iova, 0)})
	if err != nil { // the SMMU waited for the ATC longer than Linux waits for a SYNC
		require.ErrorIs(t, err, unix.ETIMEDOUT)
	}
	t.Logf("the invalidation ended after %v: %v", time.Since(began), err)
	require.NoError(t, d.Hang(false))
	require.Eventually(t, func() bool {
		c, err := d.Counts()
		return err == nil && c.Invalidations > 0
	}, 2*time.Minute, time.Millisecond)
	assert.Equal(t, regs.Isolated, edu.Code(d.StoreWith(regs.ByATS, iova, patternAt, 64)))
	clear(r.ram[pageA-ram:][:64])
	require.NoError(t, d.Store(iova, patternAt, 64))
	assert.True(t, bytes.Equal(r.ram[pageA-ram:][:64], d.pattern[:64]))
}
