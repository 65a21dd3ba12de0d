package kvnode

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"hash"
	"sync"

	"github.com/xdg-go/scram"
)

// scramIterations is the work that a password's keys cost, as in real engines.
const scramIterations = 4096

const scramSaltLen = 16

// scramMechanism is one of the SCRAM family, by the name that engines give it.
type scramMechanism struct {
	name    string
	newHash func() hash.Hash
	server  scram.HashGeneratorFcn
}

var scramMechanisms = []scramMechanism{
	{"SCRAM-SHA512", sha512.New, scram.SHA512},
	{"SCRAM-SHA256", sha256.New, scram.SHA256},
	{"SCRAM-SHA1", sha1.New, scram.SHA1},
}

// scramAccount is what one mechanism needs to know to check the node's one account.
//
// A name that is not the account's gets a challenge like any other: the salt is a function of the name, so that asking again
// gives the same; the keys are the account's, so that the work is the same; and the proof is refused at the end.
type scramAccount struct {
	mechanism scramMechanism
	user      string
	// saltKey is the node's own and random. It makes salts that nobody can tell apart.
	saltKey []byte
	// keys are derived when they are first needed, whoever asks.
	keys func() (scram.StoredCredentials, error)
}

// newScramAccounts makes the account of each mechanism that the node offers.
func newScramAccounts(o Options) map[string]*scramAccount {
	saltKey := make([]byte, sha256.Size)
	_, _ = rand.Read(saltKey) // it never fails
	accounts := make(map[string]*scramAccount, len(scramMechanisms))
	for _, m := range scramMechanisms {
		if !o.offers(m.name) {
			continue
		}
		a := &scramAccount{mechanism: m, user: o.User, saltKey: saltKey}
		a.keys = sync.OnceValues(func() (scram.StoredCredentials, error) { return a.derive(o.Password) })
		accounts[m.name] = a
	}
	return accounts
}

// salt is that of a name: always the same in the life of a node.
func (a *scramAccount) salt(name string) []byte {
	mac := hmac.New(sha256.New, a.saltKey)
	mac.Write([]byte(a.mechanism.name + "\x00" + name))
	return mac.Sum(nil)[:scramSaltLen]
}

// derive computes the account's keys (RFC 5802 §3). Names and passwords are taken as they are, like engines do.
func (a *scramAccount) derive(password string) (scram.StoredCredentials, error) {
	salt, newHash := a.salt(a.user), a.mechanism.newHash
	salted, err := pbkdf2.Key(newHash, password, salt, scramIterations, newHash().Size())
	if err != nil {
		return scram.StoredCredentials{}, err
	}
	stored := newHash()
	stored.Write(keyed(newHash, salted, "Client Key"))
	return scram.StoredCredentials{
		KeyFactors: scram.KeyFactors{Salt: string(salt), Iters: scramIterations},
		StoredKey:  stored.Sum(nil),
		ServerKey:  keyed(newHash, salted, "Server Key"),
	}, nil
}

func keyed(newHash func() hash.Hash, key []byte, text string) []byte {
	mac := hmac.New(newHash, key)
	mac.Write([]byte(text))
	return mac.Sum(nil)
}

// conversation begins the server's side.
func (a *scramAccount) conversation() (*scram.ServerConversation, error) {
	server, err := a.mechanism.server.NewServer(a.lookup)
	if err != nil {
		return nil, err
	}
	return server.NewConversation(), nil
}

// lookup gives the keys for a name, known or not.
func (a *scramAccount) lookup(name string) (scram.StoredCredentials, error) {
	stored, err := a.keys()
	stored.Salt = string(a.salt(name))
	return stored, err
}
