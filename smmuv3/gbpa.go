package smmuv3

// GBPA says what becomes of transactions while the SMMU is disabled (§6.3.14).
type GBPA uint32

const (
	// GBPA_ABORT makes transactions abort; otherwise they bypass.
	GBPA_ABORT GBPA = 1 << 20
	// GBPA_Update is set by software with a new value, and cleared by the SMMU
	// when that value has taken effect.
	GBPA_Update GBPA = 1 << 31
	// GBPA_Mask holds every field: MemAttr, MTCFG, ALLOCCFG, SHCFG, PRIVCFG,
	// INSTCFG, ABORT and Update.
	GBPA_Mask = GBPA_Update | GBPA_ABORT | 0xf3f1f
)

// Abort reports GBPA.ABORT.
func (g GBPA) Abort() bool { return g&GBPA_ABORT != 0 }
