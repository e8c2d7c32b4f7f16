package transcript

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// coder carries fields to their wire form, or from it: every type lists its
// fields once, for both ways.
type coder struct {
	b      []byte // what has been written, or what is left to be read
	decode bool
	v1     bool  // what is decoded is of version 1, whose stages know of no stage 2
	err    error // of decoding; everything after it reads as zero
}

var errShort = errors.New("an entry ends early")

// num is an unsigned number: a varint, so that what is usually small is short.
func num[T ~uint8 | ~uint16 | ~uint32 | ~uint64](c *coder, v *T) {
	if !c.decode {
		c.b = binary.AppendUvarint(c.b, uint64(*v))
		return
	}
	u := c.uvarint()
	if *v = T(u); uint64(*v) != u {
		c.fail(fmt.Errorf("a field of %T is %#x", *v, u))
		*v = 0
	}
}

func (c *coder) uvarint() uint64 {
	u, n := binary.Uvarint(c.b)
	if n <= 0 {
		c.fail(errShort)
		return 0
	}
	c.b = c.b[n:]
	return u
}

func (c *coder) fail(err error) {
	if c.err == nil {
		c.err = err
	}
	c.b = nil
}

func (c *coder) bool(v *bool) {
	var u uint8
	if *v {
		u = 1
	}
	num(c, &u)
	*v = u != 0
}

// bytes is a length and as many bytes. What is decoded is a copy.
func (c *coder) bytes(v *[]byte) {
	if !c.decode {
		c.b = binary.AppendUvarint(c.b, uint64(len(*v)))
		c.b = append(c.b, *v...)
		return
	}
	n := c.uvarint()
	if n > uint64(len(c.b)) {
		c.fail(errShort)
		*v = nil
		return
	}
	*v = append([]byte(nil), c.b[:n]...)
	c.b = c.b[n:]
}

func (c *coder) text(v *string) {
	b := []byte(*v)
	c.bytes(&b)
	*v = string(b)
}

// words are numbers one after the other.
func words[T ~uint32 | ~uint64](c *coder, v []T) {
	for i := range v {
		num(c, &v[i])
	}
}

// list is a length and as many elements, each of which takes at least one byte.
func list[T any](c *coder, v *[]T, element func(*T)) {
	n := uint64(len(*v))
	num(c, &n)
	if c.decode {
		if n > uint64(len(c.b)) {
			c.fail(errShort)
			return
		}
		*v = make([]T, n)
	}
	for i := range *v {
		element(&(*v)[i])
	}
}
