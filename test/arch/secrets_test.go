package arch

import (
	"go/ast"
	"go/types"
	"path"
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Package fmt calls no methods on what lies in an unexported field, nor, where a verb does not fit a pointer, on any field, so
// that a password in there is printed whatever its type says about itself. Whoever keeps one keeps a pointer to it, which fmt
// does not follow, or has a Format method.
func TestWhatHoldsAPasswordFormatsItself(t *testing.T) {
	type named struct{ dir, name string }
	structs := map[named]*ast.StructType{}
	places := map[named]string{}
	formats := map[named]bool{}
	aliases := map[string]map[string]string{} // file, name of an import, folder
	files := map[named]string{}
	for _, s := range house(t) {
		if s.test {
			continue
		}
		aliases[s.file] = map[string]string{}
		for _, imported := range s.imports() {
			if dir, ok := ours(imported); ok {
				aliases[s.file][path.Base(dir)] = dir
			}
		}
		for _, decl := range s.ast.Decls {
			switch decl := decl.(type) {
			case *ast.FuncDecl:
				if decl.Recv != nil && decl.Name.Name == "Format" {
					formats[named{s.dir, receiver(decl)}] = true
				}
			case *ast.GenDecl:
				for _, spec := range decl.Specs {
					spec, ok := spec.(*ast.TypeSpec)
					if !ok {
						continue
					}
					if body, ok := spec.Type.(*ast.StructType); ok {
						n := named{s.dir, spec.Name.Name}
						structs[n], places[n], files[n] = body, s.at(spec), s.file
					}
				}
			}
		}
	}
	// What holds a password by value, itself or through others.
	holds := map[named]bool{}
	for n, body := range structs {
		for _, field := range body.Fields.List {
			for _, name := range field.Names {
				if types.ExprString(field.Type) != "bool" && secret.MatchString(name.Name) {
					holds[n] = true
				}
			}
		}
	}
	held := func(n named, field *ast.Field) (named, bool) {
		typ := field.Type
		for {
			switch inner := typ.(type) {
			case *ast.ArrayType:
				typ = inner.Elt
				continue
			case *ast.MapType:
				typ = inner.Value
				continue
			}
			break
		}
		of := named{n.dir, types.ExprString(typ)}
		if selector, ok := typ.(*ast.SelectorExpr); ok {
			of = named{aliases[files[n]][types.ExprString(selector.X)], selector.Sel.Name}
		}
		return of, holds[of]
	}
	for grown := true; grown; {
		grown = false
		for n, body := range structs {
			for _, field := range body.Fields.List {
				if _, yes := held(n, field); yes && !holds[n] {
					holds[n], grown = true, true
				}
			}
		}
	}
	for _, known := range []named{
		{"dcp/kv", "Credentials"},
		{"dcp/kv", "Endpoint"},
		{"dcp/kv", "Session"},
		{"dcp/kvnode", "Options"},
		{"dcp/kvnode", "Node"},
		{"rebalance", "Config"},
	} {
		require.True(t, holds[known], "%v: the search is blind", known)
	}
	for n := range holds {
		assert.Truef(t, formats[n], "%s: %s holds a password by value and has no Format method", places[n], n.name)
	}
}

// secret are the names of fields that hold one.
var secret = regexp.MustCompile(`(?i)passw|passphrase|secret`)

// receiver is the name of the type that a method belongs to.
func receiver(f *ast.FuncDecl) string {
	typ := f.Recv.List[0].Type
	if star, ok := typ.(*ast.StarExpr); ok {
		typ = star.X
	}
	return types.ExprString(typ)
}
