// Package nilcheck finds nil values behind interfaces.
package nilcheck

import "reflect"

// IsNil reports whether v is nil or holds a nil value, such as a nil pointer. Methods of such a
// value may panic.
func IsNil(v any) bool {
	switch r := reflect.ValueOf(v); r.Kind() {
	case reflect.Invalid:
		return true
	case reflect.Pointer, reflect.Map, reflect.Slice, reflect.Func, reflect.Chan, reflect.UnsafePointer:
		return r.IsNil()
	}
	return false
}
