// Package fdt writes device trees. It extends u-root's pkg/dt, which lacks some kinds of
// properties.
package fdt

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/u-root/u-root/pkg/dt"
)

// Flag returns a property without a value, which is true by being present.
func Flag(name string) dt.Property { return dt.Property{Name: name, Value: []byte{}} }

// StringList returns a property of several strings.
func StringList(name string, values ...string) dt.Property {
	var value []byte
	for _, v := range values {
		value = append(append(value, v...), 0)
	}
	return dt.Property{Name: name, Value: value}
}

// Blob returns the flattened tree of a root node, whose name is empty, in version 17 of the format.
func Blob(root *dt.Node) ([]byte, error) {
	if root == nil {
		return nil, errors.New("fdt: write device tree: no root node")
	}
	// Write fills in the sizes, and nothing else of the header.
	tree := dt.FDT{Header: dt.Header{Magic: dt.Magic, Version: 17, LastCompVersion: 16}, RootNode: root}
	var blob bytes.Buffer
	if _, err := tree.Write(&blob); err != nil {
		return nil, fmt.Errorf("fdt: write device tree: %w", err)
	}
	return blob.Bytes(), nil
}
