package report

import (
	"fmt"
	"strings"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/testbed/guest"
)

// handedOver reports whether each stream bypassed the SMMU after each reset, and later had a stage
// with the mode's disposition.
func (r *Report) handedOver() (string, bool) {
	ok := len(r.Streams) > 0
	var seen []string
	for _, s := range r.Streams {
		handovers := 0
		past := false // there was a bypass since the last handover
		for i, b := range s.Binds {
			switch {
			case b.Disposition == bridge.Bypass.String() && b.SMMUDisabled:
				past = true
			case i == 0:
				ok = false // the first stage must be a bypass
			case past && b.Disposition == r.Mode.disposition():
				handovers++
				past = false
			}
		}
		ok = ok && handovers == r.Mode.Reboots+1
		seen = append(seen, fmt.Sprintf("%s %s before, %s after", s.Endpoint,
			size(int64(s.Moved[bridge.Bypass.String()])), size(int64(s.Moved[r.Mode.disposition()]))))
	}
	return strings.Join(seen, "; "), ok
}

// bootedFromDisk reports whether the firmware read the kernel and the initramfs with the SMMU
// disabled, and the guest's kernel used the same disk through stage 1.
func (r *Report) bootedFromDisk() (string, bool) {
	s := r.stream(guest.ESP)
	before, after := s.Moved[bridge.Bypass.String()], s.Moved[r.Mode.disposition()]
	want := r.Mode.Loaded * int64(r.Mode.Reboots+1)
	return fmt.Sprintf("%s of at least %s past the SMMU, %d bytes through it", size(int64(before)), size(want), after),
		want > 0 && int64(before) >= want && after > 0
}

func (r *Report) rebooted() (string, bool) {
	return fmt.Sprintf("%d of %d times", r.Reboots, r.Mode.Reboots), r.Reboots == r.Mode.Reboots
}
