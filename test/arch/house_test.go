package arch

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// module is the path of the root module; what lies below it in an import path is a folder of the house.
const module = "github.com/shearpin/shearpin"

// root is the folder of the root module, seen from this package's folder, where go test runs it.
const root = "../.."

// source is one parsed Go file of the root module.
type source struct {
	file string // slash-separated, below the root: "dcp/mcbp/frame.go"
	dir  string // its folder: "dcp/mcbp"
	test bool
	ast  *ast.File
	fset *token.FileSet
}

// at says where in the source a node stands, for the messages of failed tests.
func (s source) at(n ast.Node) string {
	return s.file + ":" + strconv.Itoa(s.fset.Position(n.Pos()).Line)
}

// imports lists the import paths of the file.
func (s source) imports() []string {
	paths := make([]string, 0, len(s.ast.Imports))
	for _, spec := range s.ast.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err == nil {
			paths = append(paths, p)
		}
	}
	return paths
}

// house parses every Go file of the root module: not those of nested modules, of testdata, or of hidden folders.
func house(t *testing.T) []source {
	t.Helper()
	// What go list answers depends on these two as well; reading them tells the test cache so.
	for _, name := range []string{"go.mod", "go.sum"} {
		_, err := os.ReadFile(filepath.Join(root, name))
		require.NoError(t, err)
	}
	var sources []source
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && name != root && apart(name):
			return fs.SkipDir
		case entry.IsDir() || !strings.HasSuffix(name, ".go"):
			return nil
		}
		fset := token.NewFileSet()
		parsed, err := parser.ParseFile(fset, name, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		below, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		file := filepath.ToSlash(below)
		sources = append(sources, source{
			file: file,
			dir:  path.Dir(file),
			test: strings.HasSuffix(file, "_test.go"),
			ast:  parsed,
			fset: fset,
		})
		return nil
	})
	require.NoError(t, err)
	require.NotEmpty(t, sources)
	return sources
}

// apart reports whether a folder is no part of the root module's packages.
func apart(dir string) bool {
	base := filepath.Base(dir)
	if base == "testdata" || strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") {
		return true
	}
	_, err := os.Stat(filepath.Join(dir, "go.mod"))
	return err == nil
}

// ours returns the folder that an import path stands for, and whether it lies in the root module at all.
func ours(importPath string) (dir string, ok bool) {
	if importPath == module {
		return ".", true
	}
	return strings.CutPrefix(importPath, module+"/")
}

// within reports whether dir is the folder parent or lies below it.
func within(dir, parent string) bool {
	return dir == parent || strings.HasPrefix(dir, parent+"/")
}
