package smmuv3

import "fmt"

// cdRows are the fields of §5.4.
var cdRows = []fieldRow{
	{name: "V", lo: 31, wide: 1, mean: oneOf("invalid", "valid")},
	{name: "AA64", lo: 41, wide: 1, mean: oneOf("VMSAv8-32 LPAE tables", "VMSAv8-64 tables")},
	{name: "ASID", lo: 48, wide: 16},
	{name: "ASET", lo: 47, wide: 1, mean: oneOf("shared with the processors", "not shared with the processors")},
	{name: "IPS", lo: 32, wide: 3, mean: addressSize},
	{name: "ENDI", lo: 15, wide: 1, mean: littleOrBig},
	{name: "T0SZ", lo: 0, wide: 6, mean: inputSize},
	{name: "TG0", lo: 6, wide: 2, mean: oneOf("4 KiB", "64 KiB", "16 KiB", "reserved")},
	{name: "IR0", lo: 8, wide: 2, mean: tableCacheability},
	{name: "OR0", lo: 10, wide: 2, mean: tableCacheability},
	{name: "SH0", lo: 12, wide: 2, mean: shareability},
	{name: "EPD0", lo: 14, wide: 1, mean: translateHalf},
	{name: "TBI0", lo: 38, wide: 1, mean: oneOf("", "the top byte is ignored")},
	{name: "HAD0", lo: 65, wide: 1},
	{name: "E0PD0", lo: 66, wide: 1},
	{name: "TTB0", lo: 68, wide: 52, shift: 4},
	{name: "T1SZ", lo: 16, wide: 6, mean: inputSize},
	{name: "TG1", lo: 22, wide: 2, mean: oneOf("reserved", "16 KiB", "4 KiB", "64 KiB")},
	{name: "IR1", lo: 24, wide: 2, mean: tableCacheability},
	{name: "OR1", lo: 26, wide: 2, mean: tableCacheability},
	{name: "SH1", lo: 28, wide: 2, mean: shareability},
	{name: "EPD1", lo: 30, wide: 1, mean: translateHalf},
	{name: "TBI1", lo: 39, wide: 1, mean: oneOf("", "the top byte is ignored")},
	{name: "HAD1", lo: 129, wide: 1},
	{name: "E0PD1", lo: 130, wide: 1},
	{name: "TTB1", lo: 132, wide: 52, shift: 4},
	{name: "AFFD", lo: 35, wide: 1, mean: oneOf("a clear Access flag faults", "Access flags never fault")},
	{name: "WXN", lo: 36, wide: 1},
	{name: "UWXN", lo: 37, wide: 1},
	{name: "PAN", lo: 40, wide: 1},
	{name: "EPAN", lo: 123, wide: 1},
	{name: "HD", lo: 42, wide: 1},
	{name: "HA", lo: 43, wide: 1},
	{name: "HAFT", lo: 67, wide: 1},
	{name: "S", lo: 44, wide: 1, mean: oneOf("faults terminate", "faults stall")},
	{name: "R", lo: 45, wide: 1, mean: oneOf("faults are not recorded", "faults are recorded")},
	{name: "A", lo: 46, wide: 1, mean: oneOf("terminated: reads zero, writes ignored", "terminated: abort")},
	{name: "MAIR", lo: 192, wide: 64},
	{name: "AMAIR", lo: 256, wide: 64},
}

func inputSize(v uint64) string { return fmt.Sprintf("addresses of %d bits", 64-v) }

// Fields explains the CD field by field.
func (c CD) Fields() []Field { return explain(c[:], cdRows) }
