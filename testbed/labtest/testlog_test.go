package labtest

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// The text is what a test binary printed with -test.v=test2json; ^ stands for the mark.
func TestTestLogSeparatesTestsFromTheirOutput(t *testing.T) {
	const text = `^=== RUN   TestA
^=== RUN   TestA/one
    a_test.go:7: told
^--- PASS: TestA/one (0.25s)
^=== NAME  TestA
^=== RUN   TestA/two
    suite.go:394: the devices have no SubstreamIDs
^--- SKIP: TestA/two (0.00s)
^=== NAME  TestA
^--- PASS: TestA (0.26s)
^=== NAME  
^=== RUN   TestB
no newline^    --- FAIL: TestB (1.00s)
^=== RUN   TestC
^--- SKIP: TestC (0.00s)
^=== RUN   TestD
--- PASS: TestD (0.00s)
FAIL`
	var ended []string
	l := newTestLog("", func(t Test) { ended = append(ended, t.String()) })
	for line := range strings.Lines(strings.ReplaceAll(text, "^", mark)) {
		l.line(strings.TrimSuffix(line, "\n"))
	}
	assert.Equal(t, []Test{
		{Name: "TestA/one", Outcome: Pass, Seconds: 0.25},
		{Name: "TestA/two", Outcome: Skip, Reason: "the devices have no SubstreamIDs"},
		{Name: "TestA", Outcome: Pass, Seconds: 0.26},
		{Name: "TestB", Outcome: Fail, Seconds: 1, Output: []string{"no newline"}},
		{Name: "TestC", Outcome: Skip, Reason: "no reason given"},
	}, l.tests, "lines without the mark are a test's output")
	assert.Equal(t, "skip: TestA/two: the devices have no SubstreamIDs", ended[1])
}

func TestTestLogKeepsBoundedOutput(t *testing.T) {
	l := newTestLog("", func(Test) {})
	l.line(mark + "=== RUN   TestA")
	for range 2 * maxOutput {
		l.line("another line")
	}
	l.line(mark + "--- FAIL: TestA (0.00s)")
	assert.Len(t, l.tests[0].Output, maxOutput)
}
