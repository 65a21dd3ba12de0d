package arch

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// unwanted names what must not enter the build of a program that embeds Shearpin: each of these brings a cluster technology,
// or a framework, that such a program has chosen for itself or has no use for.
var unwanted = []string{
	"google.golang.org/grpc",
	"k8s.io",
	"github.com/hashicorp/consul",
	"go.etcd.io/etcd",
	"github.com/coreos/etcd",
	"github.com/labstack/echo",
	"github.com/labstack/gommon",
	"github.com/go-zookeeper",
	"github.com/samuel/go-zookeeper",
	"github.com/asynkron/protoactor-go/cluster",
	"github.com/asynkron/protoactor-go/remote",
}

func TestUnwantedDependenciesStayOut(t *testing.T) {
	// Reading the sources is what makes the test cache notice that an import has changed.
	var folders []string
	for _, folder := range []string{"actors", "supervisor", "dcp", "rebalance"} {
		for _, s := range house(t) {
			if within(s.dir, folder) {
				folders = append(folders, "./"+folder+"/...")
				break
			}
		}
	}
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"list", "-deps"}, folders...)...)
	cmd.Dir = root
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoErrorf(t, err, "go list: %s", stderr.String())

	compiled := strings.Fields(string(out))
	require.Contains(t, compiled, "github.com/asynkron/protoactor-go/actor", "the list is not that of the core's build")
	for _, dep := range compiled {
		for _, prefix := range unwanted {
			assert.Falsef(t, within(dep, prefix), "%s is compiled into the core", dep)
		}
	}
}
