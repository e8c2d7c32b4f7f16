package vsmmuv3_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestGuideShowsCodeThatCompiles shows that each line of Go in docs/embedding.md is a line of an
// example.
func TestGuideShowsCodeThatCompiles(t *testing.T) {
	lines := map[string]bool{}
	for _, pattern := range []string{"example*_test.go", "stats_test.go", "firmware/example_test.go", "bridge/iommufd/example_test.go"} {
		files, err := filepath.Glob(pattern)
		require.NoError(t, err)
		require.NotEmpty(t, files, pattern)
		for _, name := range files {
			text, err := os.ReadFile(name)
			require.NoError(t, err)
			for line := range strings.Lines(string(text)) {
				lines[strings.TrimSpace(line)] = true
			}
		}
	}
	page, err := os.ReadFile("docs/embedding.md")
	require.NoError(t, err)
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(string(page), -1)
	require.NotEmpty(t, blocks)
	for _, b := range blocks {
		for line := range strings.Lines(b[1]) {
			assert.True(t, lines[strings.TrimSpace(line)], "no example has %q", line)
		}
	}
}

// TestGuideChecksTheMMIOPath shows that the value of the guide's check of 8-byte stores reads back.
func TestGuideChecksTheMMIOPath(t *testing.T) {
	page, err := os.ReadFile("docs/embedding.md")
	require.NoError(t, err)
	require.Contains(t, string(page), "store 0x4000_0012_3456_7000 to STRTAB_BASE, offset 0x80")
	smmu := newSMMU(t, config(newRAM(t)))
	smmu.Store(0x80, 8, 0x4000_0012_3456_7000)
	assert.EqualValues(t, 0x4000_0012_3456_7000, smmu.Load(0x80, 8))
}
