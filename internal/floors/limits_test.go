package floors

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// pagesWithTests are pages whose tables name a test for each row.
var pagesWithTests = []string{"../../docs/limits.md", "../../docs/transcript.md"}

func TestPagesNameTestsThatExist(t *testing.T) {
	var code strings.Builder
	require.NoError(t, filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && d.Name() == "build" {
			return fs.SkipDir
		}
		if err == nil && strings.HasSuffix(path, "_test.go") {
			var text []byte
			text, err = os.ReadFile(path)
			code.Write(text)
		}
		return err
	}))
	_, noTestbed := os.Stat("../../testbed")
	for _, name := range pagesWithTests {
		page, err := os.ReadFile(name)
		require.NoError(t, err)
		tests := regexp.MustCompile("`(Test\\w+)`").FindAllStringSubmatch(string(page), -1)
		require.NotEmpty(t, tests, name)
		for _, test := range tests {
			found := strings.Contains(code.String(), "func "+test[1]+"(")
			if !found && noTestbed != nil {
				continue // the test may be in the testbed
			}
			assert.True(t, found, "%s names the test %s, which does not exist", name, test[1])
		}
	}
}
