package console

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestWriterSplitsOutputIntoLines(t *testing.T) {
	for _, tt := range []struct {
		name   string
		writes []string
		want   []string
	}{
		{"one write, several lines", []string{"a\nbc\n\n"}, []string{"a", "bc", ""}},
		{"one line, several writes", []string{"a", "b", "c\n"}, []string{"abc"}},
		{"serial line ends", []string{"a\r\r\nb\r\n"}, []string{"a", "b"}},
		{"no line end at the end", []string{"a\nb"}, []string{"a", "b"}},
		{"as long as Max", []string{"12345678\n"}, []string{"12345678"}},
		{"longer than Max", []string{"123456789\n"}, []string{"12345678", "9"}},
		{"longer than Max, over writes", []string{"1234567", "89abcdefgh", "\n"}, []string{"12345678", "9abcdefg", "h"}},
		{"nothing", nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			w := Writer{Max: 8, Emit: func(line string) { got = append(got, line) }}
			for _, s := range tt.writes {
				n, err := w.Write([]byte(s))
				assert.Equal(t, len(s), n)
				assert.NoError(t, err)
			}
			w.Flush()
			assert.Equal(t, tt.want, got)
		})
	}
}

func TestWriterHoldsNoMoreThanMax(t *testing.T) {
	w := Writer{Max: 64, Emit: func(line string) { assert.LessOrEqual(t, len(line), 64) }}
	for range 1000 {
		_, _ = w.Write([]byte(strings.Repeat("x", 1000)))
		assert.LessOrEqual(t, len(w.buf), 64)
	}
}
