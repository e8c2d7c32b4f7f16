package vsmmu

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// TestLifeOfAStream does what a driver does for one device, from reset to removal.
func TestLifeOfAStream(t *testing.T) {
	r := newRig(t)
	require.NoError(t, r.Attach(3, r.host, "disk"))
	assert.Equal(t, []bridge.GuestStage{{Disposition: bridge.Bypass, Disabled: true}}, r.binds(),
		"GBPA at reset lets a disabled SMMU pass DMA")

	r.setup()
	assert.Equal(t, []bridge.GuestStage{{Cause: smmuv3.CBadSTE}}, r.binds(), "the table is empty: V=0")

	r.ste(3, 0xb|cdAt)
	r.run(cmdCfgiSTE(3), cmdSync)
	assert.Equal(t, []bridge.GuestStage{{Disposition: bridge.Translate, S1ContextPtr: cdAt}}, r.binds())

	r.ste(3, 0x9)
	r.run(cmdCfgiSTE(3), cmdSync)
	assert.Equal(t, []bridge.GuestStage{{Disposition: bridge.Bypass}}, r.binds())

	require.NoError(t, r.Detach(3))
	_, attached := r.host.Stage(3)
	assert.False(t, attached)
}

func TestInvalidationsAreBatched(t *testing.T) {
	r := newRig(t)
	require.NoError(t, r.Attach(3, r.host, "disk"))
	r.setup()
	r.host.Forget()

	va := smmuv3.Command{0x12 | 7<<48, 0x1000}
	r.run(va, va, va)
	assert.Empty(t, r.host.Calls(), "invalidations wait for the SYNC")
	r.run(va, cmdSync)
	calls := r.host.Forget()
	require.Len(t, calls, 1)
	assert.Equal(t, []smmuv3.Command{va, va, va, va}, calls[0].Commands)

	r.run(cmdSync, cmdSync)
	assert.Empty(t, r.host.Calls())
}
