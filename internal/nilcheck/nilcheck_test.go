package nilcheck

import (
	"errors"
	"io"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
)

type bytes []byte

func TestIsNil(t *testing.T) {
	var reader io.Reader
	for _, v := range []any{nil, reader, (*os.File)(nil), error(nil), bytes(nil), map[int]int(nil), (chan int)(nil), (func())(nil)} {
		assert.True(t, IsNil(v), "%T", v)
	}
	for _, v := range []any{0, "", struct{}{}, new(os.File), errors.New("x"), bytes{}, map[int]int{}, make(chan int), func() {}} {
		assert.False(t, IsNil(v), "%T", v)
	}
}
