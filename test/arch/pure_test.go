package arch

import (
	"go/ast"
	"go/token"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// Every layer is split in the same way: a pure machine decides, an actor acts. What decides takes an event and returns
// effects, so that it can be explored, simulated and fuzzed as it is shipped. These packages decide, and so does every file
// that is named for a machine or a decision, or has a method of a type that such a file declares: they see no socket, file,
// clock, lock, logger or goroutine, and no luck but the seed they are given.
var purePackages = []string{"dcp/mcbp", "rebalance/vbmap", "rebalance/schedule"}

// impure are the packages that no decision needs.
var impure = []string{
	"net", "os", "io/fs", "log", "sync", "syscall", "unsafe",
	module + "/supervisor",
}

// only names what a decision may use of packages that can do more: it may tell processes, exit reasons and ends of
// contexts apart, but neither start, send nor wait; and it may throw dice that are seeded by its caller.
var only = map[string][]string{
	"actors": {
		"PID", "Ref", "Normal", "Shutdown", "ShutdownWith", "Killed", "NoProcess", "ErrIgnore", "AlreadyStartedError", "IsNormal", "PanicError",
	},
	"context": {"Canceled", "DeadlineExceeded"},
	"rand":    {"New", "NewPCG", "NewChaCha8", "NewZipf", "Rand", "PCG", "ChaCha8", "Source", "Zipf"},
}

// clocks are the functions of the package time that ask the world instead of the caller.
var clocks = []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"}

func TestMachinesDecideAndDoNotAct(t *testing.T) {
	sources := house(t)
	types := machineTypes(sources)
	assert.NotEmpty(t, types, "no file is named for a machine")
	for _, s := range sources {
		if s.test || !slices.Contains(purePackages, s.dir) && !partOfMachine(s, types) {
			continue
		}
		for _, imported := range s.imports() {
			for _, p := range impure {
				assert.Falsef(t, within(imported, p), "%s imports %s", s.file, imported)
			}
		}
		ast.Inspect(s.ast, func(n ast.Node) bool {
			if what := act(n); what != "" {
				assert.Failf(t, "a decision acts", "%s: %s", s.at(n), what)
			}
			return true
		})
	}
}

// act says what a piece of code does that a decision must not, or nothing.
func act(n ast.Node) string {
	switch n := n.(type) {
	case *ast.GoStmt:
		return "starts a goroutine"
	case *ast.ChanType, *ast.SelectStmt:
		return "waits on a channel"
	case *ast.SelectorExpr:
		from, _ := n.X.(*ast.Ident)
		if from == nil {
			return ""
		}
		allowed, limited := only[from.Name]
		clock := from.Name == "time" && slices.Contains(clocks, n.Sel.Name)
		if clock || limited && !slices.Contains(allowed, n.Sel.Name) {
			return "uses " + from.Name + "." + n.Sel.Name
		}
	}
	return ""
}

// typeName is a type of one of our packages.
type typeName struct{ dir, name string }

// machineTypes are the types declared in files that are named for a machine.
func machineTypes(sources []source) map[typeName]bool {
	types := map[typeName]bool{}
	for _, s := range sources {
		if s.test || !namedForMachine(s) {
			continue
		}
		for _, declaration := range s.ast.Decls {
			general, ok := declaration.(*ast.GenDecl)
			if !ok || general.Tok != token.TYPE {
				continue
			}
			for _, spec := range general.Specs {
				if spec, ok := spec.(*ast.TypeSpec); ok {
					types[typeName{s.dir, spec.Name.Name}] = true
				}
			}
		}
	}
	return types
}

func namedForMachine(s source) bool {
	name := path.Base(s.file)
	return strings.Contains(name, "machine") || strings.Contains(name, "decision")
}

// partOfMachine reports whether a file is named for a machine or has a method of a machine's type.
func partOfMachine(s source, types map[typeName]bool) bool {
	return namedForMachine(s) || slices.ContainsFunc(s.ast.Decls, func(declaration ast.Decl) bool {
		method, ok := declaration.(*ast.FuncDecl)
		if !ok || method.Recv == nil {
			return false
		}
		receiver := method.Recv.List[0].Type
		if pointer, ok := receiver.(*ast.StarExpr); ok {
			receiver = pointer.X
		}
		name, ok := receiver.(*ast.Ident)
		return ok && types[typeName{s.dir, name.Name}]
	})
}
