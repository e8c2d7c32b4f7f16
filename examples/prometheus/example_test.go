package smmuprom_test

import (
	"fmt"
	"log"
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	vsmmuv3 "github.com/go-vsmmu/vsmmuv3"
	smmuprom "github.com/go-vsmmu/vsmmuv3/examples/prometheus"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/vsmmu"
)

// A VMM registers a collector for its SMMU.
func Example() {
	ram := new(guestmem.Slots)
	if err := ram.Add(guestmem.Slot{GPA: 0x4000_0000, Mem: make([]byte, 1<<20)}); err != nil {
		log.Fatal(err)
	}
	smmu, err := vsmmuv3.New(vsmmuv3.Config{
		Memory: ram, Interrupts: vsmmu.SPIs(74, func(uint32, bool) error { return nil }),
	})
	if err != nil {
		log.Fatal(err)
	}
	defer smmu.Close()
	registry := prometheus.NewRegistry()
	registry.MustRegister(smmuprom.New(smmu.Stats))

	disk, err := smmu.Endpoint(0x10)
	if err != nil {
		log.Fatal(err)
	}
	_ = disk.WriteAt(make([]byte, 4096), 0x4000_0000)
	families, err := registry.Gather()
	if err != nil {
		log.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "vsmmu_dma_bytes_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			fmt.Println(f.GetName(), m.GetLabel()[0].GetValue(), m.GetLabel()[1].GetValue(), m.GetCounter().GetValue())
		}
	}
	// Output:
	// vsmmu_dma_bytes_total read 0x10 0
	// vsmmu_dma_bytes_total write 0x10 4096
}

// TestCollectorIsConsistent shows that a pedantic registry accepts the metrics of an SMMU, even if
// the SMMU is closed or nil.
func TestCollectorIsConsistent(t *testing.T) {
	smmu, err := vsmmuv3.New(vsmmuv3.Config{
		Memory: new(guestmem.Fake), Interrupts: vsmmu.SPIs(74, func(uint32, bool) error { return nil }),
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := smmu.Endpoint(3); err != nil {
		t.Fatal(err)
	}
	for _, stats := range []func() vsmmuv3.Stats{smmu.Stats, (*vsmmuv3.SMMU)(nil).Stats} {
		registry := prometheus.NewPedanticRegistry()
		if err := registry.Register(smmuprom.New(stats)); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			families, err := registry.Gather()
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, f := range families {
				names = append(names, f.GetName())
			}
			if !slices.Contains(names, "vsmmu_refused_stages_total") {
				t.Fatalf("no count of refused stages in %v", names)
			}
			_ = smmu.Close()
		}
	}
}
