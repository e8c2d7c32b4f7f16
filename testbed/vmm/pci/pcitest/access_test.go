package pcitest

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestDoMakesTheAccessesOfAnInput(t *testing.T) {
	var made []string
	load := func(name string) func(uint64, int) uint64 {
		return func(off uint64, size int) uint64 {
			made = append(made, fmt.Sprintf("%s %d at %#x", name, size, off))
			return 0
		}
	}
	store := func(name string) func(uint64, int, uint64) {
		return func(off uint64, size int, v uint64) {
			made = append(made, fmt.Sprintf("%s %d at %#x: %#x", name, size, off, v))
		}
	}
	f := Function{load("load"), load("load config"), store("store"), store("store config")}
	input := Input(Load(0x1_0000, 3), Store(8, 0, ^uint64(0)), LoadConfig(0x1ffc, 2), StoreConfig(4, 1, 6), Load(0, 0))
	Do(input[:len(input)-1], 10, f) // the last access is cut off
	all := []string{"load 8 at 0x10000", "store 1 at 0x8: 0xffffffffffffffff", "load config 4 at 0xffc", "store config 2 at 0x4: 0x6"}
	assert.Equal(t, all, made)
	made = nil
	Do(input, 2, f)
	assert.Equal(t, all[:2], made)
}
