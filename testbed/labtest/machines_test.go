package labtest

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/testbed/labtest/ownsmmu"
)

func TestEveryMachineOfOursHasAnSMMUThatCanBe(t *testing.T) {
	for _, s := range ownMachines() {
		_, err := ownsmmu.Derive(s.own.ids)
		assert.NoError(t, err, s.name)
	}
}

func TestIDsAreFieldsWithValues(t *testing.T) {
	ids := IDs{}
	for _, text := range []string{"oas=6", "GRAN4K=0x0", "OAS=5"} {
		require.NoError(t, ids.Set(text))
	}
	assert.Equal(t, IDs{"OAS": 5, "GRAN4K": 0}, ids)
	assert.Equal(t, "OAS=5 GRAN4K=0", ids.String(), "in the order of the registers")
	for text, want := range map[string]string{
		"OAS":      "not FIELD=VALUE",
		"OASIS=1":  "OASIS is not a field of the ID registers (such as OAS or GRAN4K)",
		"OAS=many": `OAS: "many" is not a number`,
	} {
		assert.EqualError(t, ids.Set(text), want)
	}
}

// -id changes a copy of the machine.
func TestIDsAreAddedToTheMachinesIDs(t *testing.T) {
	s := spec{own: &own{ids: map[string]uint32{"OAS": 5, "RIL": 0}, cpu: "lpa2=off"}}
	assert.Equal(t, &own{ids: map[string]uint32{"OAS": 6, "RIL": 0}, cpu: "lpa2=off"}, s.with(IDs{"OAS": 6}).own)
	assert.Equal(t, map[string]uint32{"OAS": 5, "RIL": 0}, s.own.ids)
}

func TestMatrixCountsTheTestsOfEachMachine(t *testing.T) {
	m := matrixOf([]Test{
		{Machine: "a", Name: "TestKernelConformance/Close/Stream", Outcome: Pass},
		{Machine: "a", Name: "TestKernelConformance/Close/Host", Outcome: Skip},
		{Machine: "a", Name: "TestKernelConformance/Close", Outcome: Pass},
		{Machine: "a", Name: "TestKernelConformance", Outcome: Pass},
		{Machine: "b", Name: "TestKernelConformance/Close/Stream", Outcome: Fail},
		{Machine: "b", Name: "TestKernelX", Outcome: Skip},
		{Machine: "b", Name: "TestKernelX/part", Outcome: Pass},
	})
	assert.Equal(t, Matrix{[]string{"a", "b"}, []Row{
		{"TestKernelConformance/Close", []string{"1 pass 1 skip", "fail"}},
		{"TestKernelX", []string{"", "skip"}},
	}}, m)
}
