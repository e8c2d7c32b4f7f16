package guest

import (
	"encoding/json"
	"strings"
)

// BenchRole is the first argument of this program as the guest's init of the benchmark. It needs nothing of its machine but
// a console, an SMMU and a disk with the serial BenchDisk, so that it is the same on every VMM.
const BenchRole = "guest-bench"

// BenchDisk is the serial of the disk that is read, BenchSize its size.
const (
	BenchDisk = "bench"
	BenchSize = 32 << 20
)

// benchmarks are the reads that are timed: each block size several times, of which the best counts. All lie in BenchSize. A
// block takes milliseconds where KVM is emulated, whatever its size.
var benchmarks = []struct {
	blockSize int
	bytes     int64
}{
	{4 << 10, 1 << 20},
	{64 << 10, 8 << 20},
	{1 << 20, BenchSize},
}

// benchRounds is how often each is repeated.
const benchRounds = 3

// BenchResult is what the init of the benchmark says, once, at its end.
type BenchResult struct {
	Hello
	IOMMU string      `json:"iommu_type"` // of the disk's group: a Domain constant; empty without an IOMMU
	Reads []BenchRead `json:"reads"`
	Error string      `json:"error,omitempty"`
}

// BenchRead is a sequential read past the page cache.
type BenchRead struct {
	BlockSize int     `json:"block_size"`
	Bytes     int64   `json:"bytes"`
	Seconds   float64 `json:"seconds"` // the best time, by the guest's clock
}

// benchMark begins the result on the console, after what the kernel puts before its lines.
const benchMark = "vsmmu-bench: "

// String is the result as it appears on the console. The kernel takes no longer lines than some 900 bytes.
func (r BenchResult) String() string {
	r.Error = r.Error[:min(len(r.Error), 300)]
	text, err := json.Marshal(r)
	if err != nil {
		return benchMark + err.Error() // a time that is no number
	}
	return benchMark + string(text)
}

// ParseBenchResult looks for a result in a line of the guest's console.
func ParseBenchResult(line string) (r BenchResult, ok bool) {
	_, text, found := strings.Cut(line, benchMark)
	return r, found && json.Unmarshal([]byte(text), &r) == nil
}
