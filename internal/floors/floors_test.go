package floors

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const module = "github.com/go-vsmmu/vsmmuv3"

// nameOf returns the name of a package in the table: its path in the module, or the name of the
// module's root. ours is false for packages of other modules.
func nameOf(path string) (name string, ours bool) {
	if path == module {
		return "vsmmuv3", true
	}
	return strings.CutPrefix(path, module+"/")
}

// documented returns the floor of each package that the table in docs/architecture.md names.
func documented(t *testing.T) map[string]int {
	page, err := os.ReadFile("../../docs/architecture.md")
	require.NoError(t, err)
	floors := map[string]int{}
	for _, row := range regexp.MustCompile(`(?m)^\| (\d+) \| (.*?) \|`).FindAllStringSubmatch(string(page), -1) {
		floor, err := strconv.Atoi(row[1])
		require.NoError(t, err)
		for _, name := range strings.Split(row[2], ", ") {
			floors[strings.Trim(name, "`")] = floor
		}
	}
	return floors
}

// imports returns the packages of both modules, and the imports of each from these modules. A copy
// of the library may lack the testbed.
func imports(t *testing.T) map[string][]string {
	all := map[string][]string{}
	for _, dir := range []string{"../..", "../../testbed"} {
		if _, err := os.Stat(dir + "/go.mod"); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		out := goList(t, dir, "-json=ImportPath,Imports", "./...")
		for dec := json.NewDecoder(bytes.NewReader(out)); ; {
			var p struct {
				ImportPath string
				Imports    []string
			}
			if err := dec.Decode(&p); errors.Is(err, io.EOF) {
				break
			} else {
				require.NoError(t, err)
			}
			name, _ := nameOf(p.ImportPath)
			all[name] = nil
			for _, i := range p.Imports {
				if of, ours := nameOf(i); ours {
					all[name] = append(all[name], of)
				}
			}
		}
	}
	return all
}

// goList returns what go list prints in dir for linux/arm64.
func goList(t *testing.T, dir string, args ...string) []byte {
	list := exec.Command("go", append([]string{"list"}, args...)...)
	list.Dir = dir
	list.Env = append(os.Environ(), "GOOS=linux", "GOARCH=arm64", "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=")
	out, err := list.Output()
	require.NoError(t, err)
	return out
}

func TestFloors(t *testing.T) {
	floors, packages := documented(t), imports(t)
	for name, imported := range packages {
		floor, ok := floors[name]
		assert.True(t, ok, "docs/architecture.md has no floor for %s", name)
		for _, i := range imported {
			assert.LessOrEqual(t, floors[i], floor, "%s imports %s, which is on a higher floor", name, i)
		}
	}
	if _, err := os.Stat("../../testbed"); err != nil {
		t.Skip("this copy of the library has no testbed")
	}
	for name := range floors {
		assert.Contains(t, packages, name, "docs/architecture.md names a package that does not exist")
	}
}

// Every embedder compiles these packages. They import the standard library only.
func TestEmbeddersCompileNoOtherModule(t *testing.T) {
	for _, name := range []string{"", "/vsmmu", "/vsmmu/idr", "/bridge/soft", "/bridge/record", "/firmware", "/guestmem"} {
		out := goList(t, "../..", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", module+name)
		for _, dep := range strings.Fields(string(out)) {
			_, ours := nameOf(dep)
			assert.True(t, ours, "%s needs %s", module+name, dep)
		}
	}
}
