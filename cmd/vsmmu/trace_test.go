package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/cmd/vsmmu/internal/replay"
)

// traceDir creates a directory with transcripts, traces, other files and links.
func traceDir(t *testing.T) (path func(name string) string) {
	dir := t.TempDir()
	path = func(name string) string { return dir + "/" + name }
	for name, content := range map[string][]byte{
		"boot.vsmmu":    replay.Debian,
		"other.vsmmu":   replay.Debian[:1000],
		"newer.vsmmu":   []byte("vsmmu-tr\x63\x00"),
		"started.vsmmu": []byte("vsmm"),
		"empty":         {},
		"notes":         []byte("three weeks of work\n"),
		"report.json":   []byte(`{"ok":true}`),
		"trace.json":    []byte(`{"displayTimeUnit":"ms","traceEvents":[` + "\n]}\n"),
	} {
		require.NoError(t, os.WriteFile(path(name), content, 0o640))
	}
	require.NoError(t, os.Mkdir(path("dir"), 0o755))
	for link, to := range map[string]string{
		"link":       "boot.vsmmu",
		"link2":      "link",
		"dirlink":    ".",
		"loop":       "loop",
		"tracelink":  "trace.json",
		"newlink":    "dir/new.json",
		"absolute":   path("other.vsmmu"),
		"nowhere":    "no/such/file",
		"dir/upward": "../boot.vsmmu",
	} {
		require.NoError(t, os.Symlink(to, path(link)))
	}
	require.NoError(t, os.Link(path("boot.vsmmu"), path("hard")))
	require.NoError(t, os.Link(path("other.vsmmu"), path("hard2")))
	return path
}

// tree returns the content of every file under a directory.
func tree(t *testing.T, dir string) map[string]string {
	all := map[string]string{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			b, err := os.ReadFile(path)
			require.NoError(t, err)
			all[path] = string(b)
		}
		return err
	}))
	return all
}

func TestTraceReplacesNothingButTraces(t *testing.T) {
	path := traceDir(t)
	before := tree(t, path(""))
	t.Chdir(path(""))
	for _, c := range []struct{ name, want string }{
		{"boot.vsmmu", "is the transcript to replay"},
		{"./dir/../boot.vsmmu", "is the transcript to replay"},
		{path("boot.vsmmu"), "is the transcript to replay"},
		{"dirlink/boot.vsmmu", "is the transcript to replay"},
		{"link", "is the transcript to replay"},
		{"link2", "is the transcript to replay"},
		{"dir/upward", "is the transcript to replay"},
		{"hard", "is the transcript to replay"},
		{"other.vsmmu", "is a transcript"},
		{"hard2", "is a transcript"},
		{"absolute", "is a transcript"},
		{"newer.vsmmu", "is a transcript"},
		{"started.vsmmu", "is a transcript"},
		{"notes", "exists and is not a trace"},
		{"report.json", "exists and is not a trace"},
		{"dir", "is a directory"},
		{"dirlink", "is a directory"},
		{".", "is a directory"},
		{"loop", "too many symbolic links"},
		{"nowhere", "no such file or directory"},
		{"no/such/trace.json", "no such file or directory"},
		{"notes/trace.json", "not a directory"},
		{"", "empty file name"},
	} {
		for _, flags := range [][]string{{}, {"-json"}} {
			args := append(append([]string{"replay"}, flags...), "-trace", c.name, "boot.vsmmu")
			status, out, errs := command(args...)
			assert.Equal(t, 2, status, c.name)
			assert.Empty(t, out, c.name)
			assert.True(t, strings.HasPrefix(errs, "vsmmu: write the trace: "), errs)
			assert.Contains(t, errs, c.want, c.name)
			assert.Equal(t, 1, strings.Count(errs, "\n"))
		}
	}
	// A link may name the input.
	status, _, errs := command("replay", "-trace", "boot.vsmmu", "link2")
	assert.Equal(t, 2, status)
	assert.Contains(t, errs, "boot.vsmmu is the transcript to replay")
	// A trace never replaces a transcript, for any input.
	status, _, errs = command("replay", "-trace", "boot.vsmmu")
	assert.Equal(t, 2, status)
	assert.Contains(t, errs, "boot.vsmmu is a transcript")
	assert.Equal(t, before, tree(t, path("")))
}

func TestTraceGoesToNewFilesAndReplacesTraces(t *testing.T) {
	path := traceDir(t)
	before := tree(t, path(""))
	for _, c := range []struct{ name, file string }{
		{"new.json", "new.json"}, {"empty", "empty"}, {"trace.json", "trace.json"}, {"trace.json", "trace.json"},
		{"tracelink", "trace.json"}, {"newlink", "dir/new.json"}, {"dirlink/newer.json", "newer.json"},
	} {
		status, out, errs := command("replay", "-trace", path(c.name), path("boot.vsmmu"))
		require.Equal(t, 0, status, errs)
		assert.Contains(t, out, "OK: ")
		b, err := os.ReadFile(path(c.file))
		require.NoError(t, err)
		assert.True(t, json.Valid(b), c.name)
		assert.Greater(t, len(b), 1000)
		before[path(c.file)] = string(b)
	}
	is, err := os.Stat(path("trace.json"))
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o640), is.Mode(), "a trace that is replaced keeps its mode")
	is, err = os.Lstat(path("tracelink"))
	require.NoError(t, err)
	assert.Equal(t, os.ModeSymlink, is.Mode().Type(), "a link stays a link")
	after := map[string]string{}
	for name, content := range tree(t, path("")) {
		after[filepath.Clean(name)] = content
	}
	want := map[string]string{}
	for name, content := range before {
		want[filepath.Clean(name)] = content
	}
	assert.Equal(t, want, after, "no other file is written, and no temporary file is left")
}

func TestTraceGoesToDevices(t *testing.T) {
	status, out, errs := command("replay", "-trace", "/dev/null")
	assert.Equal(t, 0, status, errs)
	assert.Contains(t, out, "OK: ")

	status, out, errs = command("replay", "-trace", "/dev/stdout")
	assert.Equal(t, 0, status, errs)
	text, trace, ok := strings.Cut(out, `{"displayTimeUnit"`)
	require.True(t, ok)
	assert.Contains(t, text, "OK: ", "the summary comes first")
	assert.True(t, json.Valid([]byte(`{"displayTimeUnit"`+trace)))

	status, out, errs = command("replay", "-trace", "/dev/stderr")
	assert.Equal(t, 0, status)
	assert.Contains(t, out, "OK: ")
	assert.True(t, json.Valid([]byte(errs)))
}

// The summary is printed before the trace is written.
func TestTraceOnAFullDisk(t *testing.T) {
	status, out, errs := command("replay", "-trace", "/dev/full")
	assert.Equal(t, 2, status)
	assert.Contains(t, out, "OK: ")
	assert.Equal(t, "vsmmu: write the trace: /dev/full: no space left on device\n", errs)
}
