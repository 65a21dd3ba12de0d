package kv

import (
	"context"
	"encoding/binary"

	"github.com/shearpin/shearpin/dcp/mcbp"
)

// Item is a document as it was read.
type Item struct {
	Value []byte
	CAS   uint64
	Flags uint32
}

// MutationToken is what a write was given: its place in the vbucket's history, and the document's new CAS. Seqno and UUID
// are 0 if the node does not tell them.
type MutationToken struct {
	UUID, Seqno uint64
	CAS         uint64
}

// Get reads a document. A missing one is a [StatusError] with mcbp.StatusKeyNotFound.
func (c *Client) Get(ctx context.Context, vb uint16, key string) (Item, error) {
	f, err := c.request(ctx, &mcbp.Packet{Opcode: mcbp.OpGet, VBucket: vb, Key: []byte(key)})
	if err != nil {
		return Item{}, err
	}
	item := Item{Value: f.Value(), CAS: f.CAS()}
	if extras := f.Extras(); len(extras) >= 4 {
		item.Flags = binary.BigEndian.Uint32(extras)
	}
	return item, nil
}

// Set writes a document. With a cas other than 0 the document must still have it, else the error is a [StatusError] with
// mcbp.StatusKeyExists. expiry is in seconds from now or a Unix time, 0 for never.
func (c *Client) Set(
	ctx context.Context, vb uint16, key string, value []byte, cas uint64, flags, expiry uint32,
) (MutationToken, error) {
	return c.mutate(ctx, &mcbp.Packet{
		Opcode: mcbp.OpSet, VBucket: vb, Key: []byte(key), Value: value, CAS: cas, Extras: storeExtras(flags, expiry),
	})
}

// Add writes a document that must not exist, else the error is a [StatusError] with mcbp.StatusKeyExists.
func (c *Client) Add(
	ctx context.Context, vb uint16, key string, value []byte, flags, expiry uint32,
) (MutationToken, error) {
	return c.mutate(ctx, &mcbp.Packet{
		Opcode: mcbp.OpAdd, VBucket: vb, Key: []byte(key), Value: value, Extras: storeExtras(flags, expiry),
	})
}

// Replace is [Client.Set] for a document that must exist, else the error is a [StatusError] with mcbp.StatusKeyNotFound.
func (c *Client) Replace(
	ctx context.Context, vb uint16, key string, value []byte, cas uint64, flags, expiry uint32,
) (MutationToken, error) {
	return c.mutate(ctx, &mcbp.Packet{
		Opcode: mcbp.OpReplace, VBucket: vb, Key: []byte(key), Value: value, CAS: cas, Extras: storeExtras(flags, expiry),
	})
}

// Delete deletes a document, with the same meaning of cas as [Client.Set]. A missing one is a [StatusError] with
// mcbp.StatusKeyNotFound.
func (c *Client) Delete(ctx context.Context, vb uint16, key string, cas uint64) (MutationToken, error) {
	return c.mutate(ctx, &mcbp.Packet{Opcode: mcbp.OpDelete, VBucket: vb, Key: []byte(key), CAS: cas})
}

func (c *Client) mutate(ctx context.Context, p *mcbp.Packet) (MutationToken, error) {
	f, err := c.request(ctx, p)
	if err != nil {
		return MutationToken{}, err
	}
	token := MutationToken{CAS: f.CAS()}
	if extras := f.Extras(); len(extras) >= 16 {
		token.UUID = binary.BigEndian.Uint64(extras)
		token.Seqno = binary.BigEndian.Uint64(extras[8:])
	}
	return token, nil
}

func storeExtras(flags, expiry uint32) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(make([]byte, 0, 8), flags), expiry)
}
