package report

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/testbed/guest"
)

// measured returns the result of a guest that read blocks of 4 KiB and of 1 MiB in these times.
func measured(small, large float64) guest.BenchResult {
	return guest.BenchResult{
		Hello: guest.Hello{Release: "6.1.0"}, IOMMU: guest.DomainStrict,
		Reads: []guest.BenchRead{{BlockSize: 4 << 10, Bytes: 1 << 20, Seconds: small}, {BlockSize: 1 << 20, Bytes: 32 << 20, Seconds: large}},
	}
}

func TestCompareTakesTheBestTimes(t *testing.T) {
	b := &Bench{Peer: "QEMU"}
	ours := []guest.BenchResult{measured(2, 1), measured(1, 2)}
	require.NoError(t, b.Compare(ours, []guest.BenchResult{measured(4, 1), measured(3, 1)}))
	assert.Equal(t, []Read{
		{"read/4KiB", 4 << 10, 1 << 20, 1 << 20, float64(1<<20) / 3, 3},
		{"read/1024KiB", 1 << 20, 32 << 20, 32 << 20, 32 << 20, 1},
	}, b.Reads)
	assert.Equal(t, 2.0, b.Ratio, "4 s by 2 s")
	assert.Equal(t, measured(2, 1), ours[0], "the input is unchanged")

	var text bytes.Buffer
	require.NoError(t, b.Summary(&text))
	assert.Contains(t, text.String(), "read/4KiB   1048576    349525   3.00\n")
	assert.Contains(t, text.String(), "2.00\n")

	out, err := json.Marshal(b)
	require.NoError(t, err)
	assert.Contains(t, string(out), `"ratio":2,`)
}

func TestCompareRejectsDifferentReads(t *testing.T) {
	good := []guest.BenchResult{measured(1, 1)}
	edited := func(edit func(*guest.BenchResult)) []guest.BenchResult {
		r := measured(1, 1)
		edit(&r)
		return []guest.BenchResult{measured(1, 1), r}
	}
	for _, tt := range []struct {
		name string
		peer []guest.BenchResult
		want string
	}{
		{"nothing", nil, "made different reads"},
		{"an error", edited(func(r *guest.BenchResult) { r.Error = "no disk" }), "the guest of the peer failed: no disk"},
		{"no translation", edited(func(r *guest.BenchResult) { r.IOMMU = guest.DomainIdentity }), `in a domain "identity"`},
		{"fewer reads", edited(func(r *guest.BenchResult) { r.Reads = r.Reads[:1] }), "made different reads"},
		{"another block size", edited(func(r *guest.BenchResult) { r.Reads[1].BlockSize = 1 << 16 })[1:], "made different reads"},
		{"no time", edited(func(r *guest.BenchResult) { r.Reads[1].Seconds = 0 }), "made different reads"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := new(Bench)
			assert.ErrorContains(t, b.Compare(good, tt.peer), tt.want)
			assert.Error(t, new(Bench).Compare(tt.peer, good))
		})
	}
}
