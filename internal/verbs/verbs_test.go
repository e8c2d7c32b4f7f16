package verbs_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/transcript"
	"github.com/go-vsmmu/vsmmuv3/vsmmu"
)

// numbers are values of every exported integer type of the library that has a String method. Each
// value is 0xb.
var numbers = []fmt.Stringer{
	bridge.Disposition(11), bridge.Resumption(11),
	guestmem.GPA(11),
	smmuv3.ASID(11), smmuv3.Class(11), smmuv3.CmdqErr(11), smmuv3.CompletionSignal(11), smmuv3.EATS(11),
	smmuv3.EventType(11), smmuv3.IDField(11), smmuv3.Opcode(11), smmuv3.PRGResponse(11), smmuv3.S1DSS(11),
	smmuv3.S1Fmt(11), smmuv3.STEConfig(11), smmuv3.StreamID(11), smmuv3.SubstreamID(11), smmuv3.VMID(11),
	transcript.ClaimStep(11), transcript.Op(11),
	vsmmu.Fate(11), vsmmu.HostCall(11), vsmmu.Line(11),
}

func TestNumbersPrintDigitsAndTheirText(t *testing.T) {
	for _, v := range numbers {
		for verb, want := range map[string]string{
			"%d": "11", "%x": "b", "%#x": "0xb", "%X": "B", "%04x": "000b", "%b": "1011",
			"%s": v.String(), "%v": v.String(), "%+v": v.String(), "%6s|": fmt.Sprintf("%6s|", v.String()),
		} {
			assert.Equal(t, want, fmt.Sprintf(verb, v), "%s of a %T", verb, v)
		}
		field := struct{ Field any }{v}
		assert.Equal(t, "{0xb}", fmt.Sprintf("%#x", field), "%T", v)
		assert.Equal(t, "{Field:"+v.String()+"}", fmt.Sprintf("%+v", field), "%T", v)
		assert.NotContains(t, fmt.Sprintf("%#v %q", v, v), "PANIC", "%T", v)
	}
}

// library returns the exported integer types of the library's public packages that have a String
// method, such as "smmuv3.EATS".
func library(t *testing.T) (types []string) {
	t.Helper()
	integers, strung := map[string]bool{}, map[string]bool{}
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			switch d.Name() {
			case "build", "cmd", "internal", "testbed", "testdata", "tools":
				return fs.SkipDir
			}
			return nil
		case !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, decl := range f.Decls {
			switch decl := decl.(type) {
			case *ast.GenDecl:
				for _, spec := range decl.Specs {
					if spec, ok := spec.(*ast.TypeSpec); ok && spec.Name.IsExported() && isInteger(spec.Type) {
						integers[f.Name.Name+"."+spec.Name.Name] = true
					}
				}
			case *ast.FuncDecl:
				if decl.Recv == nil || decl.Name.Name != "String" {
					continue
				}
				if recv, ok := decl.Recv.List[0].Type.(*ast.Ident); ok {
					strung[f.Name.Name+"."+recv.Name] = true
				}
			}
		}
		return nil
	})
	require.NoError(t, err)
	for name := range integers {
		if strung[name] {
			types = append(types, name)
		}
	}
	return types
}

func isInteger(e ast.Expr) bool {
	id, ok := e.(*ast.Ident)
	return ok && (strings.HasPrefix(id.Name, "uint") || strings.HasPrefix(id.Name, "int") || id.Name == "byte")
}

func TestEveryIntegerTypeWithAStringIsTested(t *testing.T) {
	var tested []string
	for _, v := range numbers {
		tested = append(tested, fmt.Sprintf("%T", v))
	}
	assert.ElementsMatch(t, library(t), tested)
}
