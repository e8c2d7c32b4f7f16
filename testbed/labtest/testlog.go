package labtest

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/go-vsmmu/vsmmuv3/testbed/labtest/machine"
)

// Outcome is the outcome of a test.
type Outcome string

// Outcomes of tests.
const (
	Pass Outcome = "pass"
	Fail Outcome = "fail"
	Skip Outcome = "skip"
)

// Test is a test that has ended.
type Test struct {
	Machine string  `json:"machine"`
	Name    string  `json:"name"`
	Outcome Outcome `json:"outcome"`
	Seconds float64 `json:"seconds"` // of the machine's virtual time
	// Reason says why the test was skipped.
	Reason string `json:"reason,omitempty"`
	// Output has at most maxOutput lines that a failed test printed.
	Output []string `json:"output,omitempty"`
}

func (t Test) String() string {
	s := fmt.Sprintf("%s: %s", t.Outcome, t.Name)
	switch {
	case t.Reason != "":
		s += ": " + t.Reason
	case t.Outcome == Fail && len(t.Output) > 0:
		s += ":\n\t" + strings.Join(t.Output, "\n\t")
	}
	return s
}

// depth returns how many levels of subtests the test is below a top-level test.
func (t Test) depth() int { return strings.Count(t.Name, "/") }

// testLog reads the output of a test binary with -test.v=test2json. The testing package then prints
// the end of each test at once. It puts a mark before its own lines, even in the middle of a test's
// line.
type testLog struct {
	machine string
	ended   func(Test) // called at the end of each test
	tests   []Test

	current string // the test that prints, "" outside of tests
	exit    *machine.Exit
	output  map[string][]string // by test, until it ends
}

func newTestLog(machine string, ended func(Test)) *testLog {
	return &testLog{machine: machine, ended: ended, output: map[string][]string{}}
}

// mark precedes the lines of the testing package.
const mark = "\x16"

var (
	nameLine = regexp.MustCompile(`^=== (?:RUN|NAME|CONT|PAUSE) +(\S*)`)
	endLine  = regexp.MustCompile(`^ *--- (PASS|FAIL|SKIP): (\S+) \(([0-9.]+)s\)`)
	// logPrefix is the position that precedes the text of Log and Skip.
	logPrefix = regexp.MustCompile(`^ *[^ ]+\.go:[0-9]+: `)
)

// maxOutput is the number of lines kept of a test's output.
const maxOutput = 50

// line reads one line.
func (l *testLog) line(line string) {
	text, own, marked := strings.Cut(line, mark)
	if text != "" {
		if kept := l.output[l.current]; len(kept) < maxOutput {
			l.output[l.current] = append(kept, text)
		}
	}
	if !marked {
		return
	}
	if m := nameLine.FindStringSubmatch(own); m != nil {
		l.current = m[1]
		return
	}
	m := endLine.FindStringSubmatch(own)
	if m == nil {
		return
	}
	t := Test{Machine: l.machine, Name: m[2], Outcome: Outcome(strings.ToLower(m[1]))}
	t.Seconds, _ = strconv.ParseFloat(m[3], 64)
	output := l.output[t.Name]
	delete(l.output, t.Name)
	switch t.Outcome {
	case Skip:
		t.Reason = "no reason given"
		if n := len(output); n > 0 {
			t.Reason = logPrefix.ReplaceAllString(output[n-1], "")
		}
	case Fail:
		t.Output = output
	}
	l.tests = append(l.tests, t)
	l.ended(t)
}

// during adds the running test to the error of a machine that ended early.
func (l *testLog) during(err error) error {
	if l.current == "" {
		return err
	}
	return fmt.Errorf("%w during %s", err, l.current)
}

// exitError returns an error if the program exited with a status that no failed test explains.
func (l *testLog) exitError() error {
	failed := slices.ContainsFunc(l.tests, func(t Test) bool { return t.Outcome == Fail })
	if l.exit == nil || l.exit.Status == 0 || failed {
		return nil
	}
	return fmt.Errorf("the tests exited with status %d, and no test failed", l.exit.Status)
}
