package report

import (
	"strings"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/testbed/guest"
)

// Mode is what the guest's kernel was asked for: what is right depends on it.
type Mode struct {
	Passthrough bool `json:"passthrough"` // streams bypass the SMMU (iommu.passthrough=1)
	Lazy        bool `json:"lazy"`        // invalidations are batched (iommu.strict=0)
	// PASIDBits is pasid-num-bits of the endpoint that has it.
	PASIDBits uint8 `json:"pasid_bits"`
	// PCI says that the endpoints are functions of the PCI bus, with MSI-X.
	PCI bool `json:"pci,omitempty"`
	// Stage2 says that the SMMU has a stage 2 in place of a stage 1.
	Stage2 bool `json:"stage2,omitempty"`
	// Stalls says that the SMMU has stalls, and the misbehaving endpoint dma-can-stall.
	Stalls bool `json:"stalls"`
	// Rebind says that the disks are taken from their driver and given back, once past stage 1.
	Rebind bool `json:"rebind,omitempty"`
	// Moves is how often the SMMU is to be saved, thrown away and restored.
	Moves int `json:"moves,omitempty"`
}

// DefaultCmdline is what the guest is asked for before its command line asks for anything else, since kernels' own
// defaults differ.
const DefaultCmdline = "iommu.passthrough=0 iommu.strict=1"

// ModeOf reads a kernel command line as Linux does: of a parameter given twice, the last counts.
func ModeOf(cmdline string, pasidBits uint8) Mode {
	m := Mode{PASIDBits: pasidBits}
	for _, word := range strings.Fields(cmdline) {
		if word == "--" { // the rest is for the init
			break
		}
		name, value, _ := strings.Cut(word, "=")
		switch on, known := kernelBool(value); {
		case !known:
		case name == "iommu.passthrough":
			m.Passthrough = on
		case name == "iommu.strict":
			m.Lazy = !on
		}
	}
	return m
}

// kernelBool is the kernel's kstrtobool.
func kernelBool(s string) (v, known bool) {
	switch s = strings.ToLower(s); {
	case s == "":
		return false, false
	case strings.ContainsAny(s[:1], "yt1"), strings.HasPrefix(s, "on"):
		return true, true
	case strings.ContainsAny(s[:1], "nf0"), strings.HasPrefix(s, "of"):
		return false, true
	}
	return false, false
}

// domain is the kind of translation that the guest's kernel chooses for its devices, as sysfs names it.
func (m Mode) domain() string {
	switch {
	case m.Passthrough:
		return guest.DomainIdentity
	case m.Lazy:
		return guest.DomainLazy
	}
	return guest.DomainStrict
}

// disposition is that of the stages that DMA is done with.
func (m Mode) disposition() string {
	switch {
	case m.Passthrough:
		return bridge.Bypass.String()
	case m.Stage2:
		return bridge.TranslateS2.String()
	}
	return bridge.Translate.String()
}

// linearBits is how large a table the Linux driver makes linear: up to 1,024 context descriptors, and as many where the
// SMMU has no tables of two levels.
const linearBits = 10

// cdTable is the table of context descriptors that the Linux driver makes for an endpoint with PASIDs.
func (r *Report) cdTable() (s1cdmax uint8, s1fmt string) {
	s1cdmax = min(r.Mode.PASIDBits, uint8(r.id(smmuv3.SSIDSIZE)))
	switch {
	case s1cdmax <= linearBits:
		return s1cdmax, smmuv3.S1FmtLinear.String()
	case r.id(smmuv3.CD2L) == 0:
		return linearBits, smmuv3.S1FmtLinear.String()
	}
	return s1cdmax, smmuv3.S1Fmt64K.String()
}

// id is what the guest was told of a field.
func (r *Report) id(f smmuv3.IDField) uint32 {
	for _, id := range r.IDs {
		if id.Field == f.String() && id.Register == f.Register() {
			return id.Guest
		}
	}
	return 0
}
