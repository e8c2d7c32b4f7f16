package labtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// declared returns the names of the test functions in a package's test files.
func declared(t *testing.T, dir string) (names []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && strings.HasPrefix(f.Name.Name, "Test") && f.Name.Name != "TestMain" {
				names = append(names, f.Name.Name)
			}
		}
	}
	return names
}

// constants returns the values of the string constants that testnames.go declares.
func constants(t *testing.T) (values []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "testnames.go", nil, parser.SkipObjectResolution)
	require.NoError(t, err)
	ast.Inspect(file, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			if name := strings.Trim(lit.Value, `"`); strings.HasPrefix(name, "Test") {
				values = append(values, name)
			}
		}
		return true
	})
	return values
}

// Every test that a check names exists, and a check judges every kernel test.
func TestNamedTestsExist(t *testing.T) {
	kernel, vmm, named := declared(t, "kerneltest"), declared(t, "../vmm"), constants(t)
	require.NotEmpty(t, named)
	for _, name := range named {
		assert.True(t, slices.Contains(kernel, name) || slices.Contains(vmm, name), "%s does not exist", name)
	}
	for _, name := range kernel {
		assert.Contains(t, named, name, "no check judges this kernel test")
	}
}
