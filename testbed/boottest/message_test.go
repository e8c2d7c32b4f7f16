package boottest

import (
	"bufio"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/testbed/host/progress"
)

func TestReceiveBoundsAMessage(t *testing.T) {
	endless := io.MultiReader(strings.NewReader(`{"stage":"`), zeros{})
	_, err := receive(endless, sink{Progress: progress.New(io.Discard)})
	require.ErrorIs(t, err, bufio.ErrTooLong)
	assert.False(t, errors.Is(err, io.ErrUnexpectedEOF))
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = '0'
	}
	return len(p), nil
}
