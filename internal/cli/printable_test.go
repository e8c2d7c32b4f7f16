package cli

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestPrintable(t *testing.T) {
	assert.Equal(t, "a.[2Jb.c\td\n.é.", Printable("a\x1b[2Jb\rc\td\n\x7fé\u009b"))
}
