package transcript

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// coder converts fields to their wire form or back. Every type lists its fields once, for both
// directions.
type coder struct {
	b      []byte // encoding: what is written so far; decoding: what is left to read
	decode bool
	v1     bool   // decoding version 1, whose stages have no stage 2
	kept   uint64 // decoding: bytes of memory that the slices and strings of the entry take
	err    error  // of decoding; all later fields read as zero
}

var errShort = errors.New("entry ends early")

// num converts an unsigned number. Its wire form is a varint, since most values are small.
func num[T ~uint8 | ~uint16 | ~uint32 | ~uint64](c *coder, v *T) {
	if !c.decode {
		c.b = binary.AppendUvarint(c.b, uint64(*v))
		return
	}
	u := c.uvarint()
	if *v = T(u); uint64(*v) != u {
		c.fail(fmt.Errorf("value %#x does not fit a %T", u, *v))
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

// bytes converts bytes. Their wire form is a length and the bytes. Decoding copies them.
func (c *coder) bytes(v *[]byte) {
	if !c.decode {
		c.b = binary.AppendUvarint(c.b, uint64(len(*v)))
		c.b = append(c.b, *v...)
		return
	}
	*v = append([]byte(nil), c.raw()...)
}

func (c *coder) text(v *string) {
	if !c.decode {
		c.b = binary.AppendUvarint(c.b, uint64(len(*v)))
		c.b = append(c.b, *v...)
		return
	}
	*v = string(c.raw())
}

// raw decodes a length and returns that many bytes, in place.
func (c *coder) raw() []byte {
	n := c.uvarint()
	if n > uint64(len(c.b)) {
		c.fail(errShort)
		return nil
	}
	p := c.b[:n]
	c.b = c.b[n:]
	c.kept += n
	return p
}

// words converts a fixed number of numbers.
func words[T ~uint32 | ~uint64](c *coder, v []T) {
	for i := range v {
		num(c, &v[i])
	}
}

// commands converts commands. Their wire form is their number and the commands, each of at least
// two bytes.
func (c *coder) commands(v *[]smmuv3.Command) {
	n := uint64(len(*v))
	num(c, &n)
	if c.decode {
		if n > uint64(len(c.b))/2 {
			c.fail(errShort)
			return
		}
		*v = make([]smmuv3.Command, n)
		c.kept += n * smmuv3.CommandSize
	}
	for i := range *v {
		words(c, (*v)[i][:])
	}
}
