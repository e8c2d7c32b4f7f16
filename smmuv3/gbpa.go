package smmuv3

// GBPA says what becomes of transactions while the SMMU is disabled (§6.3.14).
type GBPA uint32

const (
	// GBPAAbort makes transactions abort; otherwise they bypass.
	GBPAAbort GBPA = 1 << 20
	// GBPAUpdate is set by software with a new value, and cleared by the SMMU
	// when that value has taken effect.
	GBPAUpdate GBPA = 1 << 31
	// GBPAMask holds every field: MemAttr, MTCFG, ALLOCCFG, SHCFG, PRIVCFG,
	// INSTCFG, ABORT and Update.
	GBPAMask = GBPAUpdate | GBPAAbort | 0xf3f1f
)

// Abort reports GBPA.ABORT.
func (g GBPA) Abort() bool { return g&GBPAAbort != 0 }
