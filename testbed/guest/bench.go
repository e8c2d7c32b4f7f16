package guest

import (
	"encoding/json"
	"strings"
)

// BenchRole is the first argument of cmd/testbed when it is the guest's init in the benchmark. The
// init needs a console, an SMMU and a disk with the serial BenchDisk, which every VMM can provide.
const BenchRole = "guest-bench"

// BenchDisk is the serial of the disk that the benchmark reads, BenchSize its size in bytes.
const (
	BenchDisk = "bench"
	BenchSize = 32 << 20
)

// benchmarks are the measured reads. None exceeds BenchSize. With emulated KVM, a block of any size
// takes milliseconds.
var benchmarks = []struct {
	blockSize int
	bytes     int64
}{
	{4 << 10, 1 << 20},
	{64 << 10, 8 << 20},
	{1 << 20, BenchSize},
}

// benchRounds is the number of times that each read is made; the best counts.
const benchRounds = 3

// BenchResult is the result that the benchmark's init prints at its end.
type BenchResult struct {
	Hello
	IOMMU string      `json:"iommu_type"` // of the disk's group: a Domain constant; empty without an IOMMU
	Reads []BenchRead `json:"reads"`
	Error string      `json:"error,omitempty"`
}

// BenchRead is a sequential read with O_DIRECT.
type BenchRead struct {
	BlockSize int     `json:"block_size"`
	Bytes     int64   `json:"bytes"`
	Seconds   float64 `json:"seconds"` // the best time, by the guest's clock
}

// benchMark precedes the result on the console, after the kernel's own prefix.
const benchMark = "vsmmu-bench: "

// String returns the line for the console. The kernel truncates lines at about 900 bytes, so String
// truncates the error.
func (r BenchResult) String() string {
	r.Error = r.Error[:min(len(r.Error), 300)]
	text, err := json.Marshal(r)
	if err != nil {
		return benchMark + err.Error() // Seconds is NaN or infinite
	}
	return benchMark + string(text)
}

// ParseBenchResult returns the result in a line of the guest's console, if it has one.
func ParseBenchResult(line string) (r BenchResult, ok bool) {
	_, text, found := strings.Cut(line, benchMark)
	return r, found && json.Unmarshal([]byte(text), &r) == nil
}
