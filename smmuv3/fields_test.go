package smmuv3

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// explained returns the fields that are not 0, with their bits.
func explained(fields []Field) string {
	var s []string
	for _, f := range fields {
		if f.Value != 0 {
			s = append(s, fmt.Sprintf("%s%s=%#x", f.Name, f.Bits(), f.Value))
		}
	}
	return strings.Join(s, " ")
}

// The words follow the layouts of §5.2, §5.4, §7.3 and Chapter 4.
func TestFields(t *testing.T) {
	for _, c := range []struct {
		name   string
		fields []Field
		want   string
	}{
		{"an STE that aborts has no other field", STE{0xffffffff_fffffff1 &^ 0x08, ^uint64(0)}.Fields(), "V[0]=0x1"},
		{"an invalid STE", STE{0x0a}.Fields(), "Config[3:1]=0x5"},
		{
			"an STE of stage 1", STE{0x50000000_0040102b, 0x0000_1000_188000b6}.Fields(),
			"V[0]=0x1 Config[3:1]=0x5 S1Fmt[5:4]=0x2 S1ContextPtr[55:6]=0x401000 S1CDMax[63:59]=0xa " +
				"S1DSS[65:64]=0x2 S1CIR[67:66]=0x1 S1COR[69:68]=0x3 S1CSH[71:70]=0x2 " +
				"SW_RESERVED[87:84]=0x8 S1STALLD[91]=0x1 EATS[93:92]=0x1 SHCFG[109:108]=0x1",
		},
		{
			"an STE of stage 2", STE{0x0d, 0, 0x0408_0000_0000_0007 | 25<<32, 0x1234_5670}.Fields(),
			"V[0]=0x1 Config[3:1]=0x6 S2VMID[143:128]=0x7 S2T0SZ[165:160]=0x19 S2AA64[179]=0x1 S2R[186]=0x1 S2TTB[247:196]=0x12345670",
		},
		{"bits of no field", STE{0x9 | 1<<56}.Fields(), "V[0]=0x1 Config[3:1]=0x4 reserved[56]=0x1"},
		{
			"a CD as Linux writes it", CD{0x0007_6205_c080_3510, 0x4321_0000}.Fields(),
			"V[31]=0x1 AA64[41]=0x1 ASID[63:48]=0x7 IPS[34:32]=0x5 T0SZ[5:0]=0x10 IR0[9:8]=0x1 OR0[11:10]=0x1 SH0[13:12]=0x3 TTB0[119:68]=0x43210000 TG1[23:22]=0x2 EPD1[30]=0x1 R[45]=0x1 A[46]=0x1",
		},
		{
			"F_TRANSLATION", Event{0x0000_0010_0003_4810, 0x0000_0208_0000_0000, 0x5bad_0000_1234, 0}.Fields(),
			"type[7:0]=0x10 StreamID[63:32]=0x10 SSV[11]=0x1 SubstreamID[31:12]=0x34 RnW[99]=0x1 CLASS[105:104]=0x2 InputAddr[191:128]=0x5bad00001234",
		},
		{"F_STE_FETCH", Event{0x10_0000_0003, 0, 0, 0x1238}.Fields(), "type[7:0]=0x3 StreamID[63:32]=0x10 FetchAddr[247:195]=0x1238"},
		{"C_BAD_SUBSTREAMID", Event{0x10_0003_4008}.Fields(), "type[7:0]=0x8 StreamID[63:32]=0x10 SubstreamID[31:12]=0x34"},
		{"CFGI_STE", Command{0x10_0000_0003, 1}.Fields(), "opcode[7:0]=0x3 StreamID[63:32]=0x10 Leaf[64]=0x1"},
		{
			"TLBI_NH_VA of a range", Command{0x0007_0000_0021_3012, 0xffff_f000_1000_0501}.Fields(),
			"opcode[7:0]=0x12 ASID[63:48]=0x7 Addr[127:76]=0xfffff00010000000 Leaf[64]=0x1 NUM[16:12]=0x13 SCALE[25:20]=0x2 TTL[73:72]=0x1 TG[75:74]=0x1",
		},
		{"SYNC with an MSI", Command{0x1234_5678_03c0_1046, 0x8090_0040}.Fields(), "opcode[7:0]=0x46 CS[13:12]=0x1 MSH[23:22]=0x3 MSIAttr[27:24]=0x3 MSIData[63:32]=0x12345678 MSIAddress[119:66]=0x80900040"},
		{"ATC_INV", Command{0x21_0000_5a40, 52}.Fields(), "opcode[7:0]=0x40 StreamID[63:32]=0x21 SSV[11]=0x1 SubstreamID[31:12]=0x5 Global[9]=0x1 Size[69:64]=0x34"},
	} {
		t.Run(c.name, func(t *testing.T) { assert.Equal(t, c.want, explained(c.fields)) })
	}
}

// Fields explains page requests, level-1 descriptors and registers.
func TestFields_of_others(t *testing.T) {
	for _, c := range []struct {
		name   string
		fields []Field
		want   string
	}{
		{"page request", PageRequest{0xd409_abcd_1234_5678, 0xffff_f1ff}.Fields(),
			"StreamID[31:0]=0x12345678 SSV[63]=0x1 SubstreamID[51:32]=0x9abcd Last[62]=0x1 R[60]=0x1 Priv[58]=0x1 " +
				"PRGIndex[72:64]=0x1ff Address[127:76]=0xfffff000"},
		{"L1STD", L1STD(0x80ff_ffff_ffff_ffea).Fields(), "Span[4:0]=0xa L2Ptr[55:6]=0xffffffffffffc0 reserved[5]=0x1 reserved[63]=0x1"},
		{"L1CD", L1CD(0x00ff_ffff_ffff_f001).Fields(), "V[0]=0x1 L2Ptr[55:12]=0xfffffffffff000"},
		{"CR0", RegisterFields(0x20, 0x5d), "SMMUEN[0]=0x1 EVENTQEN[2]=0x1 CMDQEN[3]=0x1 ATSCHK[4]=0x1 VMW[8:6]=0x1"},
		{"STRTAB_BASE", RegisterFields(0x80, 0x4000_0000_1234_5000), "RA[62]=0x1 ADDR[55:6]=0x12345000"},
		{"STRTAB_BASE_CFG", RegisterFields(0x88, 0x1_0210), "LOG2SIZE[5:0]=0x10 SPLIT[10:6]=0x8 FMT[17:16]=0x1"},
		{"CMDQ_CONS", RegisterFields(0x9c, 0x0100_0005), "RD[19:0]=0x5 ERR[30:24]=0x1"},
		{"EVENTQ_PROD", RegisterFields(0x100a8, 0x8000_0007), "OVFLG[31]=0x1 WR[19:0]=0x7"},
		{"EVENTQ_PROD on page 0", RegisterFields(0xa8, 0x8000_0007), "OVFLG[31]=0x1 WR[19:0]=0x7"},
		{"IDR5", RegisterFields(0x14, 0x75), "OAS[2:0]=0x5 GRAN4K[4]=0x1 GRAN16K[5]=0x1 GRAN64K[6]=0x1"},
		{"the upper half of STRTAB_BASE", RegisterFields(0x84, 0x4000_0000), ""},
		{"no register", RegisterFields(0x1000, 1), ""},
	} {
		assert.Equal(t, c.want, explained(c.fields), c.name)
	}
	assert.Equal(t, "CERROR_ILL", RegisterFields(0x9c, 0x0100_0000)[1].Meaning)
}

// A field has the value that its getter returns.
func TestFieldsAgreeWithGetters(t *testing.T) {
	for bit := range uint(512) {
		var s STE
		s.SetV(true)
		s.SetConfig(ConfigNested)
		s[bit/64] |= 1 << (bit % 64)
		if !s.V() || s.Config().Abort() {
			continue
		}
		for name, v := range map[string]uint64{
			"S1Fmt": uint64(s.S1Fmt()), "S1ContextPtr": s.S1ContextPtr(), "S1CDMax": uint64(s.S1CDMax()), "S1DSS": uint64(s.S1DSS()),
			"S1CIR": uint64(s.S1CIR()), "S1COR": uint64(s.S1COR()), "S1CSH": uint64(s.S1CSH()), "EATS": uint64(s.EATS()),
			"STRW": uint64(s.STRW()), "S2VMID": uint64(s.S2VMID()), "PRIVCFG": uint64(s.PRIVCFG()), "INSTCFG": uint64(s.INSTCFG()),
		} {
			for _, f := range s.Fields() {
				if f.Name == name {
					assert.Equal(t, v, f.Value, "%s, bit %d", name, bit)
				}
			}
		}
	}
	for bit := range uint(256) {
		var e Event
		e.SetType(FTranslation)
		e[bit/64] |= 1 << (bit % 64)
		for _, f := range e.Fields() {
			switch f.Name {
			case "StreamID":
				assert.Equal(t, uint64(e.StreamID()), f.Value)
			case "SubstreamID":
				assert.Equal(t, uint64(e.SubstreamID()), f.Value)
			case "InputAddr":
				assert.Equal(t, e.InputAddr(), f.Value)
			case "CLASS":
				assert.Equal(t, uint64(e.Class()), f.Value)
			}
		}
	}
}

// Fields accepts any words.
func TestFields_any_words(t *testing.T) {
	for _, w := range []uint64{0, ^uint64(0), 0x5555555555555555, 0xaaaaaaaaaaaaaaaa} {
		for op := range uint64(256) {
			assert.NotEmpty(t, Command{w&^0xff | op, w}.Fields())
			assert.NotEmpty(t, Command{w&^0xff | op, w}.String())
			assert.NotEmpty(t, Event{w&^0xff | op, w, w, w}.Fields())
			assert.NotEmpty(t, EventType(op).Words())
		}
		assert.NotEmpty(t, STE{w, w, w, w, w, w, w, w}.Fields())
		assert.NotEmpty(t, CD{w, w, w, w, w, w, w, w}.Fields())
	}
	for _, f := range IDFields() {
		for v := range uint32(f.Max()&0xff) + 1 {
			_ = f.Meaning(v)
		}
	}
}

func TestCommandString(t *testing.T) {
	assert.Equal(t, "CFGI_STE StreamID=0x0 Leaf=0x1", Command{0x03, 1}.String())
	assert.Equal(t, "SYNC CS=0x1", Command{0x1046}.String())
	assert.Equal(t, "opcode 0x99", Command{0x99, 5}.String()[:11])
}

// Illegal names the rule that a command breaks, and says where the architecture leaves the choice.
func TestCommandIllegal_rule(t *testing.T) {
	few := ids(S1P, 1, StallModel, StallTerminate)
	more := few.with(S2P, 1).with(ATS, 1).with(PRI, 1).with(RIL, 1)
	for _, c := range []struct {
		ids    IDRegs
		cmd    Command
		want   string
		choice bool
	}{
		{few, Command{0x08}, "the opcode is reserved (§4.1.1)", false},
		{few, Command{0x18}, "the command is not one of the Non-secure queue (§4.1.1)", false},
		{few, Command{0x50}, "the command is not one of the Non-secure queue (§4.1.1)", false},
		{few, Command{0x80}, "the opcode is IMPLEMENTATION DEFINED (§4.1.1)", true},
		{few, Command{0x403}, "SSec is 1 on the Non-secure queue (§4.1.6)", false},
		{few, Command{0x40}, "the SMMU does not have IDR0.ATS (§4.1.3)", false},
		{few, Command{0x22}, "the SMMU does not have IDR0.Hyp (§4.1.3)", false},
		{few, Command{0x70}, "the SMMU does not have IDR3.DPT (§4.1.3)", false},
		{few, Command{0x44}, "the SMMU has no stalled transactions (§4.7.1)", false},
		{few, Command{0x3046}, "CS is reserved (§4.7.3)", false},
		{more, Command{0x12, 1 << 10}, "TG is a granule, but NUM and SCALE give no range and TTL gives no level (§4.4.1.1)", false},
		{more, Command{0x40, 53}, "Size is greater than 52 (§4.5.1)", true},
		{more, Command{0x41, 3 << 12}, "Resp is reserved (§4.5.2)", false},
	} {
		rule := c.cmd.Illegal(&c.ids)
		if assert.NotNil(t, rule, c.want) {
			assert.Equal(t, c.want, rule.String())
			assert.Equal(t, c.choice, rule.Choice, c.want)
		}
	}
}

// Reserved values have descriptions.
func TestReservedValues(t *testing.T) {
	assert.Equal(t, "a reserved or IMPLEMENTATION DEFINED type", EventType(0xe0).Words())
	assert.Equal(t, "CERROR(4)", CmdqErr(4).String())
	assert.Equal(t, []string{"CERROR_NONE", "CERROR_ILL", "CERROR_ABT", "CERROR_ATC_INV_SYNC"},
		[]string{CmdqErr(0).String(), CmdqErr(1).String(), CmdqErr(2).String(), CmdqErr(3).String()}, "§7.1")
	assert.Equal(t, "reserved", BBML.Meaning(9))
	hi, lo := OAS.Bits()
	assert.Equal(t, []uint{2, 0}, []uint{hi, lo})
	text, err := OAS.MarshalText()
	assert.NoError(t, err)
	assert.Equal(t, OAS.String(), string(text))
	assert.Equal(t, "reserved", PRGResponse(3).String())
	assert.Equal(t, "page request stream 0x3 substream 0xabc stop marker", PageRequest{1<<63 | 1<<62 | 0xabc<<32 | 3}.String())
}

func TestRegisterNames(t *testing.T) {
	assert.Equal(t, "CMDQ_PROD", RegisterName(0x98))
	assert.Equal(t, "EVENTQ_CONS", RegisterName(0x100ac))
	assert.Equal(t, "EVENTQ_CONS", RegisterName(0xac))
	assert.Equal(t, "STRTAB_BASE[63:32]", RegisterName(0x84))
	assert.Empty(t, RegisterName(0x1000))
}
