//go:build linux

package qemu

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A runner that is killed at any time leaves nothing in TMPDIR.
func TestFilesOfARunningMachineHaveNoName(t *testing.T) {
	dir := t.TempDir()
	script := filepath.Join(t.TempDir(), "qemu")
	require.NoError(t, os.WriteFile(script, []byte(`#!/bin/sh
while [ $# -gt 0 ]; do
	case $1 in -kernel | -initrd | -disk) cat "$2" ;; esac
	shift
done
`), 0o700))
	t.Setenv("TMPDIR", dir)
	disk, err := NewTempFile()
	require.NoError(t, err)
	defer disk.Close()
	_, err = disk.WriteString("a disk\n")
	require.NoError(t, err)
	m := &Machine{QEMU: script, Image: []byte("an image\n"), Initrd: []byte("an initrd\n")}
	m.Args = []string{"-disk", m.Pass(disk)}
	for range 2 { // a machine may run again
		var lines []string
		err = m.Run(context.Background(), func(_, text string) { lines = append(lines, text) }, func(channel io.ReadWriter) error {
			left, err := os.ReadDir(dir)
			assert.NoError(t, err)
			assert.Empty(t, left)
			_, err = io.ReadAll(channel)
			return err
		})
		require.NoError(t, err)
		assert.Equal(t, []string{"a disk", "an image", "an initrd"}, lines)
	}
}
