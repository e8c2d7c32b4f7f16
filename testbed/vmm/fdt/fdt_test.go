package fdt

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/u-root/u-root/pkg/dt"
)

// The words are from the Devicetree Specification, chapter 5.
func TestBlobIsAFlattenedTree(t *testing.T) {
	blob, err := Blob(dt.NewNode("", dt.WithProperty(Flag("f"), StringList("s", "a", "bc"))))
	require.NoError(t, err)
	assert.Equal(t, []byte{
		0xd0, 0x0d, 0xfe, 0xed, // magic
		0, 0, 0, 0x74, // total size
		0, 0, 0, 0x40, // structure block
		0, 0, 0, 0x70, // strings block
		0, 0, 0, 0x30, // reservation block
		0, 0, 0, 17, // version
		0, 0, 0, 16, // last compatible version
		0, 0, 0, 0, // boot CPU
		0, 0, 0, 4, // size of the strings block
		0, 0, 0, 0x30, // size of the structure block
	}, blob[:40])
	assert.Equal(t, []byte{
		0, 0, 0, 1, 0, 0, 0, 0, // begin node ""
		0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, // f, no value
		0, 0, 0, 3, 0, 0, 0, 5, 0, 0, 0, 2, 'a', 0, 'b', 'c', 0, 0, 0, 0, // s
		0, 0, 0, 2, // end node
		0, 0, 0, 9, // end
		'f', 0, 's', 0,
	}, blob[0x40:])
}

func TestBlobWithoutARootIsAnError(t *testing.T) {
	_, err := Blob(nil)
	assert.EqualError(t, err, "fdt: write device tree: no root node")
}
