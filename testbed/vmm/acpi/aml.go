package acpi

import (
	"encoding/binary"
	"fmt"
	"regexp"
)

// Term is encoded AML (§20).
type Term []byte

// Opcodes (§20.3).
const (
	opName    = 0x08
	opByte    = 0x0a
	opWord    = 0x0b
	opDWord   = 0x0c
	opString  = 0x0d
	opQWord   = 0x0e
	opScope   = 0x10
	opBuffer  = 0x11
	opPackage = 0x12
	opMethod  = 0x14
	opExt     = 0x5b
	opDevice  = 0x82 // after opExt
	opLocal0  = 0x60
	opArg0    = 0x68
	opStore   = 0x70
	opLEqual  = 0x93
	opIf      = 0xa0
	opReturn  = 0xa4
)

// Arg3 is the fourth argument of a method, and Arg2 the third.
var (
	Arg0 = Term{opArg0}
	Arg2 = Term{opArg0 + 2}
	Arg3 = Term{opArg0 + 3}
)

func join[T ~[]byte](parts []T) (b []byte) {
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

// packageLength returns the encoding of the length of a body and of itself (§20.2.4).
func packageLength(body int) []byte {
	switch {
	case body+1 < 1<<6:
		return []byte{byte(body + 1)}
	case body+2 < 1<<12:
		n := body + 2
		return []byte{1<<6 | byte(n&0xf), byte(n >> 4)}
	case body+3 < 1<<20:
		n := body + 3
		return []byte{2<<6 | byte(n&0xf), byte(n >> 4), byte(n >> 12)}
	}
	n := body + 4
	return []byte{3<<6 | byte(n&0xf), byte(n >> 4), byte(n >> 12), byte(n >> 20)}
}

// withLength returns an opcode, the length of the parts, and the parts.
func withLength(op []byte, parts ...[]byte) Term {
	body := join(parts)
	return join([][]byte{op, packageLength(len(body)), body})
}

var namePattern = regexp.MustCompile(`^[A-Z_][A-Z0-9_]{3}$`)

// name returns a name of four characters. A name of another form is a mistake of the caller.
func name(s string) []byte {
	if !namePattern.MatchString(s) {
		panic(fmt.Sprintf("acpi: name %q: not four of A-Z, 0-9 and _", s))
	}
	return []byte(s)
}

// Scope returns terms of the root's child with a name, as in "_SB_".
func Scope(of string, terms ...Term) Term {
	return withLength([]byte{opScope}, []byte{'\\'}, name(of), join(terms))
}

// Device returns a device with a name of four characters.
func Device(called string, terms ...Term) Term {
	return withLength([]byte{opExt, opDevice}, name(called), join(terms))
}

// Name returns a named value.
func Name(called string, value Term) Term {
	return join([][]byte{{opName}, name(called), value})
}

// Method returns a method of up to 7 arguments.
func Method(called string, args uint8, terms ...Term) Term {
	return withLength([]byte{opMethod}, name(called), []byte{args & 7}, join(terms))
}

// Return returns from a method.
func Return(value Term) Term { return append(Term{opReturn}, value...) }

// IfEqual executes terms if two values are equal.
func IfEqual(a, b Term, terms ...Term) Term {
	return withLength([]byte{opIf}, []byte{opLEqual}, a, b, join(terms))
}

// Int returns an integer in its shortest form.
func Int(v uint64) Term {
	switch {
	case v <= 1:
		return Term{byte(v)} // ZeroOp, OneOp
	case v < 1<<8:
		return Term{opByte, byte(v)}
	case v < 1<<16:
		return binary.LittleEndian.AppendUint16(Term{opWord}, uint16(v))
	case v < 1<<32:
		return binary.LittleEndian.AppendUint32(Term{opDWord}, uint32(v))
	}
	return binary.LittleEndian.AppendUint64(Term{opQWord}, v)
}

// String returns a string of ASCII characters.
func String(s string) Term { return append(append(Term{opString}, s...), 0) }

// Package returns a list of at most 255 elements.
func Package(elements ...Term) Term {
	return withLength([]byte{opPackage}, []byte{byte(len(elements))}, join(elements))
}

// Buffer returns a buffer of bytes.
func Buffer(data []byte) Term { return withLength([]byte{opBuffer}, Int(uint64(len(data))), data) }

// EISAID returns a compressed ID, as in PNP0A08: three letters and four hexadecimal digits (§19.3.4).
func EISAID(id string) Term {
	digit := func(c byte) uint32 {
		if c >= 'A' {
			return uint32(c-'A') + 10
		}
		return uint32(c - '0')
	}
	letter := func(c byte) uint32 { return uint32(c - '@') }
	v := letter(id[0])<<26 | letter(id[1])<<21 | letter(id[2])<<16 |
		digit(id[3])<<12 | digit(id[4])<<8 | digit(id[5])<<4 | digit(id[6])
	return binary.BigEndian.AppendUint32(Term{opDWord}, v)
}
