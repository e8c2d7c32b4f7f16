package report

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/go-vsmmu/vsmmuv3/internal/asjson"
)

// byFirmwareOnce returns a good report of a boot by firmware with one reboot.
func byFirmwareOnce() *Report {
	r := good()
	byACPI(r)
	r.Mode.UEFI, r.Mode.Reboots, r.Mode.Loaded, r.Reboots = true, 1, 10<<20, 1
	past := asjson.Bind{Disposition: "bypass", SMMUDisabled: true}
	abort := asjson.Bind{Disposition: "abort"}
	for i := range r.Streams {
		b := r.Streams[i].Binds[1]
		r.Streams[i].Binds = []asjson.Bind{past, abort, b, past, past, abort, b, past}
		r.Streams[i].Moved = map[string]uint64{"translate": r.Streams[i].Moved["translate"], "bypass": 5}
	}
	esp := r.Streams[0]
	esp.Endpoint, esp.Moved = "esp", map[string]uint64{"bypass": 21 << 20, "translate": 4096}
	r.Streams = append(r.Streams, esp)
	return r
}

func TestFirmwareHandsTheStreamsOver(t *testing.T) {
	const (
		handedOver = "each stream bypassed the SMMU in the firmware, and translated under the guest's driver"
		booted     = "esp: the firmware read kernel and initramfs past the SMMU, and the kernel read through it"
		rebooted   = "the guest rebooted through the firmware"
	)
	for _, tt := range []struct {
		name  string
		edit  func(*Report)
		fails []string
	}{
		{"as it should", func(*Report) {}, nil},
		{"an abort before the bypass", func(r *Report) { r.Streams[2].Binds[0].Disposition = "abort" }, []string{handedOver}},
		{"a bypass of an enabled SMMU", func(r *Report) { r.Streams[2].Binds[0].SMMUDisabled = false }, []string{handedOver}},
		{"one handover", func(r *Report) { r.Streams[0].Binds = r.Streams[0].Binds[:5] }, []string{handedOver}},
		{"no streams", func(r *Report) { r.Streams = r.Streams[:2] }, []string{booted}},
		{"too little read by the firmware", func(r *Report) { r.Streams[2].Moved["bypass"] = 19 << 20 }, []string{booted}},
		{"nothing read by the kernel", func(r *Report) { r.Streams[2].Moved["translate"] = 0 }, []string{booted}},
		{"no reboot", func(r *Report) { r.Reboots = 0 }, []string{rebooted}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := byFirmwareOnce()
			tt.edit(r)
			r.Judge()
			assert.Equal(t, tt.fails, failed(r))
		})
	}
}
