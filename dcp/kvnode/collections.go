package kvnode

import (
	"strings"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// There is the default collection of the default scope, and no other, in the first and only manifest, number 0.
const (
	manifest    = `{"uid":"0","scopes":[{"name":"_default","uid":"0","collections":[{"name":"_default","uid":"0"}]}]}`
	defaultName = "_default"

	manifestIDLen   = 8
	collectionIDLen = 4
)

// collectionsManifest answers GET_COLLECTIONS_MANIFEST.
func (c *conn) collectionsManifest(f mcbp.Frame) {
	if f.ExtrasLen() != 0 || f.KeyLen() != 0 || len(f.Value()) != 0 {
		c.answer(f, mcbp.StatusInvalid)
		return
	}
	p := mcbp.Response(f, mcbp.StatusSuccess)
	p.Value, p.Datatype = []byte(manifest), mcbp.DatatypeJSON&c.features.datatypes()
	c.reply(p)
}

// collectionID answers GET_COLLECTION_ID: the id of "scope.collection", which clients say in the key or in the value, behind the
// manifest's. An empty name is the default.
func (c *conn) collectionID(f mcbp.Frame) {
	path := string(f.Key())
	if path == "" {
		path = string(f.Value())
	}
	scope, collection, ok := strings.Cut(path, ".")
	switch {
	case !ok || f.ExtrasLen() != 0:
		c.answer(f, mcbp.StatusInvalid)
	case scope != "" && scope != defaultName:
		c.answer(f, mcbp.StatusUnknownScope)
	case collection != "" && collection != defaultName:
		c.answer(f, mcbp.StatusUnknownCollection)
	default:
		p := mcbp.Response(f, mcbp.StatusSuccess)
		p.Extras = make([]byte, manifestIDLen+collectionIDLen)
		c.reply(p)
	}
}
