package floors

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const module = "github.com/go-vsmmu/vsmmuv3/"

// documented are the rows of the table in docs/architecture.md: each package's
// floor.
func documented(t *testing.T) map[string]int {
	page, err := os.ReadFile("../../docs/architecture.md")
	require.NoError(t, err)
	floors := map[string]int{}
	for _, row := range regexp.MustCompile(`(?m)^\| (\d) \| (.*?) \|`).FindAllStringSubmatch(string(page), -1) {
		floor, err := strconv.Atoi(row[1])
		require.NoError(t, err)
		for _, name := range strings.Split(row[2], ", ") {
			floors[strings.Trim(name, "`")] = floor
		}
	}
	return floors
}

// imports are the packages of this module, and what each imports of it.
func imports(t *testing.T) map[string][]string {
	list := exec.Command("go", "list", "-json=ImportPath,Imports", module+"...")
	list.Env = append(os.Environ(), "GOOS=linux", "GOARCH=arm64", "CGO_ENABLED=0")
	out, err := list.Output()
	require.NoError(t, err)
	all := map[string][]string{}
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else {
			require.NoError(t, err)
		}
		name := strings.TrimPrefix(p.ImportPath, module)
		all[name] = nil
		for _, i := range p.Imports {
			if of, ours := strings.CutPrefix(i, module); ours {
				all[name] = append(all[name], of)
			}
		}
	}
}

func TestFloors(t *testing.T) {
	floors, packages := documented(t), imports(t)
	for name, imported := range packages {
		floor, ok := floors[name]
		assert.True(t, ok, "docs/architecture.md does not say on which floor %s is", name)
		for _, i := range imported {
			assert.LessOrEqual(t, floors[i], floor, "%s imports %s, from a floor above its own", name, i)
		}
	}
	for name := range floors {
		assert.Contains(t, packages, name, "docs/architecture.md tells of a package that is not there")
	}
}
