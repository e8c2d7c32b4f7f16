package smmuv3

import "fmt"

// cdRows are the fields of §5.4.
var cdRows = []row{
	{name: "V", place: 31 + 1*wide, mean: oneOf("invalid", "valid")},
	{name: "AA64", place: 41 + 1*wide, mean: oneOf("VMSAv8-32 LPAE tables", "VMSAv8-64 tables")},
	{name: "ASID", place: 48 + 16*wide},
	{name: "ASET", place: 47 + 1*wide, mean: oneOf("shared with the processors", "not shared with the processors")},
	{name: "IPS", place: 32 + 3*wide, mean: addressSize},
	{name: "ENDI", place: 15 + 1*wide, mean: littleOrBig},
	{name: "T0SZ", place: 0 + 6*wide, mean: inputSize},
	{name: "TG0", place: 6 + 2*wide, mean: oneOf("4 KiB", "64 KiB", "16 KiB", "reserved")},
	{name: "IR0", place: 8 + 2*wide, mean: tableCacheability},
	{name: "OR0", place: 10 + 2*wide, mean: tableCacheability},
	{name: "SH0", place: 12 + 2*wide, mean: shareability},
	{name: "EPD0", place: 14 + 1*wide, mean: halfEnabled},
	{name: "TBI0", place: 38 + 1*wide, mean: oneOf("", "the top byte is ignored")},
	{name: "HAD0", place: 65 + 1*wide},
	{name: "E0PD0", place: 66 + 1*wide},
	{name: "TTB0", place: 68 + 52*wide + address},
	{name: "T1SZ", place: 16 + 6*wide, mean: inputSize},
	{name: "TG1", place: 22 + 2*wide, mean: oneOf("reserved", "16 KiB", "4 KiB", "64 KiB")},
	{name: "IR1", place: 24 + 2*wide, mean: tableCacheability},
	{name: "OR1", place: 26 + 2*wide, mean: tableCacheability},
	{name: "SH1", place: 28 + 2*wide, mean: shareability},
	{name: "EPD1", place: 30 + 1*wide, mean: halfEnabled},
	{name: "TBI1", place: 39 + 1*wide, mean: oneOf("", "the top byte is ignored")},
	{name: "HAD1", place: 129 + 1*wide},
	{name: "E0PD1", place: 130 + 1*wide},
	{name: "TTB1", place: 132 + 52*wide + address},
	{name: "AFFD", place: 35 + 1*wide, mean: oneOf("a clear Access flag faults", "Access flags never fault")},
	{name: "WXN", place: 36 + 1*wide},
	{name: "UWXN", place: 37 + 1*wide},
	{name: "PAN", place: 40 + 1*wide},
	{name: "EPAN", place: 123 + 1*wide},
	{name: "HD", place: 42 + 1*wide},
	{name: "HA", place: 43 + 1*wide},
	{name: "HAFT", place: 67 + 1*wide},
	{name: "S", place: 44 + 1*wide, mean: oneOf("faults terminate", "faults stall")},
	{name: "R", place: 45 + 1*wide, mean: oneOf("faults are not recorded", "faults are recorded")},
	{name: "A", place: 46 + 1*wide, mean: oneOf("terminated: reads zero, writes ignored", "terminated: abort")},
	{name: "MAIR", place: 192 + 64*wide},
	{name: "AMAIR", place: 256 + 64*wide},
}

func inputSize(v uint64) string { return fmt.Sprintf("addresses of %d bits", 64-v) }

// Fields explains the CD field by field.
func (c CD) Fields() []Field { return explain(c[:], cdRows) }
