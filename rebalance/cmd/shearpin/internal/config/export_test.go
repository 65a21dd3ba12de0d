package config

import (
	"reflect"
	"slices"
)

// Fields are the paths of all keys that a file may have.
func Fields() []string { return fields(reflect.TypeFor[Config](), "") }

func fields(t reflect.Type, above string) (all []string) {
	for _, f := range reflect.VisibleFields(t) {
		key := f.Tag.Get("yaml")
		if key == "-" || key == "" {
			continue
		}
		path, inner := join(above, key), f.Type
		for inner.Kind() == reflect.Pointer || inner.Kind() == reflect.Slice {
			if inner.Kind() == reflect.Slice {
				path += "[]"
			}
			inner = inner.Elem()
		}
		if inner.Kind() == reflect.Struct {
			all = slices.Concat(all, fields(inner, path))
			continue
		}
		all = append(all, path)
	}
	return all
}
