package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/shearpin/shearpin/dcp/kv"
)

// Credentials are those of the manager's user on the nodes. The password comes from one place: a file, an environment
// variable, or the configuration itself. However they are formatted, the password is left out.
type Credentials struct {
	User         string `yaml:"user"`
	Password     string `yaml:"password"`
	PasswordFile string `yaml:"password_file"`
	PasswordEnv  string `yaml:"password_env"`
}

// String names the user only.
func (c Credentials) String() string { return c.User }

// Format is [Credentials.String], for every verb.
func (c Credentials) Format(f fmt.State, _ rune) { fmt.Fprint(f, c.String()) }

// maxSecret bounds, in bytes, what is read of a file that holds a password or a token.
const maxSecret = 4096

// readSecret is the one line of a file. Its errors never have what is in the file.
func readSecret(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = file.Close() }() // nothing was written
	text, err := io.ReadAll(io.LimitReader(file, maxSecret+1))
	if err != nil {
		return "", err
	}
	secret := strings.TrimRight(string(text), "\r\n")
	switch {
	case len(text) > maxSecret:
		return "", fmt.Errorf("%s: has more than %d bytes", path, maxSecret)
	case secret == "":
		return "", fmt.Errorf("%s: is empty", path)
	case strings.ContainsAny(secret, "\r\n"):
		return "", fmt.Errorf("%s: has more than one line", path)
	}
	return secret, nil
}

// login reads the password from where it is.
func (c *Config) login() (kv.Credentials, error) {
	from := c.Credentials
	if from == nil {
		return kv.Credentials{}, nil
	}
	login := kv.Credentials{User: from.User, Password: from.Password}
	var err error
	switch {
	case from.PasswordFile != "":
		login.Password, err = readSecret(c.Resolve(from.PasswordFile))
	case from.PasswordEnv != "":
		if login.Password = os.Getenv(from.PasswordEnv); login.Password == "" {
			err = errors.New("the environment variable is empty")
		}
	}
	return login, err
}

// minToken is the least length of a token in characters: one that can be guessed is none.
const minToken = 16

// Token reads what callers over TCP have to show. The file must not be for everybody to read.
func (c *Config) Token() (string, error) {
	path := c.Resolve(c.Control.TokenFile)
	token, err := ReadToken(path)
	if err != nil {
		return "", fmt.Errorf("%s: control.token_file: %w", c.Path, err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("%s: control.token_file: %w", c.Path, err)
	}
	if info.Mode().Perm()&0o007 != 0 {
		return "", fmt.Errorf("%s: control.token_file: %s: everybody may read it (mode %04o); chmod 600", c.Path, path, info.Mode().Perm())
	}
	return token, nil
}

// ReadToken reads a token from its file.
func ReadToken(path string) (string, error) {
	token, err := readSecret(path)
	if err == nil && len(token) < minToken {
		err = fmt.Errorf("%s: has less than %d characters", path, minToken)
	}
	return token, err
}
