package bridge_test

import (
	"fmt"
	"reflect"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

func TestStringOfEveryDisposition(t *testing.T) {
	for stage, want := range map[bridge.GuestStage]string{
		{}:                               "abort",
		{Cause: smmuv3.CBadSTE}:          "abort with C_BAD_STE",
		{Disposition: bridge.Bypass}:     "bypass",
		{Disabled: true}:                 "abort (SMMU disabled)",
		{Disposition: 5}:                 "Disposition(5)",
		{Disposition: 5, Disabled: true}: "Disposition(5) (SMMU disabled)",
		{Cause: smmuv3.FSTEFetch, FetchAddr: 0x1040}: "abort with F_STE_FETCH at 0x1040",
		{Disposition: bridge.Bypass, Disabled: true}: "bypass (SMMU disabled)",
		{Disposition: bridge.Translate, S1ContextPtr: 0x4000, EATS: smmuv3.EATSFull}: "translate " +
			"s1fmt=linear s1dss=terminate s1cdmax=0 cd=0x4000 s1cir=0 s1cor=0 s1csh=0 s1stalld=false eats=full",
		{Disposition: bridge.TranslateS2, S2VMID: 7}: "translate by stage 2 " +
			"s2ttb=0x0 s2t0sz=0 s2sl0=0 s2tg=0 s2ps=0 s2ir0=0 s2or0=0 s2sh0=0 s2vmid=7 eats=none",
	} {
		assert.Equal(t, want, stage.String())
	}
}

// Different stages have different texts, so that a log distinguishes them.
func TestStringShowsEveryFieldOfATranslation(t *testing.T) {
	base := bridge.GuestStage{Disposition: bridge.TranslateNested}
	check := func(name string, set func(*bridge.GuestStage) reflect.Value) {
		changed := base
		switch f := set(&changed); f.Kind() {
		case reflect.Bool:
			f.SetBool(true)
		default:
			require.True(t, f.CanUint(), name)
			f.SetUint(1)
		}
		assert.NotEqual(t, base.String(), changed.String(), name)
	}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[bridge.GuestStage]()) {
		switch f.Name {
		case "S2", "Cause", "FetchAddr": // below, or of a stage that aborts
		default:
			check(f.Name, func(g *bridge.GuestStage) reflect.Value { return reflect.ValueOf(g).Elem().FieldByIndex(f.Index) })
		}
	}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[smmuv3.Stage2]()) {
		check("S2."+f.Name, func(g *bridge.GuestStage) reflect.Value {
			return reflect.ValueOf(&g.S2).Elem().FieldByIndex(f.Index)
		})
	}
}

func TestStringsNeverPanic(t *testing.T) {
	for v := range 256 {
		b := uint8(v)
		stage := bridge.GuestStage{
			Disposition: bridge.Disposition(b), Cause: smmuv3.EventType(b), EATS: smmuv3.EATS(b), S1Fmt: smmuv3.S1Fmt(b),
			S1DSS: smmuv3.S1DSS(b), S2: smmuv3.Stage2{TG: b},
		}
		for _, value := range []any{
			stage, stage.Disposition, bridge.Resumption(b),
			bridge.PageResponse{SSV: true, PRGIndex: uint16(v), Response: smmuv3.PRGResponse(b)},
		} {
			for _, verb := range []string{"%v", "%+v", "%s", "%d", "%x", "%#x"} {
				assert.NotContains(t, fmt.Sprintf(verb, value), "PANIC")
			}
		}
	}
	response := bridge.PageResponse{StreamID: 0x10, PRGIndex: 3, Response: smmuv3.PRGSuccess}
	assert.Equal(t, "stream 0x10 group 3: success", response.String())
	response.SSV, response.SubstreamID = true, 5
	assert.Equal(t, "stream 0x10 substream 0x5 group 3: success", response.String())
}

// §5.2: V [0], Config [3:1], S1Fmt [5:4], S1ContextPtr [55:6], S1CDMax [63:59]; S1DSS [65:64], S1CIR
// [67:66], S1COR [69:68], S1CSH [71:70], S1STALLD [91], EATS [93:92]; S2VMID [143:128].
func TestSTE_5_2(t *testing.T) {
	stage := bridge.GuestStage{
		Disposition: bridge.Translate, S1ContextPtr: 0x4000_0040, S1CDMax: 5, S1Fmt: smmuv3.S1Fmt64K,
		S1DSS: smmuv3.S1DSSSubstream0,
		S1CIR: 1, S1COR: 2, S1CSH: 3, S1STALLD: true, EATS: smmuv3.EATSFull, S2VMID: 7,
	}
	assert.Equal(t, smmuv3.STE{0x2800_0000_4000_006b, 0x1800_00e6, 7}, stage.STE())
	stage = bridge.GuestStage{
		Disposition: bridge.TranslateS2, S2VMID: 7,
		S2: smmuv3.Stage2{TTB: 0x8000, T0SZ: 25, SL0: 1, PS: 5, AA64: true, R: true},
	}
	assert.Equal(t, smmuv3.STE{0xd, 0, 0x040d_0059_0000_0007, 0x8000}, stage.STE())
	stage.Disposition = bridge.TranslateNested
	assert.EqualValues(t, 0xf, stage.STE()[0])
}
