package smmuv3

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// layout is a structure of the specification: its fields by name, each with its bits as the
// specification writes them. Fields of commands, events and page requests are in figures; they
// were checked against Linux's and QEMU's definitions.
type layout map[string]string

// layouts has every field of every structure, as literals.
var layouts = map[string]layout{
	"STE §5.2": {
		"V": "[0]", "Config": "[3:1]", "S1Fmt": "[5:4]", "S1ContextPtr": "[55:6]", "S1CDMax": "[63:59]",
		"S1DSS": "[65:64]", "S1CIR": "[67:66]", "S1COR": "[69:68]", "S1CSH": "[71:70]",
		"S2HWU59": "[72]", "S2HWU60": "[73]", "S2HWU61": "[74]", "S2HWU62": "[75]",
		"DRE": "[76]", "CONT": "[80:77]", "DCP": "[81]", "PPAR": "[82]", "MEV": "[83]", "SW_RESERVED": "[87:84]",
		"S1PIE": "[88]", "S2FWB": "[89]", "S1MPAM": "[90]", "S1STALLD": "[91]", "EATS": "[93:92]", "STRW": "[95:94]",
		"MemAttr": "[99:96]", "MTCFG": "[100]", "ALLOCCFG": "[104:101]", "SHCFG": "[109:108]", "NSCFG": "[111:110]",
		"PRIVCFG": "[113:112]", "INSTCFG": "[115:114]", "IMPLEMENTATION DEFINED": "[127:116] [159:144] [271:256]",
		"S2VMID": "[143:128]", "S2T0SZ": "[165:160]", "S2SL0": "[167:166]", "S2IR0": "[169:168]", "S2OR0": "[171:170]",
		"S2SH0": "[173:172]", "S2TG": "[175:174]", "S2PS": "[178:176]", "S2AA64": "[179]", "S2ENDI": "[180]", "S2AFFD": "[181]",
		"S2PTW": "[182]", "S2HD": "[183]", "S2HA": "[184]", "S2S": "[185]", "S2R": "[186]", "S2HAFT": "[187]", "S2PIE": "[188]",
		"S2POE": "[189]", "DPT_VMATCH": "[191:190]", "S2NSW": "[192]", "S2NSA": "[193]", "S2SL0_2": "[194]", "S2DS": "[195]",
		"S2TTB": "[247:196]", "S2SKL": "[254:253]", "PARTID": "[287:272]", "S_S2T0SZ": "[293:288]", "S_S2SL0": "[295:294]",
		"S_S2TG": "[303:302]", "MECID": "[319:304]", "PMG": "[327:320]", "MPAM_NS": "[328]", "AssuredOnly": "[329]",
		"TL0": "[330]", "TL1": "[331]", "VMSPtr": "[375:332]", "S2SW": "[384]", "S2SA": "[385]", "S_S2SL0_2": "[386]",
		"S_S2TTB": "[439:388]", "S_S2SKL": "[446:445]",
		"S2POI": "[511:448]", // S2POI<p> is [4p+451:4p+448]
	},
	"CD §5.4": {
		"T0SZ": "[5:0]", "TG0": "[7:6]", "IR0": "[9:8]", "OR0": "[11:10]", "SH0": "[13:12]", "EPD0": "[14]", "ENDI": "[15]",
		"T1SZ": "[21:16]", "TG1": "[23:22]", "IR1": "[25:24]", "OR1": "[27:26]", "SH1": "[29:28]", "EPD1": "[30]", "V": "[31]",
		"IPS": "[34:32]", "AFFD": "[35]", "WXN": "[36]", "UWXN": "[37]", "TBI0": "[38]", "TBI1": "[39]", "PAN": "[40]",
		"AA64": "[41]", "HD": "[42]", "HA": "[43]", "S": "[44]", "R": "[45]", "A": "[46]", "ASET": "[47]", "ASID": "[63:48]",
		"NSCFG0": "[64]", "HAD0": "[65]", "E0PD0": "[66]", "HAFT": "[67]", "TTB0": "[119:68]", "PnCH": "[122]", "EPAN": "[123]",
		"HWU059": "[124]", "HWU060": "[125]", "HWU061": "[126]", "HWU062": "[127]", // SKL0 is [127:126]
		"NSCFG1": "[128]", "HAD1": "[129]", "E0PD1": "[130]", "AIE": "[131]", "TTB1": "[183:132]", "DS": "[186]", "PIE": "[187]",
		"HWU159": "[188]", "HWU160": "[189]", "HWU161": "[190]", "HWU162": "[191]", // SKL1 is [191:190]
		"MAIR0": "[223:192]", "MAIR1": "[255:224]", "AMAIR0": "[287:256]", "AMAIR1": "[319:288]",
		"IMPLEMENTATION DEFINED": "[351:320]", "PARTID": "[367:352]", "PMG": "[375:368]",
		"PIIU": "[431:384]", "PIIP": "[495:448]", // PIIU<p> is [3p+386:3p+384], PIIP<p> is [3p+450:3p+448]
	},
	"stage 1 table §D8.3.1": {"AF": "[10]", "PXNTable": "[59]", "UXNTable": "[60]", "APTable": "[62:61]", "NSTable": "[63]"},
	"stage 1 leaf §D8.3.1": {"AttrIndx": "[4:2]", "NS": "[5]", "AP": "[7:6]", "SH": "[9:8]", "AF": "[10]", "nG": "[11]", "DBM": "[51]",
		"Contiguous": "[52]", "PXN": "[53]", "UXN": "[54]", "SW_RESERVED": "[58:55]"},
	"stage 2 leaf §D8.3.1": {"MemAttr": "[5:2]", "S2AP": "[7:6]", "SH": "[9:8]", "AF": "[10]", "DBM": "[51]", "Contiguous": "[52]",
		"XN": "[54:53]", "SW_RESERVED": "[58:55]"},
	"L1STD §5.1": {"Span": "[4:0]", "L2Ptr": "[55:6]"},
	"L1CD §5.3":  {"V": "[0]", "L2Ptr": "[55:12]"},

	"PREFETCH_CONFIG §4.2.1": {"opcode": "[7:0]", "SSec": "[10]", "SSV": "[11]", "SubstreamID": "[31:12]", "StreamID": "[63:32]"},
	"PREFETCH_ADDR §4.2.2": {"opcode": "[7:0]", "SSec": "[10]", "SSV": "[11]", "SubstreamID": "[31:12]", "StreamID": "[63:32]",
		"Size": "[68:64]", "Stride": "[73:69]", "Addr": "[127:76]"},
	"CFGI_STE §4.3.1":       {"opcode": "[7:0]", "SSec": "[10]", "StreamID": "[63:32]", "Leaf": "[64]"},
	"CFGI_STE_RANGE §4.3.2": {"opcode": "[7:0]", "SSec": "[10]", "StreamID": "[63:32]", "Range": "[68:64]"},
	"CFGI_CD §4.3.3":        {"opcode": "[7:0]", "SSec": "[10]", "SubstreamID": "[31:12]", "StreamID": "[63:32]", "Leaf": "[64]"},
	"CFGI_CD_ALL §4.3.4":    {"opcode": "[7:0]", "SSec": "[10]", "StreamID": "[63:32]"},
	"CFGI_VMS_PIDM §4.3.5":  {"opcode": "[7:0]", "SSec": "[10]", "VMID": "[47:32]"},
	"TLBI_NH_ALL §4.4.2.1":  {"opcode": "[7:0]", "VMID": "[47:32]"},
	"TLBI_NH_ASID §4.4.2.2": {"opcode": "[7:0]", "VMID": "[47:32]", "ASID": "[63:48]"},
	"TLBI_NH_VAA §4.4.2.3": {"opcode": "[7:0]", "NUM": "[16:12]", "SCALE": "[25:20]", "VMID": "[47:32]", "Leaf": "[64]",
		"TTL128": "[71]", "TTL": "[73:72]", "TG": "[75:74]", "Addr": "[127:76]"},
	"TLBI_NH_VA §4.4.2.4": {"opcode": "[7:0]", "NUM": "[16:12]", "SCALE": "[25:20]", "VMID": "[47:32]", "ASID": "[63:48]", "Leaf": "[64]",
		"TTL128": "[71]", "TTL": "[73:72]", "TG": "[75:74]", "Addr": "[127:76]"},
	"TLBI_EL2_ALL §4.4.2.7": {"opcode": "[7:0]"},
	"TLBI_EL2_VA §4.4.2.8": {"opcode": "[7:0]", "NUM": "[16:12]", "SCALE": "[25:20]", "ASID": "[63:48]", "Leaf": "[64]",
		"TTL128": "[71]", "TTL": "[73:72]", "TG": "[75:74]", "Addr": "[127:76]"},
	"TLBI_EL2_VAA §4.4.2.9": {"opcode": "[7:0]", "NUM": "[16:12]", "SCALE": "[25:20]", "Leaf": "[64]",
		"TTL128": "[71]", "TTL": "[73:72]", "TG": "[75:74]", "Addr": "[127:76]"},
	"TLBI_EL2_ASID §4.4.2.10": {"opcode": "[7:0]", "ASID": "[63:48]"},
	"TLBI_S2_IPA §4.4.3.1": {"opcode": "[7:0]", "NUM": "[16:12]", "SCALE": "[25:20]", "VMID": "[47:32]", "Leaf": "[64]",
		"TTL128": "[71]", "TTL": "[73:72]", "TG": "[75:74]", "Addr": "[127:76]"},
	"TLBI_S12_VMALL §4.4.3.2": {"opcode": "[7:0]", "VMID": "[47:32]"},
	"TLBI_NSNH_ALL §4.4.4.1":  {"opcode": "[7:0]"},
	"ATC_INV §4.5.1": {"opcode": "[7:0]", "Global": "[9]", "SSV": "[11]", "SubstreamID": "[31:12]", "StreamID": "[63:32]",
		"Size": "[69:64]", "Addr": "[127:76]"},
	"PRI_RESP §4.5.2":   {"opcode": "[7:0]", "SSV": "[11]", "SubstreamID": "[31:12]", "StreamID": "[63:32]", "PRGIndex": "[72:64]", "Resp": "[77:76]"},
	"DPTI_ALL §4.6.1":   {"opcode": "[7:0]"},
	"RESUME §4.7.1":     {"opcode": "[7:0]", "SSec": "[10]", "Ac": "[12]", "Ab": "[13]", "StreamID": "[63:32]", "STAG": "[79:64]"},
	"STALL_TERM §4.7.2": {"opcode": "[7:0]", "SSec": "[10]", "StreamID": "[63:32]"},
	"SYNC §4.7.3":       {"opcode": "[7:0]", "CS": "[13:12]", "MSH": "[23:22]", "MSIAttr": "[27:24]", "MSIData": "[63:32]", "MSIAddress": "[119:66]"},

	"F_UUT §7.3.2": {"type": "[7:0]", "SSV": "[11]", "SubstreamID": "[31:12]", "StreamID": "[63:32]", "Reason": "[95:80]",
		"PnU": "[97]", "InD": "[98]", "RnW": "[99]", "InputAddr": "[191:128]"},
	"C_BAD_STREAMID §7.3.3": {"type": "[7:0]", "SSV": "[11]", "SubstreamID": "[31:12]", "StreamID": "[63:32]"},
	"F_STE_FETCH §7.3.4": {"type": "[7:0]", "SSV": "[11]", "SubstreamID": "[31:12]", "StreamID": "[63:32]", "Reason": "[79:64]",
		"GPCF": "[80]", "FetchAddr": "[247:195]"},
	"C_BAD_STE §7.3.5":         {"type": "[7:0]", "SSV": "[11]", "SubstreamID": "[31:12]", "StreamID": "[63:32]"},
	"F_STREAM_DISABLED §7.3.7": {"type": "[7:0]", "StreamID": "[63:32]"},
	"F_TRANSL_FORBIDDEN §7.3.8": {"type": "[7:0]", "SSV": "[11]", "SubstreamID": "[31:12]", "StreamID": "[63:32]", "RnW": "[99]",
		"InputAddr": "[191:128]"},
	"C_BAD_SUBSTREAMID §7.3.9": {"type": "[7:0]", "SubstreamID": "[31:12]", "StreamID": "[63:32]"},
	"F_CD_FETCH §7.3.10": {"type": "[7:0]", "SSV": "[11]", "SubstreamID": "[31:12]", "StreamID": "[63:32]", "Reason": "[79:64]",
		"GPCF": "[80]", "FetchAddr": "[247:195]"},
	"C_BAD_CD §7.3.11": {"type": "[7:0]", "SSV": "[11]", "SubstreamID": "[31:12]", "StreamID": "[63:32]"},
	"F_WALK_EABT §7.3.12": {"type": "[7:0]", "SSV": "[11]", "SubstreamID": "[31:12]", "StreamID": "[63:32]", "Reason": "[79:64]",
		"PnU": "[97]", "InD": "[98]", "RnW": "[99]", "S2": "[103]", "CLASS": "[105:104]", "InputAddr": "[191:128]", "FetchAddr": "[247:195]"},
	"F_TRANSLATION §7.3.13": faultLayout(), "F_ADDR_SIZE §7.3.14": faultLayout(), "F_ACCESS §7.3.15": faultLayout(),
	"F_PERMISSION §7.3.16":   faultLayout("TTRnW", "[108]"),
	"F_CFG_CONFLICT §7.3.18": {"type": "[7:0]", "SSV": "[11]", "SubstreamID": "[31:12]", "StreamID": "[63:32]", "Reason": "[79:64]"},
	"F_VMS_FETCH §7.3.20": {"type": "[7:0]", "SSV": "[11]", "SubstreamID": "[31:12]", "StreamID": "[63:32]", "Reason": "[79:64]",
		"GPCF": "[80]", "FetchAddr": "[247:195]"},
	// The figures of the other structures have more fields. The tables omit them, since no second
	// source confirms them.
	"F_BAD_ATS_TREQ §7.3.6": {"type": "[7:0]", "SSV": "[11]", "SubstreamID": "[31:12]", "StreamID": "[63:32]", "InputAddr": "[191:128]"},
	"F_TLB_CONFLICT §7.3.17": {"type": "[7:0]", "SSV": "[11]", "SubstreamID": "[31:12]", "StreamID": "[63:32]", "Reason": "[79:64]",
		"PnU": "[97]", "InD": "[98]", "RnW": "[99]", "InputAddr": "[191:128]"},
	"E_PAGE_REQUEST §7.3.19": {"type": "[7:0]", "SSV": "[11]", "SubstreamID": "[31:12]", "StreamID": "[63:32]", "InputAddr": "[191:128]"},
	"DPTI_PA §4.6.2":         {"opcode": "[7:0]"},

	"page request §8": {"StreamID": "[31:0]", "SubstreamID": "[51:32]", "Priv": "[58]", "X": "[59]", "R": "[60]", "W": "[61]", "Last": "[62]",
		"SSV": "[63]", "PRGIndex": "[72:64]", "Address": "[127:76]"},

	"IDR0 §6.3.1": {"S2P": "[0]", "S1P": "[1]", "TTF": "[3:2]", "COHACC": "[4]", "BTM": "[5]", "HTTU": "[7:6]", "DORMHINT": "[8]", "Hyp": "[9]",
		"ATS": "[10]", "NS1ATS": "[11]", "ASID16": "[12]", "MSI": "[13]", "SEV": "[14]", "ATOS": "[15]", "PRI": "[16]", "VMW": "[17]",
		"VMID16": "[18]", "CD2L": "[19]", "VATOS": "[20]", "TTENDIAN": "[22:21]", "ATSRECERR": "[23]", "STALL_MODEL": "[25:24]",
		"TERM_MODEL": "[26]", "ST_LEVEL": "[28:27]", "RME_IMPL": "[30]"},
	"IDR1 §6.3.2": {"SIDSIZE": "[5:0]", "SSIDSIZE": "[10:6]", "PRIQS": "[15:11]", "EVENTQS": "[20:16]", "CMDQS": "[25:21]",
		"ATTR_PERMS_OVR": "[26]", "ATTR_TYPES_OVR": "[27]", "REL": "[28]", "QUEUES_PRESET": "[29]", "TABLES_PRESET": "[30]", "ECMDQ": "[31]"},
	"IDR2 §6.3.3": {"BA_VATOS": "[9:0]"},
	"IDR3 §6.3.4": {"HAD": "[2]", "PBHA": "[3]", "XNX": "[4]", "PPS": "[5]", "MPAM": "[7]", "FWB": "[8]", "STT": "[9]", "RIL": "[10]",
		"BBML": "[12:11]", "E0PD": "[13]", "PTWNNC": "[14]", "DPT": "[15]", "PASIDTT": "[16]", "EPAN": "[17]", "S1PI": "[18]", "S2PI": "[19]",
		"S2PO": "[20]", "THE": "[21]", "MTEPERM": "[22]", "AIE": "[23]"},
	"IDR4 §6.3.5":     {}, // IMPLEMENTATION DEFINED
	"IDR5 §6.3.6":     {"OAS": "[2:0]", "GRAN4K": "[4]", "GRAN16K": "[5]", "GRAN64K": "[6]", "DS": "[7]", "D128": "[8]", "VAX": "[11:10]", "STALL_MAX": "[31:16]"},
	"IDR6 §6.3.45":    {},
	"IIDR §6.3.7":     {"Implementer": "[11:0]", "Revision": "[15:12]", "Variant": "[19:16]", "ProductID": "[31:20]"},
	"AIDR §6.3.8":     {"ArchMinor": "[3:0]", "ArchMajor": "[7:4]"},
	"CR0 §6.3.9":      {"SMMUEN": "[0]", "PRIQEN": "[1]", "EVENTQEN": "[2]", "CMDQEN": "[3]", "ATSCHK": "[4]", "VMW": "[8:6]", "DPT_WALK_EN": "[10]"},
	"CR0ACK §6.3.10":  {"SMMUEN": "[0]", "PRIQEN": "[1]", "EVENTQEN": "[2]", "CMDQEN": "[3]", "ATSCHK": "[4]", "VMW": "[8:6]", "DPT_WALK_EN": "[10]"},
	"CR1 §6.3.11":     {"QUEUE_IC": "[1:0]", "QUEUE_OC": "[3:2]", "QUEUE_SH": "[5:4]", "TABLE_IC": "[7:6]", "TABLE_OC": "[9:8]", "TABLE_SH": "[11:10]"},
	"CR2 §6.3.12":     {"E2H": "[0]", "RECINVSID": "[1]", "PTM": "[2]", "REC_CFG_ATS": "[3]"},
	"STATUSR §6.3.13": {"DORMANT": "[0]"},
	"GBPA §6.3.14": {"MemAttr": "[3:0]", "MTCFG": "[4]", "ALLOCCFG": "[11:8]", "SHCFG": "[13:12]", "PRIVCFG": "[17:16]", "INSTCFG": "[19:18]",
		"ABORT": "[20]", "Update": "[31]"},
	"AGBPA §6.3.15":       {}, // IMPLEMENTATION DEFINED
	"IRQ_CTRL §6.3.16":    {"GERROR_IRQEN": "[0]", "PRIQ_IRQEN": "[1]", "EVENTQ_IRQEN": "[2]"},
	"IRQ_CTRLACK §6.3.18": {"GERROR_IRQEN": "[0]", "PRIQ_IRQEN": "[1]", "EVENTQ_IRQEN": "[2]"},
	"GERROR §6.3.19":      gerrorLayout, "GERRORN §6.3.20": gerrorLayout,
	"GERROR_IRQ_CFG0 §6.3.21": {"ADDR": "[55:2]"}, "GERROR_IRQ_CFG1 §6.3.22": {"DATA": "[31:0]"}, "GERROR_IRQ_CFG2 §6.3.23": {"MemAttr": "[3:0]", "SH": "[5:4]"},
	"STRTAB_BASE §6.3.24":     {"RA": "[62]", "ADDR": "[55:6]"},
	"STRTAB_BASE_CFG §6.3.25": {"LOG2SIZE": "[5:0]", "SPLIT": "[10:6]", "FMT": "[17:16]"},
	"CMDQ_BASE §6.3.26":       {"RA": "[62]", "ADDR": "[55:5]", "LOG2SIZE": "[4:0]"},
	"CMDQ_PROD §6.3.27":       {"WR": "[19:0]"},
	"CMDQ_CONS §6.3.28":       {"RD": "[19:0]", "ERR": "[30:24]"},
	"EVENTQ_BASE §6.3.29":     {"WA": "[62]", "ADDR": "[55:5]", "LOG2SIZE": "[4:0]"},
	"EVENTQ_IRQ_CFG0 §6.3.30": {"ADDR": "[55:2]"}, "EVENTQ_IRQ_CFG1 §6.3.31": {"DATA": "[31:0]"}, "EVENTQ_IRQ_CFG2 §6.3.32": {"MemAttr": "[3:0]", "SH": "[5:4]"},
	"PRIQ_BASE §6.3.33":     {"WA": "[62]", "ADDR": "[55:5]", "LOG2SIZE": "[4:0]"},
	"PRIQ_IRQ_CFG0 §6.3.34": {"ADDR": "[55:2]"}, "PRIQ_IRQ_CFG1 §6.3.35": {"DATA": "[31:0]"},
	"PRIQ_IRQ_CFG2 §6.3.36": {"MemAttr": "[3:0]", "SH": "[5:4]", "LO": "[31]"},
	"EVENTQ_PROD §6.3.95":   {"OVFLG": "[31]", "WR": "[19:0]"}, "EVENTQ_CONS §6.3.96": {"OVACKFLG": "[31]", "RD": "[19:0]"},
	"PRIQ_PROD §6.3.97": {"OVFLG": "[31]", "WR": "[19:0]"}, "PRIQ_CONS §6.3.98": {"OVACKFLG": "[31]", "RD": "[19:0]"},
}

var gerrorLayout = layout{"CMDQ_ERR": "[0]", "EVENTQ_ABT_ERR": "[2]", "PRIQ_ABT_ERR": "[3]", "MSI_CMDQ_ABT_ERR": "[4]", "MSI_EVENTQ_ABT_ERR": "[5]",
	"MSI_PRIQ_ABT_ERR": "[6]", "MSI_GERROR_ABT_ERR": "[7]", "SFM_ERR": "[8]", "CMDQP_ERR": "[9]", "DPT_ERR": "[10]"}

// faultLayout returns the layout of a translation fault, with additional fields.
func faultLayout(more ...string) layout {
	l := layout{"type": "[7:0]", "SSV": "[11]", "SubstreamID": "[31:12]", "StreamID": "[63:32]", "STAG": "[79:64]", "Stall": "[95]",
		"PnU": "[97]", "InD": "[98]", "RnW": "[99]", "NSIPA": "[102]", "S2": "[103]", "CLASS": "[105:104]", "InputAddr": "[191:128]", "IPA": "[247:204]"}
	for i := 0; i < len(more); i += 2 {
		l[more[i]] = more[i+1]
	}
	return l
}

// tables returns the package's rows of every structure, by name.
func tables() map[string][]row {
	all := map[string][]row{
		"STE":          slices.Concat(steRows, steRowsS1, steRowsAny, steRowsS2),
		"CD":           cdRows,
		"L1STD":        l1stdRows,
		"L1CD":         l1cdRows,
		"page request": priRows,

		"stage 1 table": slices.Concat(descRowsTable, descRowsLimits),
		"stage 1 leaf":  descRowsS1,
		"stage 2 leaf":  descRowsS2,
	}
	for op := range commands {
		if c := &commands[op]; c.name != "" && !c.other {
			all[c.name] = slices.Concat(append([][]row{cmdRowOpcode}, c.fields...)...)
		}
	}
	for typ := range events {
		if e := &events[typ]; e.name != "" {
			all[e.name] = slices.Concat(append([][]row{evtRows}, e.fields...)...)
		}
	}
	for _, r := range registers {
		all[r.name] = r.rows
	}
	return all
}

// Every field of the specification's layouts has a row with the same bits, and every row is such a
// field.
func TestLayouts(t *testing.T) {
	got := map[string]layout{}
	for name, rows := range tables() {
		l := layout{}
		for i := range rows {
			f := Field{Hi: rows[i].hi(), Lo: rows[i].lo()}
			l[rows[i].name] = strings.TrimSpace(l[rows[i].name] + " " + f.Bits())
		}
		got[name] = l
	}
	want := map[string]layout{}
	for title, l := range layouts {
		name, _, ok := strings.Cut(title, " §")
		assert.True(t, ok, title)
		want[name] = l
	}
	assert.Equal(t, slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(got)), "structures")
	for name := range want {
		assert.Equal(t, want[name], got[name], name)
	}
}

// No two fields of a structure share a bit, and no field crosses a double-word. A field with the bits
// of an address leaves them in their place.
func TestLayoutsDoNotOverlap(t *testing.T) {
	for name, rows := range tables() {
		used := map[uint]string{}
		for i := range rows {
			r := &rows[i]
			assert.Equal(t, r.lo()/64, r.hi()/64, "%s.%s", name, r.name)
			for bit := r.lo(); bit <= r.hi(); bit++ {
				assert.Empty(t, used[bit], "%s.%s shares bit %d", name, r.name, bit)
				used[bit] = r.name
			}
			ones := ^uint64(0)
			if r.place&address != 0 {
				assert.Equal(t, r.mask(), r.of(ones), "%s.%s", name, r.name)
				assert.Equal(t, r.mask(), r.in(0, ones), "%s.%s", name, r.name)
			} else {
				assert.Equal(t, r.mask()>>(r.lo()%64), r.of(ones), "%s.%s", name, r.name)
				assert.Equal(t, r.mask(), r.in(0, ones), "%s.%s", name, r.name)
			}
			assert.Equal(t, ^r.mask(), r.in(ones, 0), "%s.%s changes no other bit", name, r.name)
			if r.defined != nil {
				for _, ids := range []IDRegs{{}, AllFeatures()} {
					assert.Zero(t, r.definedMask(&ids)&^r.mask(), "%s.%s", name, r.name)
				}
			}
		}
	}
	assert.Equal(t, "[5:4] [31]", fmt.Sprint(Field{Hi: 5, Lo: 4}.Bits(), " ", Field{Hi: 31, Lo: 31}.Bits()))
}
