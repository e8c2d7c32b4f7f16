package labtest

import "fmt"

// Speed is the speed at which the guest reads the NVMe disk, in the fastest turn of each kind. No
// check judges the speed, since it depends on the machine's load. The emulated host alone keeps
// three threads busy.
type Speed struct {
	BytesPerSecond       float64 `json:"bytes_per_second"`        // with strict invalidation
	BypassBytesPerSecond float64 `json:"bypass_bytes_per_second"` // with stage 1 bypassed, as with iommu.passthrough=1
	Ratio                float64 `json:"ratio"`                   // of the first to the second; 0 if not measured
}

// aim is the Ratio to expect on a machine without other load.
const aim = 0.5

func speedOf(strict, bypass Read) (s Speed) {
	if strict.Seconds > 0 && bypass.Seconds > 0 {
		s.BytesPerSecond, s.BypassBytesPerSecond = strict.BytesPerSecond(), bypass.BytesPerSecond()
		s.Ratio = s.BytesPerSecond / s.BypassBytesPerSecond
	}
	return s
}

func (s Speed) String() string {
	const mib = 1 << 20
	return fmt.Sprintf(
		"%.1f MiB/s with strict invalidation, %.1f MiB/s with stage 1 bypassed: "+
			"ratio %.2f (usual without other load: %.1f)",
		s.BytesPerSecond/mib,
		s.BypassBytesPerSecond/mib,
		s.Ratio,
		aim,
	)
}

// fastest returns the fastest read with a name.
func (g *Guest) fastest(name string) (best Read) {
	for _, read := range g.Reads {
		if read.Name == name && (best.Seconds == 0 || read.BytesPerSecond() > best.BytesPerSecond()) {
			best = read
		}
	}
	return best
}
