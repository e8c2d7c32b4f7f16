package report

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/testbed/guest"
)

func TestTablesHoldIfEveryBootDoes(t *testing.T) {
	bad := good()
	bad.Description.Bugs = []string{"ACPI: IORT: [Firmware Bug]"}
	for _, tt := range []struct {
		name string
		t    Tables
		ok   bool
	}{
		{"all", Tables{Boots: []TableBoot{{Name: "wired", Report: good()}, {Name: "msi", Report: good()}}}, true},
		{"one does not", Tables{Boots: []TableBoot{{Name: "wired", Report: good()}, {Name: "msi", Report: bad}}}, false},
		{"one did not boot", Tables{Boots: []TableBoot{{Name: "wired", Report: &Report{Error: "it hung"}}}}, false},
		{"none", Tables{}, false},
		{"an error", Tables{Error: "no host", Boots: []TableBoot{{Name: "wired", Report: good()}}}, false},
	} {
		tt.t.Judge()
		assert.Equal(t, tt.ok, tt.t.OK, tt.name)
	}
}

func TestSummaryOfTablesNamesWhatDoesNotHold(t *testing.T) {
	bad := good()
	bad.Description.Bugs = []string{"ACPI: IORT: \x1b[Firmware Bug]"}
	tables := Tables{Boots: []TableBoot{
		{Name: "wired", About: "four GSIVs", Report: good()},
		{Name: "msi", Report: bad},
		{Name: "rmr", Report: &Report{Error: "the guest hung"}},
	}}
	tables.Judge()
	var out bytes.Buffer
	require.NoError(t, tables.Summary(&out))
	for _, line := range []string{
		"  ok      wired  four GSIVs  22 of 22 checks\n",
		"  FAILED  msi                21 of 22 checks\n",
		"FAILED: the guest's kernel found no fault in the description: ACPI: IORT: .[Firmware Bug]\n",
		"  FAILED  rmr      0 of 0 checks\n", "the guest hung\n",
		"NOT OK: 3 tables, 43 of 44 checks held, 0.0 s\n",
	} {
		assert.Contains(t, out.String(), line)
	}
}

// The host sends the report to the runner as JSON.
func TestTablesKeepTheirReportsInJSON(t *testing.T) {
	b, err := json.Marshal(Report{Tables: &Tables{Boots: []TableBoot{{Name: "wired", Report: good()}}}})
	require.NoError(t, err)
	var back Report
	require.NoError(t, json.Unmarshal(b, &back))
	require.Len(t, back.Tables.Boots, 1)
	assert.Equal(t, guest.ByTree, back.Tables.Boots[0].Description.By)
}
