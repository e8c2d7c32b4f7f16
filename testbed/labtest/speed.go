package labtest

import "fmt"

// Speed is how fast the guest reads the NVMe disk: of the turns by each way, the quickest. It is a figure, and no check, since it
// depends on what else the machine does: the emulated host alone keeps three threads busy.
type Speed struct {
	BytesPerSecond           float64 `json:"bytes_per_second"`             // with strict invalidation
	PastStage1BytesPerSecond float64 `json:"past_stage1_bytes_per_second"` // as with iommu.passthrough=1
	Ratio                    float64 `json:"ratio"`                        // of the first to the second; 0 if they were not measured
}

// aim is what Ratio is to reach where the machine does nothing else.
const aim = 0.5

func speedOf(through, past Read) (s Speed) {
	if through.Seconds > 0 && past.Seconds > 0 {
		s.BytesPerSecond, s.PastStage1BytesPerSecond = through.BytesPerSecond(), past.BytesPerSecond()
		s.Ratio = s.BytesPerSecond / s.PastStage1BytesPerSecond
	}
	return s
}

func (s Speed) String() string {
	const mib = 1 << 20
	return fmt.Sprintf("%.1f MiB/s, and %.1f past stage 1: %.2f times (the aim, on a machine that does nothing else: %.1f)",
		s.BytesPerSecond/mib, s.PastStage1BytesPerSecond/mib, s.Ratio, aim)
}

// quickest is the turn of a name that the least else on the machine was in the way of.
func (g *Guest) quickest(name string) (best Read) {
	for _, read := range g.Reads {
		if read.Name == name && (best.Seconds == 0 || read.BytesPerSecond() > best.BytesPerSecond()) {
			best = read
		}
	}
	return best
}
