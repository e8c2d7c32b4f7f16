package cli

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestCheckSpaceComparesWithTheFreeSpace(t *testing.T) {
	dir := t.TempDir()
	assert.NoError(t, CheckSpace(dir, 0))
	assert.NoError(t, CheckSpace(dir, 1))
	assert.ErrorContains(t, CheckSpace(dir, 1<<62), "MiB needed")
	assert.ErrorContains(t, CheckSpace(dir, 1<<62), dir+" has ")
}

func TestCheckSpaceAcceptsAFileSystemThatReportsNoSpace(t *testing.T) {
	assert.NoError(t, CheckSpace("/nonexistent", 1<<62))
	assert.NoError(t, CheckSpace("/proc", 1<<62), "/proc reports no blocks")
}
