//go:build linux && (amd64 || arm64)

package iommufd

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/iommufd/internal/uapi"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// atsStage is a stage that translates with EATS = 01.
func atsStage() bridge.GuestStage {
	g := translate(0x1000)
	g.EATS = smmuv3.EATSFull
	return g
}

// atsHost returns a host that offers ATS, with the streams 0x100 and 0x101 bound to atsStage.
func atsHost(t *testing.T, k *fakeKernel) (*Host, []bridge.Stream) {
	t.Helper()
	k.smmus[dev0].IDR[0] |= 1 << 10 // IDR0.ATS
	h := openFake(t, k, Config{ATS: true})
	var streams []bridge.Stream
	for i, path := range []string{dev0, dev1} {
		d, err := h.Add(path)
		require.NoError(t, err)
		s, err := h.Attach(smmuv3.StreamID(0x100+i), d)
		require.NoError(t, err)
		require.NoError(t, s.Bind(atsStage()))
		streams = append(streams, s)
	}
	return h, streams
}

// The commands of the batches below: T is a TLBI_NH_VA, C a CFGI_CD_ALL, A and B are ATC_INVs of
// the two streams.
var batchCommands = map[rune]smmuv3.Command{
	'T': {0x12 | 1<<48, 0x7000_1001},
	'C': {0x06 | 0x100<<32, 0},
	'A': {0x40 | 0x100<<32, 0x7000_1000},
	'B': {0x40 | 0x101<<32, 52},
}

func batchOf(letters string) (cmds []smmuv3.Command) {
	for _, r := range letters {
		cmds = append(cmds, batchCommands[r])
	}
	return cmds
}

// requestsOf spells the commands of each request in letters.
func requestsOf(requests [][]smmuv3.Command) (all []string) {
	for _, request := range requests {
		var letters string
		for _, c := range request {
			for r, command := range batchCommands {
				if c == command {
					letters += string(r)
				}
			}
		}
		all = append(all, letters)
	}
	return all
}

// §4.5.1, §4.7.3: a SYNC completes the TLBI before the ATC_INV. The kernel ends each request with a
// SYNC. T264-SMMU-3: the host sends TLBI and CFGI twice, each time with their SYNC. The erratum
// does not affect ATC_INV.
func TestInvalidate_SYNC_between_TLBI_and_ATC_INV(t *testing.T) {
	for _, tt := range []struct {
		batch           string
		plain, repeated []string
	}{
		{"T", []string{"T"}, []string{"T", "T"}},
		{"TTC", []string{"TTC"}, []string{"TTC", "TTC"}},
		{"A", []string{"A"}, []string{"A"}},
		{"AB", []string{"AB"}, []string{"AB"}},
		{"TA", []string{"T", "A"}, []string{"T", "T", "A"}},
		{"CA", []string{"C", "A"}, []string{"C", "C", "A"}},
		{"AT", []string{"A", "T"}, []string{"A", "T", "T"}},
		{"TCAB", []string{"TC", "AB"}, []string{"TC", "TC", "AB"}},
		{"TATB", []string{"T", "A", "T", "B"}, []string{"T", "T", "A", "T", "T", "B"}},
		{"ABTTAC", []string{"AB", "TT", "A", "C"}, []string{"AB", "TT", "TT", "A", "C", "C"}},
	} {
		for flags, want := range map[uint32][]string{0: tt.plain, uapi.HWInfoErrataRepeatTLBICFGI: tt.repeated} {
			t.Run(fmt.Sprintf("%s/flags_%d", tt.batch, flags), func(t *testing.T) {
				k := newFake(t)
				k.smmus[dev0].Flags = flags
				h, _ := atsHost(t, k)
				k.commands = nil
				before := h.Stats()
				require.NoError(t, h.Invalidate(batchOf(tt.batch)))
				assert.Equal(t, want, requestsOf(k.commands))
				after := h.Stats()
				assert.EqualValues(t, len(want), after.Invalidations-before.Invalidations)
			})
		}
	}
}

// The host also splits a batch after 2048 commands, the limit of a request.
func TestInvalidate_splits_long_batches_by_kind(t *testing.T) {
	var cmds []smmuv3.Command
	want := []int{}
	for _, run := range []struct {
		letter string
		n      int
	}{{"T", 2047}, {"A", 3}, {"T", 2046}, {"B", 2049}} {
		for range run.n {
			cmds = append(cmds, batchOf(run.letter)...)
		}
	}
	want = append(want, 2047, 1, 2, 2046, 2048, 1)
	k := newFake(t)
	h, _ := atsHost(t, k)
	k.commands = nil
	require.NoError(t, h.Invalidate(cmds))
	var got []int
	var sent []smmuv3.Command
	for _, request := range k.commands {
		got = append(got, len(request))
		sent = append(sent, request...)
		for _, c := range request {
			assert.Equal(t, request[0].Opcode() == smmuv3.OpATCInv, c.Opcode() == smmuv3.OpATCInv)
		}
	}
	assert.Equal(t, want, got)
	assert.Equal(t, cmds, sent, "in order")
}

func TestInvalidate_fails_in_the_middle_of_a_long_batch(t *testing.T) {
	k := newFake(t)
	h := translated(t, k)
	for nth := 1; nth <= 3; nth++ {
		k.commands = nil
		k.fail("invalidate", nth, unix.EIO)
		assert.ErrorIs(t, h.Invalidate(pages(3*maxBatch)), unix.EIO)
		assert.Len(t, k.commands, nth-1)
	}
}

// If one request fails, the whole batch fails, and the host does not send the later requests. The
// next batch is not affected.
func TestInvalidate_fails_at_every_request_with_every_errno(t *testing.T) {
	for _, flags := range []uint32{0, uapi.HWInfoErrataRepeatTLBICFGI} {
		for _, batch := range []string{"T", "A", "TA", "AT", "TATB", "ABTTAC"} {
			k := newFake(t)
			k.smmus[dev0].Flags = flags
			h, _ := atsHost(t, k)
			k.commands = nil
			require.NoError(t, h.Invalidate(batchOf(batch)))
			all := k.commands
			for _, errno := range []unix.Errno{unix.EIO, unix.EAGAIN, unix.EBUSY, unix.ENODEV, unix.EOPNOTSUPP, unix.ENOMEM,
				unix.ETIMEDOUT, unix.EINVAL, unix.EFAULT, unix.ENOENT} {
				for nth := 1; nth <= len(all); nth++ {
					k.commands = nil
					k.fail("invalidate", nth, errno)
					err := h.Invalidate(batchOf(batch))
					assert.ErrorIs(t, err, errno, "%s, request %d", batch, nth)
					assert.NotErrorIs(t, err, bridge.ErrATCTimeout, "which would mean that the TLBIs took effect")
					assert.Equal(t, all[:nth-1], append([][]smmuv3.Command{}, k.commands...), "%s, request %d", batch, nth)

					k.fail("", 0, nil)
					k.commands = nil
					require.NoError(t, h.Invalidate(batchOf(batch)))
					assert.Equal(t, all, k.commands, "%s, request %d", batch, nth)
				}
			}
		}
	}
}

// entry_num is the kernel's count of handled commands. Without an error it must be all of them.
func TestInvalidate_fails_if_entry_num_is_not_the_batch(t *testing.T) {
	for nth := 1; nth <= 3; nth++ {
		for _, handled := range []uint32{0, 1, 3} {
			k := newFake(t)
			h, _ := atsHost(t, k)
			k.commands = nil
			k.handled = func(request int, n uint32) uint32 {
				if request == nth {
					return handled
				}
				return n
			}
			err := h.Invalidate(batchOf("TTAATT"))
			assert.EqualError(t, err, fmt.Sprintf("IOMMU_HWPT_INVALIDATE: the kernel handled %d of 2 commands", handled))
			assert.Len(t, k.commands, nth)
		}
	}
}

// §4.5.1, §6.3.9.6: the kernel answers ATC_INV with EIO if the SMMU lacks ATS. It enables ATS only
// while a stage with EATS = 01 is attached, and invalidates the ATC when it disables ATS.
func TestInvalidate_drops_ATC_INV_of_streams_without_ATS(t *testing.T) {
	inv := []smmuv3.Command{batchCommands['A']}
	noEATS := translate(0x1000)
	for name, tt := range map[string]struct {
		prepare func(t *testing.T, k *fakeKernel, h *Host, s bridge.Stream)
		sent    bool
	}{
		"translates with EATS": {func(*testing.T, *fakeKernel, *Host, bridge.Stream) {}, true},
		"translates with EATS again": {func(t *testing.T, _ *fakeKernel, _ *Host, s bridge.Stream) {
			require.NoError(t, s.Bind(bypass))
			require.NoError(t, s.Bind(atsStage()))
		}, true},
		"EATS 00":  {func(t *testing.T, _ *fakeKernel, _ *Host, s bridge.Stream) { require.NoError(t, s.Bind(noEATS)) }, false},
		"bypasses": {func(t *testing.T, _ *fakeKernel, _ *Host, s bridge.Stream) { require.NoError(t, s.Bind(bypass)) }, false},
		"aborts":   {func(t *testing.T, _ *fakeKernel, _ *Host, s bridge.Stream) { require.NoError(t, s.Bind(abort)) }, false},
		"aborts detached": {func(t *testing.T, k *fakeKernel, _ *Host, s bridge.Stream) {
			k.fail("attach", 1, unix.EIO)
			require.NoError(t, s.Bind(abort))
		}, false},
		"is closed": {func(t *testing.T, _ *fakeKernel, _ *Host, s bridge.Stream) { require.NoError(t, s.Close()) }, false},
		"a stage that the kernel rejected": {func(t *testing.T, k *fakeKernel, _ *Host, s bridge.Stream) {
			require.NoError(t, s.Bind(noEATS))
			k.fail("attach", 1, unix.EINVAL)
			require.ErrorIs(t, s.Bind(atsStage()), bridge.ErrRejected)
		}, false},
		"keeps EATS when the next stage fails": {func(t *testing.T, k *fakeKernel, _ *Host, s bridge.Stream) {
			k.fail("attach", 1, unix.EIO)
			require.ErrorIs(t, s.Bind(noEATS), unix.EIO)
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			k := newFake(t)
			h, streams := atsHost(t, k)
			tt.prepare(t, k, h, streams[0])
			k.commands = nil
			require.NoError(t, h.Invalidate(inv))
			if tt.sent {
				assert.Equal(t, [][]smmuv3.Command{inv}, k.commands)
			} else {
				assert.Empty(t, k.commands)
			}
			k.commands = nil
			require.NoError(t, h.Invalidate(batchOf("AB")))
			assert.Contains(t, requestsOf(k.commands)[0], "B", "the other stream is not affected")
		})
	}
	t.Run("StreamID that no stream has", func(t *testing.T) {
		k := newFake(t)
		h, _ := atsHost(t, k)
		k.commands = nil
		require.NoError(t, h.Invalidate([]smmuv3.Command{{0x40 | 0x102<<32, 52}}))
		assert.Empty(t, k.commands)
	})
	t.Run("device without ATS", func(t *testing.T) {
		k := newFake(t)
		k.caps[dev1] = uapi.HWCapPCIATSNotSupported
		h, _ := atsHost(t, k)
		k.commands = nil
		require.NoError(t, h.Invalidate(batchOf("AB")))
		assert.Equal(t, []string{"A"}, requestsOf(k.commands))
	})
}

// §6.3.1 IDR0.ATS: the host offers ATS if the VMM asks for it and the physical SMMU has it.
func TestCapabilities_ATS(t *testing.T) {
	for _, hardwareATS := range []uint32{0, 1} {
		for _, asked := range []bool{false, true} {
			k := newFake(t)
			k.smmus[dev0].IDR[0] = k.smmus[dev0].IDR[0]&^(1<<10) | hardwareATS<<10
			h := openFake(t, k, Config{ATS: asked})
			d, err := h.Add(dev0)
			require.NoError(t, err)
			caps, err := h.Capabilities()
			require.NoError(t, err)
			want := asked && hardwareATS == 1
			assert.Equal(t, want, caps.IDs.IDR[0]>>10&1 == 1, "IDR0.ATS %d, Config.ATS %t", hardwareATS, asked)

			s, err := h.Attach(0x100, d)
			require.NoError(t, err)
			if err := s.Bind(atsStage()); want {
				assert.NoError(t, err)
			} else {
				assert.ErrorIs(t, err, bridge.ErrRejected, "EATS needs ATS")
				require.NoError(t, s.Bind(translate(0x1000)))
			}
			k.commands = nil
			require.NoError(t, h.Invalidate(batchOf("A")))
			assert.Equal(t, want, len(k.commands) == 1)
		}
	}
}
