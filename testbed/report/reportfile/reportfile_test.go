package reportfile

import (
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func names(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestWriteIsCompleteOrNotAtAll(t *testing.T) {
	path := filepath.Join(t.TempDir(), "report.json")
	require.NoError(t, Write(path, map[string]string{"a": "<b>"}))
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, "{\n  \"a\": \"<b>\"\n}\n", string(data))

	require.Error(t, Write(path, math.NaN()), "JSON has no such number")
	again, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, data, again)
	assert.Equal(t, []string{"report.json"}, names(t, filepath.Dir(path)))
}

func TestPrepare(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a", "b", "report.json")
	require.NoError(t, Prepare(path), "the directories are made")
	require.NoError(t, Write(path, "old"))
	require.NoError(t, Prepare(path))
	assert.Empty(t, names(t, filepath.Dir(path)), "the report before is gone")

	require.NoError(t, os.Mkdir(path, 0o755))
	assert.ErrorContains(t, Prepare(path), "no regular file")
	require.NoError(t, Write(filepath.Join(dir, "file"), ""))
	assert.ErrorContains(t, Prepare(filepath.Join(dir, "file", "report.json")), "the report")
}
