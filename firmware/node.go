package firmware

import (
	"encoding/binary"
	"fmt"
)

// Node is a node of a device tree.
type Node struct {
	Name     string // with the unit address, as in "iommu@9050000"; empty for the root
	Props    []Prop
	Children []Node
}

// Prop is a property of a Node.
type Prop struct {
	Name  string
	Value []byte // as in a flattened device tree; empty for a flag
}

// PHandle identifies a node in the properties of other nodes. It is unique in its tree. 0 means no
// node.
type PHandle uint32

// Flag returns a property without a value, which is true if present.
func Flag(name string) Prop { return Prop{Name: name, Value: []byte{}} }

// Cells returns a property of 32-bit cells.
func Cells(name string, cells ...uint32) Prop {
	value := make([]byte, 0, 4*len(cells))
	for _, c := range cells {
		value = binary.BigEndian.AppendUint32(value, c)
	}
	return Prop{Name: name, Value: value}
}

// Strings returns a property of one or more strings.
func Strings(name string, values ...string) Prop {
	var value []byte
	for _, v := range values {
		value = append(append(value, v...), 0)
	}
	return Prop{Name: name, Value: value}
}

// Reg returns the property "reg" of one region, for a node whose parent has 2 #address-cells and 2
// #size-cells.
func Reg(base, size uint64) Prop { return Cells("reg", append(cells64(base), cells64(size)...)...) }

// cells64 returns the two cells of a 64-bit value.
func cells64(v uint64) []uint32 { return []uint32{uint32(v >> 32), uint32(v)} }

// phandle returns the property that gives a node its phandle.
func phandle(p PHandle) Prop { return Cells("phandle", uint32(p)) }

// fieldError is the error of an argument's field. It names the field and the cause.
type fieldError string

func (e fieldError) Error() string { return string(e) }

func invalid(format string, args ...any) error { return fieldError(fmt.Sprintf(format, args...)) }
