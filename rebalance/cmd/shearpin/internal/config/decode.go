package config

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// decoder fills a Config from the syntax tree of a file. It converts nothing: what is not written as the field wants it is a
// mistake. It notes every mistake and goes on, and where each field is, for those who look at the values afterwards.
//
// No text of a mistake has a value in it: the value may be a password.
type decoder struct {
	file   string
	at     map[string]*token.Position
	errors Errors
}

// decode reads the text of a file.
func (d *decoder) decode(text []byte, c *Config) {
	file, err := parser.ParseBytes(text, 0)
	if err != nil {
		d.syntax(err)
		return
	}
	var bodies []ast.Node
	for _, doc := range file.Docs {
		if doc.Body != nil {
			bodies = append(bodies, doc.Body)
		}
	}
	switch len(bodies) {
	case 0:
		d.wrong("", nil, "is empty")
	case 1:
		d.value("", bodies[0], reflect.ValueOf(c).Elem())
	default:
		d.wrong("", bodies[1], "must be one document, this is the second")
	}
}

var quoted = regexp.MustCompile(`"[^"]*"|'[^']{2,}'`)

// syntax notes what keeps the file from being read. The words of the parser may quote the file: only what looks like a key
// is shown.
func (d *decoder) syntax(err error) {
	e := &Error{File: d.file, Why: "is not YAML"}
	var at yaml.Error
	if errors.As(err, &at) {
		if tk := at.GetToken(); tk != nil && tk.Position != nil {
			e.Line, e.Column = tk.Position.Line, tk.Position.Column
		}
		message := quoted.ReplaceAllStringFunc(at.GetMessage(), func(q string) string {
			if slices.Contains(allKeys(reflect.TypeFor[Config]()), strings.Trim(q, `"'`)) {
				return q
			}
			return "…"
		})
		e.Why += ": " + message
	}
	d.errors = append(d.errors, e)
}

// wrong notes a mistake at a node of the tree; nil stands for none.
func (d *decoder) wrong(field string, n ast.Node, why string) {
	e := &Error{File: d.file, Field: field, Why: why}
	if at := position(n); at != nil {
		e.Line, e.Column = at.Line, at.Column
	}
	d.errors = append(d.errors, e)
}

func position(n ast.Node) *token.Position {
	switch n := n.(type) {
	case nil:
		return nil
	case *ast.MappingNode:
		if len(n.Values) > 0 { // its own token is the first colon
			return position(n.Values[0])
		}
	case *ast.MappingValueNode:
		return position(n.Key)
	}
	if tk := n.GetToken(); tk != nil {
		return tk.Position
	}
	return nil
}

// value fills one field from one node.
func (d *decoder) value(field string, n ast.Node, to reflect.Value) {
	d.at[field] = position(n)
	if to.Kind() == reflect.Pointer {
		to.Set(reflect.New(to.Type().Elem()))
		to = to.Elem()
	}
	switch n.(type) {
	case *ast.NullNode:
		d.wrong(field, n, "has no value")
		return
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode:
		d.wrong(field, n, "anchors, aliases and tags are not used here")
		return
	}
	if own, ok := to.Addr().Interface().(scalar); ok {
		d.own(field, n, own)
		return
	}
	switch to.Kind() { //nolint:exhaustive // those that a Config has
	case reflect.Struct:
		d.mapping(field, n, to)
	case reflect.Slice:
		d.sequence(field, n, to)
	case reflect.String:
		text, ok := textOf(n)
		if !ok {
			d.wrong(field, n, "must be text; a number or a word such as true is text when it is in quotes")
		}
		to.SetString(text)
	case reflect.Bool:
		b, ok := n.(*ast.BoolNode)
		if !ok {
			d.wrong(field, n, "must be true or false")
			return
		}
		to.SetBool(b.Value)
	case reflect.Int:
		v, ok := numberOf(n)
		if !ok {
			d.wrong(field, n, "must be a whole number")
		}
		to.SetInt(v)
	case reflect.Uint64:
		v, ok := numberOf(n)
		if !ok || v < 0 {
			d.wrong(field, n, "must be a whole number from 0")
			return
		}
		to.SetUint(uint64(v))
	default:
		panic(fmt.Sprintf("config: %s is a %v", field, to.Type()))
	}
}

// own fills a field that reads its own text.
func (d *decoder) own(field string, n ast.Node, to scalar) {
	text, ok := textOf(n)
	if number, isNumber := n.(*ast.IntegerNode); isNumber {
		text, ok = number.GetToken().Value, true
	}
	if !ok {
		d.wrong(field, n, "must be text")
		return
	}
	if err := to.set(text); err != nil {
		d.wrong(field, n, err.Error())
	}
}

func textOf(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	}
	return "", false
}

func numberOf(n ast.Node) (int64, bool) {
	i, ok := n.(*ast.IntegerNode)
	if !ok {
		return 0, false
	}
	v, err := strconv.ParseInt(fmt.Sprint(i.Value), 10, 64)
	return v, err == nil
}

func (d *decoder) mapping(field string, n ast.Node, to reflect.Value) {
	var pairs []*ast.MappingValueNode
	switch n := n.(type) {
	case *ast.MappingNode:
		pairs = n.Values
	case *ast.MappingValueNode:
		pairs = []*ast.MappingValueNode{n}
	default:
		d.wrong(field, n, "must have keys: "+strings.Join(keysOf(to.Type()), ", "))
		return
	}
	for _, pair := range pairs {
		key := pair.Key.GetToken().Value
		i := slices.IndexFunc(reflect.VisibleFields(to.Type()), func(f reflect.StructField) bool { return f.Tag.Get("yaml") == key })
		if i < 0 || key == "-" {
			d.wrong(join(field, key), pair, "is an unknown key; there are "+strings.Join(keysOf(to.Type()), ", "))
			continue
		}
		d.value(join(field, key), pair.Value, to.Field(i))
	}
}

func (d *decoder) sequence(field string, n ast.Node, to reflect.Value) {
	s, ok := n.(*ast.SequenceNode)
	if !ok {
		d.wrong(field, n, "must be a list")
		return
	}
	to.Set(reflect.MakeSlice(to.Type(), len(s.Values), len(s.Values)))
	for i, v := range s.Values {
		d.value(fmt.Sprintf("%s[%d]", field, i), v, to.Index(i))
	}
}

func join(field, key string) string {
	if field == "" {
		return key
	}
	return field + "." + key
}

// keysOf are the keys of a struct in their order.
func keysOf(t reflect.Type) (keys []string) {
	for _, f := range reflect.VisibleFields(t) {
		if key := f.Tag.Get("yaml"); key != "-" && key != "" {
			keys = append(keys, key)
		}
	}
	return keys
}

// allKeys are those of a type and of all that is in it.
func allKeys(t reflect.Type) []string {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return nil
	}
	keys := keysOf(t)
	for _, f := range reflect.VisibleFields(t) {
		keys = append(keys, allKeys(f.Type)...)
	}
	return keys
}
