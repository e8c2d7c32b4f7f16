package machine

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestLogHasWarningsButNoFaults(t *testing.T) {
	for line, want := range map[string]string{
		"<4>[   12.3] WARNING: CPU: 0 PID: 1 at x.c:1": "[   12.3] WARNING: CPU: 0 PID: 1 at x.c:1",
		"<4>WARNING: without a time":                   "WARNING: without a time",
		"<4>**      NOTICE      **":                    "",
		"<4>":                                          "",
		"<6>[    1.0] usual":                           "",
		"<3>[   13.0] arm-smmu-v3 9050000.iommu: event 0x10 received:":                                   "",
		"<3>[   13.0] arm-smmu-v3 9050000.iommu: \t0x0000001000000010":                                   "",
		"<3>[   13.0] arm-smmu-v3 9050000.iommu: unpriv data read s2 \"Input address caused\" stag: 0x0": "",
		"<3>[   13.0] arm-smmu-v3 9050000.iommu: CMD_SYNC timeout at 0x10":                               "[   13.0] arm-smmu-v3 9050000.iommu: CMD_SYNC timeout at 0x10",
		"<4>[    1.0] ** IOMMU DebugFS SUPPORT HAS BEEN ENABLED **":                                      "",
		"<4>[    1.0] ":         "",
		"not a line of the log": "",
	} {
		text, ok := logged(line)
		assert.Equal(t, want != "", ok, line)
		if ok {
			assert.Equal(t, want, text)
		}
	}
}
