package smmuv3

// Sizes in bytes of the Context Descriptor table's parts (§5.3, §5.4).
const (
	CDSize   = 64
	L1CDSize = 8
)

// L1CD is a Level 1 Context Descriptor, V [0] and L2Ptr [55:12] (§5.3).
type L1CD uint64

func (d L1CD) V() bool { return bit(uint64(d), 0) }

// L2Ptr is the address of the leaf table, aligned to 4 KiB; bits above the
// output address size are not cut.
func (d L1CD) L2Ptr() uint64 { return uint64(d) & BaseAddrMask &^ 0xfff }

// CD is a Context Descriptor (§5.4): what the guest says of one of a stream's
// address spaces.
//
//	dw0  T0SZ [5:0]  TG0 [7:6]  IR0 [9:8]  OR0 [11:10]  SH0 [13:12]  EPD0 [14]  ENDI [15]
//	     T1SZ [21:16]  TG1 [23:22]  IR1 [25:24]  OR1 [27:26]  SH1 [29:28]  EPD1 [30]  V [31]
//	     IPS [34:32]  AFFD [35]  WXN [36]  UWXN [37]  TBI [39:38]  PAN [40]  AA64 [41]
//	     HD [42]  HA [43]  S [44]  R [45]  A [46]  ASET [47]  ASID [63:48]
//	dw1  TTB0   dw2  TTB1   dw3  MAIR   dw4  AMAIR
type CD [8]uint64

// LoadCD reads a CD from its 64 bytes in memory.
func LoadCD(p *[CDSize]byte) (c CD) {
	loadWords(c[:], p[:])
	return c
}

// Put writes the CD as it lies in memory.
func (c CD) Put(p *[CDSize]byte) { putWords(p[:], c[:]) }
