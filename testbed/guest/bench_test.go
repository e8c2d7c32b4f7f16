package guest

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestBenchResultFitsAConsoleLine(t *testing.T) {
	r := BenchResult{Hello: Hello{Release: "6.1.0", PageSize: 4096, CPUs: 2}, IOMMU: DomainStrict}
	for _, b := range benchmarks {
		r.Reads = append(r.Reads, BenchRead{b.blockSize, b.bytes, 123.456789})
		assert.Zero(t, b.bytes%int64(b.blockSize))
		assert.LessOrEqual(t, b.bytes, int64(BenchSize))
	}
	r.Error = strings.Repeat("e", 1000)
	assert.Less(t, len(r.String()), 900)

	got, ok := ParseBenchResult("[   12.345678] " + r.String())
	assert.True(t, ok)
	r.Error = r.Error[:300]
	assert.Equal(t, r, got)

	for _, line := range []string{"", "Booting Linux", benchMark, benchMark + "{", "[ 1.0] virtio_blk: vda"} {
		_, ok := ParseBenchResult(line)
		assert.False(t, ok, line)
	}
}
