//go:build linux && (amd64 || arm64)

package iommufd

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// The kernel answers reserved bits of a command with EIO. The host clears them. Fields are those of
// §4.3 to §4.5.
func TestInvalidate_clears_reserved_bits(t *testing.T) {
	type c = smmuv3.Command
	const ones, high = ^uint64(0), ^uint64(0xff) // all bits; all bits but the opcode's
	ril, noRIL := wide(), wide()
	noRIL.Set(smmuv3.RIL, 0)
	ds := wide()
	ds.Set(smmuv3.DS, 1)
	small := wide()
	small.Set(smmuv3.ASID16, 0)
	small.Set(smmuv3.SSIDSIZE, 0)
	for _, tt := range []struct {
		name     string
		ids      *smmuv3.IDRegs
		in, want c
	}{
		{"TLBI_NSNH_ALL has no fields", ril, c{0x30 | high, ones}, c{0x30, 0}},
		{"§4.4.2 VMID is RES0 without stage 2", ril, c{0x10 | high, ones}, c{0x10, 0}},
		{"TLBI_NH_ASID", ril, c{0x11 | high, ones}, c{0xffff_0000_0000_0011, 0}},
		{"TLBI_NH_ASID with 8 bits", small, c{0x11 | high, ones}, c{0x00ff_0000_0000_0011, 0}},
		{"TLBI_NH_VA", ril, c{0x12 | high, ones}, c{0xffff_0000_01f1_f012, 0xffff_ffff_ffff_ff01}},
		{"TLBI_NH_VA with DS", ds, c{0x12 | high, ones}, c{0xffff_0000_03f1_f012, 0xffff_ffff_ffff_ff01}},
		{"TLBI_NH_VA without RIL", noRIL, c{0x12 | high, ones}, c{0xffff_0000_0000_0012, 0xffff_ffff_ffff_f001}},
		{"TLBI_NH_VAA", ril, c{0x13 | high, ones}, c{0x01f1_f013, 0xffff_ffff_ffff_ff01}},
		{"§4.4.1.1 no range where TG is 0", ril, c{0x12 | 0x1f<<12 | 0x1f<<20, 0x1301}, c{0x12, 0x1001}},
		{"§4.4.1.1 a range", ril, c{0x12 | 3<<12 | 2<<20, 0x1000 | 1<<10}, c{0x12 | 3<<12 | 2<<20, 0x1000 | 1<<10}},
		{"§4.4.1.1 a level and no range", ril, c{0x12, 0x1000 | 1<<10 | 3<<8 | 1}, c{0x12, 0x1000 | 1<<10 | 3<<8 | 1}},
		{"§4.4.1.1 Leaf=0 drops the level", ril, c{0x12, 0x1000 | 1<<10 | 3<<8}, c{0x12, 0x1000}},
		{"§4.4.1.1 Leaf=0 drops the level and keeps the range", ril, c{0x12 | 3<<12, 0x1000 | 1<<10 | 3<<8}, c{0x12 | 3<<12, 0x1000 | 1<<10}},
		{"§4.4.1.1 TG and nothing else is reserved", ril, c{0x12, 0x1000 | 1<<10}, c{0x12, 0x1000}},
		{"§4.4.1.1 16 KiB at level 1 is no level", ril, c{0x12, 0x4000 | 2<<10 | 1<<8 | 1}, c{0x12, 0x4000 | 1}},
		{"§4.4.1.1 16 KiB at level 1 with DS", ds, c{0x12, 0x4000 | 2<<10 | 1<<8 | 1}, c{0x12, 0x4000 | 2<<10 | 1<<8 | 1}},
		{"§4.4.1.1 Scale has five bits without DS", ril, c{0x12 | 0x20<<20, 0x1000 | 1<<10}, c{0x12, 0x1000}},
		{"CFGI_CD has no SSV", ril, c{0x05 | high, ones}, c{0xffff_ffff_ffff_f005, 1}},
		{"CFGI_CD without SubstreamIDs", small, c{0x05 | high, ones}, c{0xffff_ffff_0000_0005, 1}},
		{"CFGI_CD_ALL", ril, c{0x06 | high, ones}, c{0xffff_ffff_0000_0006, 0}},
		{"ATC_INV", ril, c{0x40 | high, 0xffff_ffff_ffff_ffc0 | 52}, c{0xffff_ffff_ffff_fa40, 0xffff_ffff_ffff_f000 | 52}},
		{"ATC_INV without SubstreamIDs", small, c{0x40 | high, 0}, c{0xffff_ffff_0000_0040, 0}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got c
			require.True(t, newCommandSet(tt.ids).physical(&got, &tt.in))
			assert.Equal(t, tt.want, got, "%#x", got)
		})
	}
}

func TestInvalidate_refuses_other_commands(t *testing.T) {
	host := map[smmuv3.Opcode]bool{
		smmuv3.OpTLBINHAll: true, smmuv3.OpTLBINHASID: true, smmuv3.OpTLBINHVA: true, smmuv3.OpTLBINHVAA: true,
		smmuv3.OpTLBINSNHAll: true, smmuv3.OpCfgiCD: true, smmuv3.OpCfgiCDAll: true, smmuv3.OpATCInv: true,
	}
	for op := range 256 {
		ok := newCommandSet(wide()).physical(new(smmuv3.Command), &smmuv3.Command{uint64(op)})
		assert.Equal(t, host[smmuv3.Opcode(op)], ok, "%v", smmuv3.Opcode(op))
	}
	ok := newCommandSet(wide()).physical(new(smmuv3.Command), &smmuv3.Command{0x40, 53})
	assert.False(t, ok, "§4.5.1: Size is at most 52")

	k := newFake(t)
	h := translated(t, k)
	assert.ErrorContains(t, h.Invalidate([]smmuv3.Command{smmuv3.NewTLBINSNHAll(), {0x03}}), "CFGI_STE")
	assert.Empty(t, k.commands, "no command is sent")
	require.NoError(t, h.Invalidate(pages(1)))
	assert.Equal(t, [][]smmuv3.Command{pages(1)}, k.commands, "the next batch is not affected")

	k.commands = nil
	assert.ErrorContains(t, h.Invalidate(append(pages(maxBatch+1), smmuv3.Command{0x03})), "CFGI_STE")
	assert.Empty(t, k.commands, "no command of a batch of several requests is sent")
}

// pages returns n TLBI_NH_VAs of ASID 1.
func pages(n int) []smmuv3.Command {
	cmds := make([]smmuv3.Command, n)
	for i := range cmds {
		cmds[i] = smmuv3.Command{0x0001_0000_0000_0012, uint64(i)<<12 | 1}
	}
	return cmds
}

func TestInvalidate_sends_one_request_for_a_batch(t *testing.T) {
	k := newFake(t)
	h := translated(t, k)
	cmds := pages(512)
	require.NoError(t, h.Invalidate(cmds))
	assert.Equal(t, [][]smmuv3.Command{cmds}, k.commands)
	st := h.Stats()
	assert.EqualValues(t, 1, st.Invalidations)
	assert.EqualValues(t, 512, st.Commands)

	k.commands = nil
	require.NoError(t, h.Invalidate(pages(maxBatch+1)))
	require.Len(t, k.commands, 2)
	assert.Len(t, k.commands[0], maxBatch)
	assert.Len(t, k.commands[1], 1)

	k.commands = nil
	require.NoError(t, h.Invalidate(nil))
	assert.Empty(t, k.commands)
}

// The kernel converts commands in order and issues them in blocks of 63. After an error its count
// of handled commands is not the number of executed ones, so the batch fails as a whole.
func TestInvalidate_error_concerns_the_whole_batch(t *testing.T) {
	for _, errno := range []unix.Errno{unix.EIO, unix.EAGAIN, unix.EBUSY, unix.ENODEV, unix.EOPNOTSUPP, unix.ENOMEM, unix.ETIMEDOUT} {
		k := newFake(t)
		h := translated(t, k)
		k.fail("invalidate", 1, errno)
		err := h.Invalidate(pages(100))
		assert.ErrorIs(t, err, errno)
		assert.ErrorContains(t, err, "100 commands")
		assert.NoError(t, h.Invalidate(pages(100)), "the next batch is not affected")
	}
}

func TestInvalidate_drops_commands_for_other_streams(t *testing.T) {
	k := newFake(t)
	h := translated(t, k)
	require.NoError(t, h.Invalidate([]smmuv3.Command{
		smmuv3.NewCfgiCDAll(0x101), smmuv3.NewCfgiCDAll(0x100), {0x05 | 0x101<<32}, smmuv3.NewATCInvAll(0x100)[0],
	}))
	assert.Equal(t, [][]smmuv3.Command{{smmuv3.NewCfgiCDAll(0x100)}}, k.commands, "the host does not offer ATS")
}

// While stage 1 translates for no stream of this host, the host sends no TLBIs to the kernel. It
// invalidates everything before stage 1 translates again.
func TestInvalidate_drops_TLBI_while_no_stream_translates(t *testing.T) {
	k := newFake(t)
	h, _, s := attached(t, k)
	others, err := h.Add(dev1)
	require.NoError(t, err)
	other, err := h.Attach(0x200, others)
	require.NoError(t, err)
	everything := [][]smmuv3.Command{{{0x30}}}
	took := func() [][]smmuv3.Command {
		cmds := k.commands
		k.commands = nil
		return cmds
	}
	tlbi := func() {
		t.Helper()
		require.NoError(t, h.Invalidate([]smmuv3.Command{pages(1)[0], smmuv3.NewCfgiCDAll(0x100)}))
	}

	require.NoError(t, s.Bind(translate(0x1000)))
	assert.Empty(t, took(), "no TLBI was dropped")
	for _, g := range []bridge.GuestStage{abort, bypass} {
		require.NoError(t, s.Bind(g))
		tlbi()
		assert.Empty(t, took(), "no stream translates")
	}

	k.took()
	require.NoError(t, s.Bind(translate(0x1000)))
	assert.Equal(t, everything, took())
	assert.Equal(t, []string{"invalidate", "+nested", "attach 100b"}, k.took(), "before the table is attached")
	tlbi()
	assert.Equal(t, [][]smmuv3.Command{{pages(1)[0], smmuv3.NewCfgiCDAll(0x100)}}, took())

	require.NoError(t, other.Bind(translate(0x2000)))
	assert.Empty(t, took())
	require.NoError(t, s.Bind(bypass))
	tlbi()
	assert.Equal(t, [][]smmuv3.Command{pages(1)}, took(), "another stream translates")

	require.NoError(t, other.Close())
	tlbi()
	assert.Empty(t, took())
	k.fail("invalidate", 1, unix.EIO)
	assert.ErrorIs(t, s.Bind(translate(0x1000)), unix.EIO)
	ste, _ := k.attachedSTE(s.(*stream).dev.FD())
	assert.EqualValues(t, 0x9, ste[0], "the previous stage stays")
	require.NoError(t, s.Bind(translate(0x1000)))
	assert.Equal(t, everything, took(), "the invalidation is still due")
}

func TestInvalidate_allocates_nothing(t *testing.T) {
	k := newFake(t)
	h := translated(t, k)
	cmds := pages(8)
	fake := testing.AllocsPerRun(10, func() { k.commands = append(k.commands[:0], append([]smmuv3.Command(nil), cmds...)) })
	assert.LessOrEqual(t, testing.AllocsPerRun(100, func() {
		k.commands = k.commands[:0]
		_ = h.Invalidate(cmds)
	}), fake)
}

func BenchmarkInvalidate(b *testing.B) {
	h := &Host{nest: &nest{ids: *wide(), commands: newCommandSet(wide())}, translating: 1}
	h.k.sys = nothing{}
	cmds := pages(63)
	b.ReportAllocs()
	for b.Loop() {
		if err := h.Invalidate(cmds); err != nil {
			b.Fatal(err)
		}
	}
}
