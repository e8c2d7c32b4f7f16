package console

import (
	"io"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAnswersArriveWholeHoweverShortTheReads(t *testing.T) {
	a := NewAnswers()
	a.Send("done")
	a.Send("dropped: the first one is unread")
	var got []byte
	for range 5 {
		p := make([]byte, 1)
		n, err := a.Read(p)
		require.NoError(t, err)
		got = append(got, p[:n]...)
	}
	assert.Equal(t, "done\n", string(got))
	a.Send("next")
	p := make([]byte, 80)
	n, err := a.Read(p)
	require.NoError(t, err)
	assert.Equal(t, "next\n", string(p[:n]))
}

func TestCloseEndsRead(t *testing.T) {
	a := NewAnswers()
	ended := make(chan error)
	go func() {
		_, err := a.Read(make([]byte, 1))
		ended <- err
	}()
	require.NoError(t, a.Close())
	require.NoError(t, a.Close())
	assert.ErrorIs(t, <-ended, io.EOF)
}
