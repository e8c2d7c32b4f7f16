package transcript

import "reflect"

// isNil reports whether v is nil or holds a nil pointer, map, channel or function. Methods of such
// a value may panic.
func isNil(v any) bool {
	switch r := reflect.ValueOf(v); r.Kind() {
	case reflect.Invalid:
		return true
	case reflect.Pointer, reflect.Map, reflect.Chan, reflect.Func:
		return r.IsNil()
	}
	return false
}
