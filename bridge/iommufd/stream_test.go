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

// wide returns an SMMUv3.2 with every feature that a stage can use.
func wide() *smmuv3.IDRegs {
	ids := &smmuv3.IDRegs{AIDR: 2}
	for f, v := range map[smmuv3.IDField]uint32{
		smmuv3.S1P: 1, smmuv3.TTF: 2, smmuv3.ATS: 1, smmuv3.ASID16: 1, smmuv3.CD2L: 1, smmuv3.SSIDSIZE: 20,
		smmuv3.StallModel: smmuv3.StallTerminate, smmuv3.RIL: 1, smmuv3.OAS: 5,
	} {
		ids.Set(f, v)
	}
	return ids
}

// The words are literals by §5.2: V 0, Config 3:1, S1Fmt 5:4, S1ContextPtr 55:6, S1CDMax 63:59;
// S1DSS 65:64, S1CIR 67:66, S1COR 69:68, S1CSH 71:70, S1STALLD 91, EATS 93:92.
func TestVSTE_5_2(t *testing.T) {
	for _, tt := range []struct {
		name  string
		stage bridge.GuestStage
		want  vSTE
	}{
		{"one CD as Linux writes it", translate(0x1_2345_6740), vSTE{0x0000_0001_2345_674b, 0xd4}},
		{"highest address", translate(0xffff_ffff_ffc0), vSTE{0x0000_ffff_ffff_ffcb, 0xd4}},
		{"linear table of 2^20", bridge.GuestStage{Disposition: bridge.Translate, S1CDMax: 20, S1DSS: smmuv3.S1DSSSubstream0},
			vSTE{0xa000_0000_0000_000b, 0x2}},
		{"two levels, 4 KiB leaves", bridge.GuestStage{Disposition: bridge.Translate, S1CDMax: 1, S1Fmt: smmuv3.S1Fmt4K, S1DSS: smmuv3.S1DSSBypass},
			vSTE{0x0800_0000_0000_001b, 0x1}},
		{"two levels, 64 KiB leaves", bridge.GuestStage{Disposition: bridge.Translate, S1CDMax: 16, S1Fmt: smmuv3.S1Fmt64K},
			vSTE{0x8000_0000_0000_002b, 0x0}},
		{"ATS", bridge.GuestStage{Disposition: bridge.Translate, EATS: smmuv3.EATSFull}, vSTE{0xb, 0x1000_0000}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := steOf(tt.stage, wide(), false)
			require.NoError(t, err)
			assert.Equal(t, tt.want, got)
		})
	}
	assert.Equal(t, vSTE{0xf80f_ffff_ffff_ffff, 0x3800_00ff}, allowed, "STRTAB_STE_0_NESTING_ALLOWED, STRTAB_STE_1_NESTING_ALLOWED")
	assert.Equal(t, vSTE{0x1}, steAbort)
	assert.Equal(t, vSTE{0x9}, steBypass)
}

// §3.12.2.3: the guest's ID registers exclude stalls, and S1STALLD enforces that.
func TestBind_sets_S1STALLD_if_the_hardware_can_stall(t *testing.T) {
	for model, want := range map[uint32]uint64{
		0: 1 << 27,
		1: 0, // the bit is illegal (§5.2.2)
	} {
		k := newFake(t)
		k.smmus[dev0].IDR[0] = k.smmus[dev0].IDR[0]&^(3<<24) | model<<24
		h, d, s := attached(t, k)
		caps, err := h.Capabilities()
		require.NoError(t, err)
		assert.EqualValues(t, smmuv3.StallTerminate, caps.IDs.Get(smmuv3.StallModel), "the guest's STALL_MODEL")
		require.NoError(t, s.Bind(translate(0x1000)))
		ste, _ := k.attachedSTE(d.FD())
		assert.Equal(t, want|0xd4, ste[1], "STALL_MODEL %d", model)
		g := translate(0x1000)
		g.S1STALLD = true
		assert.ErrorIs(t, s.Bind(g), bridge.ErrRejected, "illegal for a guest without stalls")
	}

	k := newFake(t)
	k.smmus[dev0].IDR[0] = k.smmus[dev0].IDR[0]&^(3<<24) | 2<<24
	h := openFake(t, k, Config{})
	_, err := h.Add(dev0)
	assert.ErrorIs(t, err, ErrUnsupported, "§5.4.2: a CD with S = 0 is illegal")
	assert.ErrorContains(t, err, "STALL_MODEL")
}

func TestBind_rejects_illegal_stages(t *testing.T) {
	plain := func(f smmuv3.IDField, v uint32) *smmuv3.IDRegs {
		ids := wide()
		ids.Set(f, v)
		return ids
	}
	for _, tt := range []struct {
		name  string
		ids   *smmuv3.IDRegs
		stage bridge.GuestStage
		says  string
	}{
		{"S1CDMax beyond SSIDSIZE", plain(smmuv3.SSIDSIZE, 4), bridge.GuestStage{S1CDMax: 5}, "S1CDMax"},
		{"S1CDMax without substreams", plain(smmuv3.SSIDSIZE, 0), bridge.GuestStage{S1CDMax: 1}, "S1CDMax"},
		{"S1CDMax wider than its field", wide(), bridge.GuestStage{S1CDMax: 32}, "S1CDMax"},
		{"two levels without CD2L", plain(smmuv3.CD2L, 0), bridge.GuestStage{S1CDMax: 1, S1Fmt: smmuv3.S1Fmt64K}, "S1Fmt"},
		{"address beyond OAS", plain(smmuv3.OAS, 0), translate(1 << 32), "S1ContextPtr"},
		{"address beyond the field", wide(), translate(1 << 56), "S1ContextPtr"},
		{"misaligned address", wide(), translate(0x20), "S1ContextPtr"},
		{"S1STALLD without stalls", wide(), bridge.GuestStage{S1STALLD: true}, "S1STALLD"},
		{"EATS without ATS", plain(smmuv3.ATS, 0), bridge.GuestStage{EATS: smmuv3.EATSFull}, "EATS"},
		{"a VMID", wide(), bridge.GuestStage{S2VMID: 1}, "S2VMID"},
		{"split-stage ATS", wide(), bridge.GuestStage{EATS: smmuv3.EATSSplit}, "EATS"},
		{"ATS with DPT checks", wide(), bridge.GuestStage{EATS: smmuv3.EATSDPT}, "EATS"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.stage.Disposition = bridge.Translate
			_, err := steOf(tt.stage, tt.ids, false)
			assert.ErrorIs(t, err, bridge.ErrRejected)
			assert.ErrorContains(t, err, tt.says)
		})
	}
}

// Bind rejects a stage 2 of the guest, with or without a stage 1: the kernel has no domain for it.
func TestBind_rejects_stage_2(t *testing.T) {
	h, _, s := attached(t, newFake(t))
	caps, err := h.Capabilities()
	require.NoError(t, err)
	assert.False(t, caps.IDs.Has(smmuv3.S2P))
	for _, d := range []bridge.Disposition{bridge.TranslateS2, bridge.TranslateNested} {
		g := bridge.GuestStage{Disposition: d, S2: smmuv3.Stage2{T0SZ: 24, SL0: 1, PS: 5, AA64: true}}
		assert.ErrorIs(t, s.Bind(g), bridge.ErrRejected, "%v", d)
	}
}

// After an error the previous stage stays, and the next Bind works.
func TestBind_error_keeps_the_previous_stage(t *testing.T) {
	for _, tt := range []struct {
		request string
		errno   unix.Errno
		is      error
		isNot   error
	}{
		{"hwpt", unix.EIO, bridge.ErrRejected, bridge.ErrGone},
		{"hwpt", unix.EOPNOTSUPP, bridge.ErrRejected, bridge.ErrGone},
		{"hwpt", unix.ENODEV, bridge.ErrGone, bridge.ErrRejected},
		{"hwpt", unix.ENOMEM, unix.ENOMEM, bridge.ErrRejected},
		{"hwpt", unix.EAGAIN, unix.EAGAIN, bridge.ErrRejected},
		{"attach", unix.EINVAL, bridge.ErrRejected, bridge.ErrGone},
		{"attach", unix.EBUSY, unix.EBUSY, bridge.ErrRejected},
		{"attach", unix.ENODEV, bridge.ErrGone, bridge.ErrRejected},
		{"attach", unix.EIO, unix.EIO, bridge.ErrRejected},
	} {
		t.Run(tt.request+" "+tt.errno.Error(), func(t *testing.T) {
			k := newFake(t)
			_, d, s := attached(t, k)
			require.NoError(t, s.Bind(translate(0x1000)))
			kinds := k.kinds()

			k.fail(tt.request, 1, tt.errno)
			err := s.Bind(translate(0x2000))
			assert.ErrorIs(t, err, tt.is)
			assert.ErrorIs(t, err, tt.errno)
			assert.NotErrorIs(t, err, tt.isNot)
			ste, _ := k.attachedSTE(d.FD())
			assert.EqualValues(t, 0x100b, ste[0])
			assert.Equal(t, kinds, k.kinds(), "no object is left")

			require.NoError(t, s.Bind(translate(0x2000)))
			ste, _ = k.attachedSTE(d.FD())
			assert.EqualValues(t, 0x200b, ste[0])
		})
	}
}

// If the table that aborts cannot be attached, Bind detaches the device, which blocks its DMA.
func TestBind_abort_detaches_the_device_if_the_kernel_refuses(t *testing.T) {
	k := newFake(t)
	_, d, s := attached(t, k)
	require.NoError(t, s.Bind(translate(0x1000)))
	k.fail("attach", 1, unix.ENOMEM)
	require.NoError(t, s.Bind(abort))
	_, on := k.attachedSTE(d.FD())
	assert.False(t, on)
	assert.NotContains(t, k.kinds()[4:], "nested", "the table is destroyed")

	require.NoError(t, s.Bind(bypass))
	ste, _ := k.attachedSTE(d.FD())
	assert.EqualValues(t, 0x9, ste[0])

	k.spoil = func(name string, _ int) error {
		if name == "attach" || name == "detach" {
			return unix.EIO
		}
		return nil
	}
	assert.ErrorIs(t, s.Bind(abort), unix.EIO, "the DMA is not blocked")
	k.fail("", 0, nil)
}

// If the kernel fails to detach the device, Close fails and the stream stays open. The stream then
// aborts, unless the kernel also fails to attach the table that aborts.
func TestStreamClose_error_keeps_the_stream(t *testing.T) {
	k := newFake(t)
	_, d, s := attached(t, k)
	require.NoError(t, s.Bind(translate(0x1000)))
	k.fail("detach", 0, unix.EIO)
	assert.ErrorIs(t, s.Close(), unix.EIO)
	ste, _ := k.attachedSTE(d.FD())
	assert.EqualValues(t, 0x1, ste[0], "it aborts")

	require.NoError(t, s.Bind(translate(0x1000)))
	k.spoil = func(name string, _ int) error {
		if name == "attach" || name == "detach" {
			return unix.EIO
		}
		return nil
	}
	assert.ErrorIs(t, s.Close(), unix.EIO)
	ste, _ = k.attachedSTE(d.FD())
	assert.EqualValues(t, 0x100b, ste[0], "the kernel neither detached nor replaced the table")
	assert.NotErrorIs(t, s.Bind(abort), bridge.ErrClosed, "ErrClosed means that DMA is blocked")

	k.fail("", 0, nil)
	require.NoError(t, s.Bind(abort))
	ste, _ = k.attachedSTE(d.FD())
	assert.EqualValues(t, 0x1, ste[0])
	require.NoError(t, s.Close())
	assert.ErrorIs(t, s.Bind(abort), bridge.ErrClosed)
	assert.ErrorIs(t, s.Close(), bridge.ErrClosed)
}

func TestBind_of_an_equal_stage_makes_no_request(t *testing.T) {
	k := newFake(t)
	h, _, s := attached(t, k)
	require.NoError(t, s.Bind(abort))
	require.NoError(t, s.Bind(bridge.GuestStage{Disposition: bridge.Abort, Cause: smmuv3.CBadSTE}))
	k.took()
	before := h.Stats().Ioctls
	require.NoError(t, s.Bind(bridge.GuestStage{Disposition: bridge.Abort, Disabled: true}))
	assert.Equal(t, before, h.Stats().Ioctls)
	assert.Empty(t, k.took())
}

// If the physical STE does not change, the kernel does not invalidate cached CDs.
func TestBind_invalidates_CDs_of_the_previous_stage(t *testing.T) {
	k := newFake(t)
	_, _, s := attached(t, k)
	require.NoError(t, s.Bind(translate(0x1000)))
	assert.Empty(t, k.commands)
	require.NoError(t, s.Bind(translate(0x2000)))
	assert.Equal(t, [][]smmuv3.Command{{{0x0000_0100_0000_0006, 0}}}, k.commands, "CFGI_CD_ALL of stream 0x100")

	k.fail("invalidate", 1, unix.EIO)
	assert.ErrorIs(t, s.Bind(translate(0x3000)), unix.EIO)
	k.took()
	require.NoError(t, s.Bind(translate(0x2000)), "an equal stage")
	assert.Equal(t, []string{"invalidate"}, k.took())
}

func TestBind_rejects_a_misaligned_S1ContextPtr(t *testing.T) {
	_, _, s := attached(t, newFake(t))
	assert.ErrorIs(t, s.Bind(bridge.GuestStage{Disposition: bridge.Translate, S1ContextPtr: guestmem.GPA(7)}), bridge.ErrRejected)
}

// After the device is removed, the kernel answers every request for it with ENODEV.
func TestDevice_removed(t *testing.T) {
	k := newFake(t)
	h, d, s := attached(t, k)
	require.NoError(t, s.Bind(translate(0x1000)))
	other, err := h.Add(dev1)
	require.NoError(t, err)
	fine, err := h.Attach(0x200, other)
	require.NoError(t, err)

	k.spoil = func(name string, _ int) error {
		if name == "attach" || name == "detach" {
			k.detach(k.devices[d.FD()])
			return unix.ENODEV
		}
		return nil
	}
	assert.ErrorIs(t, s.Bind(bypass), bridge.ErrGone)
	assert.NoError(t, s.Bind(abort), "a device that is gone makes no DMA")
	assert.NoError(t, s.Close())
	assert.NoError(t, d.Close())
	k.fail("", 0, nil)
	assert.NoError(t, fine.Bind(bypass), "other devices are not affected")
}
