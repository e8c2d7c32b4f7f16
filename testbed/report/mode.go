package report

import (
	"strings"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/testbed/guest"
)

// Mode is how the guest was booted. The checks depend on it.
type Mode struct {
	Passthrough bool `json:"passthrough"` // streams bypass the SMMU (iommu.passthrough=1)
	Lazy        bool `json:"lazy"`        // invalidations are batched (iommu.strict=0)
	// PASIDBits is pasid-num-bits of the endpoint pasid.
	PASIDBits uint8 `json:"pasid_bits"`
	// PCI is true if the endpoints are PCI functions with MSI-X.
	PCI bool `json:"pci,omitempty"`
	// Mixed is true if the first endpoint alone is a PCI function.
	Mixed bool `json:"mixed,omitempty"`
	// Quick is true if the guest writes and reads less of the disks.
	Quick bool `json:"quick,omitempty"`
	// ACPI is true if ACPI tables describe the machine, and not a device tree.
	ACPI bool `json:"acpi,omitempty"`
	// UEFI is true if firmware boots the guest from a disk, with a bypass of stage 1 until the
	// guest's driver enables the SMMU.
	UEFI bool `json:"uefi,omitempty"`
	// Reboots is how often the guest is to reboot through the firmware, and Loaded how many bytes the
	// firmware reads at least each time.
	Reboots int   `json:"reboots,omitempty"`
	Loaded  int64 `json:"loaded,omitempty"`
	// Reserved is a range that the firmware makes the guest identity-map for the disk plain, as
	// sysfs prints it. It is empty if there is none.
	Reserved string `json:"reserved,omitempty"`
	// Stage2 is true if the SMMU has stage 2 and no stage 1.
	Stage2 bool `json:"stage2,omitempty"`
	// Stalls is true if the SMMU has stalls, and the misbehaving endpoint dma-can-stall.
	Stalls bool `json:"stalls"`
	// Rebind is true if the guest unbinds the disks from their driver and binds them again,
	// bypassing stage 1 once.
	Rebind bool `json:"rebind,omitempty"`
	// Moves is the number of times that the SMMU must be saved, discarded and restored.
	Moves int `json:"moves,omitempty"`
}

// DefaultCmdline comes before the rest of the guest's command line: kernels have different
// defaults.
const DefaultCmdline = "iommu.passthrough=0 iommu.strict=1"

// ModeOf parses a kernel command line as Linux does: the last of several equal parameters counts.
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

// kernelBool parses a boolean like the kernel's kstrtobool.
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

// domain returns the domain type that the guest's kernel chooses for its devices, as sysfs names
// it.
func (m Mode) domain() string {
	switch {
	case m.Passthrough:
		return guest.DomainIdentity
	case m.Lazy:
		return guest.DomainLazy
	}
	return guest.DomainStrict
}

// disposition returns the disposition of the stages that DMA uses.
func (m Mode) disposition() string {
	switch {
	case m.Passthrough:
		return bridge.Bypass.String()
	case m.Stage2:
		return bridge.TranslateS2.String()
	}
	return bridge.Translate.String()
}

// linearBits is the log2 size of the Linux driver's largest linear table: 1,024 Context
// Descriptors.
const linearBits = 10

// cdTable returns the table of Context Descriptors that the Linux driver makes for an endpoint with
// PASIDs.
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

// id returns the value of an ID register field that the guest reads.
func (r *Report) id(f smmuv3.IDField) uint32 {
	for _, id := range r.IDs {
		if id.Field == f.String() && id.Register == f.Register() {
			return id.Guest
		}
	}
	return 0
}
