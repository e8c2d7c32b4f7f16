package reportfile

import (
	"math"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
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
	assert.Equal(t, []string{"report.json"}, names(t, filepath.Dir(path)), "the earlier report stays")

	require.NoError(t, os.Remove(path))
	require.NoError(t, os.Mkdir(path, 0o755))
	assert.ErrorContains(t, Prepare(path), "not a regular file")
	require.NoError(t, Write(filepath.Join(dir, "file"), ""))
	assert.ErrorIs(t, Prepare(filepath.Join(dir, "file", "report.json")), ErrWrite)
}

// On a full disk, Write keeps the earlier report and leaves no other file. A limit on the size of
// files replaces the full disk.
func TestWriteToAFullDiskKeepsTheEarlierReport(t *testing.T) {
	path := filepath.Join(t.TempDir(), "report.json")
	require.NoError(t, Write(path, "earlier"))
	cmd := exec.Command(os.Args[0], "-test.run=^TestHelperWrite$")
	cmd.Env = append(os.Environ(), "REPORTFILE_HELPER="+path)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, "\"earlier\"\n", string(data))
	assert.Equal(t, []string{"report.json"}, names(t, filepath.Dir(path)))
}

// TestHelperWrite is the process of TestWriteToAFullDiskKeepsTheEarlierReport whose files cannot
// grow.
func TestHelperWrite(t *testing.T) {
	path := os.Getenv("REPORTFILE_HELPER")
	if path == "" {
		t.Skip("a helper process of another test")
	}
	signal.Ignore(syscall.SIGXFSZ)
	const limit = 4 << 10
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: limit, Max: limit}))
	err := Write(path, strings.Repeat("x", 2*limit))
	require.ErrorIs(t, err, ErrWrite)
	require.ErrorIs(t, err, syscall.EFBIG)
	require.ErrorContains(t, err, "holds the report of an earlier run")
}
