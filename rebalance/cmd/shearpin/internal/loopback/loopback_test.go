package loopback_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/shearpin/shearpin/rebalance/cmd/shearpin/internal/loopback"
)

func TestLoopback(t *testing.T) {
	for addr, want := range map[string]bool{
		"127.0.0.1:1": true, "127.0.0.1": true, "127.8.8.8:1": true, "[::1]:1": true, "::1": true, "[::1]": true,
		"localhost": true, "localhost:1": true,
		"": false, ":1": false, "0.0.0.0:1": false, "[::]:1": false, "10.0.0.1:1": false, "192.168.0.1": false, "example.com": false,
		"localhost.example.com:1": false, "127.0.0.1.example.com": false,
	} {
		assert.Equal(t, want, loopback.Is(addr), addr)
	}
}
