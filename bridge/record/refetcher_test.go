package record

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

func TestRefetchAsksTheDevice(t *testing.T) {
	h := NewRefetcher(bridge.Capabilities{})
	assert.False(t, h.Refetch(3), "no device")
	var asked []smmuv3.StreamID
	h.SetSTERefetch(func(sid smmuv3.StreamID) bool {
		asked = append(asked, sid)
		return sid == 4
	})
	assert.False(t, h.Refetch(3))
	assert.True(t, h.Refetch(4))
	h.SetSTERefetch(nil)
	assert.False(t, h.Refetch(4), "released")
	assert.Equal(t, []smmuv3.StreamID{3, 4}, asked)
	assert.Equal(t, []string{"STE refetch", "STE refetch nil"}, lines(h.Claims()))
}
