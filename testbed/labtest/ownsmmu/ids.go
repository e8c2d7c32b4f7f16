package ownsmmu

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmu/idr"
)

// defaultIDs returns the default ID registers. They have all features of bridge/soft, with both
// stages and ATS with PRI. Linux needs FWB for nested stages.
func defaultIDs() smmuv3.IDRegs {
	ids := soft.Stage2IDs()
	for _, f := range []smmuv3.IDField{smmuv3.ATS, smmuv3.NS1ATS, smmuv3.PRI} {
		ids.Set(f, 1)
	}
	return ids
}

// Field returns the field of the ID registers with a name, in any case.
func Field(name string) (smmuv3.IDField, error) {
	for _, f := range smmuv3.IDFields() {
		if strings.EqualFold(f.String(), name) {
			return f, nil
		}
	}
	return 0, fmt.Errorf("%s is not a field of the ID registers (such as OAS or GRAN4K)", name)
}

// IDs are the ID registers of the SMMU.
type IDs struct {
	Host  smmuv3.IDRegs // of bridge/soft
	Guest smmuv3.IDRegs // that the guest reads
}

// Derive returns the default ID registers with other values in the given fields. It returns an
// error if no SMMU can have these registers.
func Derive(fields map[string]uint32) (IDs, error) {
	ids := IDs{Host: defaultIDs()}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		f, err := Field(name)
		if err != nil {
			return IDs{}, err
		}
		if v := fields[name]; v > f.Max() {
			return IDs{}, fmt.Errorf("%v = %d: more than %d", f, v, f.Max())
		}
		ids.Host.Set(f, fields[name])
	}
	host, err := soft.New(soft.Config{Memory: new(guestmem.Slots), IDs: ids.Host})
	if err != nil {
		return IDs{}, err
	}
	if err := host.Close(); err != nil {
		return IDs{}, err
	}
	// With an MSI to memory, Linux sees the end of a CMD_SYNC without an exit.
	policy := idr.Policy{smmuv3.MSI: 1, smmuv3.S2P: ids.Host.Get(smmuv3.S2P)}
	if ids.Host.Get(smmuv3.StallModel) != smmuv3.StallTerminate {
		policy[smmuv3.StallModel] = ids.Host.Get(smmuv3.StallModel)
	}
	result, err := idr.Derive(policy, bridge.Capabilities{IDs: ids.Host})
	ids.Guest = result.IDs
	return ids, err
}
