// Package fdt adds to u-root's pkg/dt what writing a device tree needs beyond it.
package fdt

import (
	"bytes"

	"github.com/u-root/u-root/pkg/dt"
)

// Flag is a property that is true by being there.
func Flag(name string) dt.Property { return dt.Property{Name: name, Value: []byte{}} }

// StringList is a property of several strings.
func StringList(name string, values ...string) dt.Property {
	var value []byte
	for _, v := range values {
		value = append(append(value, v...), 0)
	}
	return dt.Property{Name: name, Value: value}
}

// Blob is the flattened tree of a root node, whose name is empty, in version 17 of the format.
func Blob(root *dt.Node) ([]byte, error) {
	// Write fills in the sizes, but takes the rest of the header as it stands.
	tree := dt.FDT{Header: dt.Header{Magic: dt.Magic, Version: 17, LastCompVersion: 16}, RootNode: root}
	var blob bytes.Buffer
	_, err := tree.Write(&blob)
	return blob.Bytes(), err
}
