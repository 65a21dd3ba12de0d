package arch

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
)

// mayImport says for each package which of our packages it may import. A package that is not here has no place yet: give it
// one, after asking which way its imports should go. The command, the top of the house, may import everything but test/.
var mayImport = map[string][]string{
	"actors":           {},
	"actors/actortest": {"actors"},

	"supervisor":                  {"actors"},
	"supervisor/metrics":          {"actors", "supervisor"},
	"supervisor/internal/workers": {"actors", "actors/actortest", "supervisor"},

	"dcp/mcbp":         {},
	"dcp/kv":           {"dcp/mcbp"},
	"dcp/relay":        {"dcp/mcbp"},
	"dcp/kvnode":       {"dcp/mcbp"},
	"dcp/kvnode/fault": {"dcp/mcbp", "dcp/kvnode"},
	"dcp":              {"actors", "supervisor", "dcp/mcbp", "dcp/kv", "dcp/relay"},

	"rebalance/vbmap":           {},
	"rebalance/schedule":        {},
	"rebalance/store":           {"rebalance/vbmap"},
	"rebalance/store/storetest": {"rebalance/store", "rebalance/vbmap"},
	"rebalance": {
		"actors", "supervisor", "supervisor/metrics", "dcp", "dcp/mcbp", "dcp/kv",
		"rebalance/vbmap", "rebalance/schedule", "rebalance/store",
	},
}

// storey tells on which floor a package lives, from the ground up. Tests may use more than the package they test, the
// embedded node for example, but nothing from a storey above.
func storey(dir string) int {
	above := []string{"actors", "supervisor", "dcp", "rebalance", "rebalance/cmd", "test"}
	for i, folder := range slices.Backward(above) {
		if within(dir, folder) {
			return i
		}
	}
	return len(above)
}

func TestImportsGoOneWay(t *testing.T) {
	for _, s := range house(t) {
		allowed, known := mayImport[s.dir]
		top := within(s.dir, "rebalance/cmd") || within(s.dir, "test")
		if !assert.Truef(t, known || top, "%s: package %s has no entry in mayImport", s.file, s.dir) {
			continue
		}
		for _, imported := range s.imports() {
			dir, ok := ours(imported)
			if !ok || dir == s.dir {
				continue
			}
			switch {
			case within(dir, "test"):
				assert.Failf(t, "nothing imports test/", "%s imports %s", s.file, dir)
			case top:
			case s.test:
				assert.LessOrEqualf(t, storey(dir), storey(s.dir), "%s imports %s from a storey above", s.file, dir)
			default:
				assert.Containsf(t, allowed, dir, "%s may not import %s", s.file, dir)
			}
		}
	}
}

// Proto.Actor runs the mailboxes and nothing else: what Erlang's processes are is ours to say, in one place.
func TestOnlyOneFileTouchesProtoActor(t *testing.T) {
	const protoActor = "github.com/asynkron/protoactor-go"
	var users []string
	for _, s := range house(t) {
		for _, imported := range s.imports() {
			if within(imported, protoActor) && !within(s.dir, "test") {
				users = append(users, s.file)
				assert.Equalf(t, protoActor+"/actor", imported, "%s: only the package actor is used", s.file)
			}
		}
	}
	assert.Equal(t, []string{"actors/system.go"}, users)
}
