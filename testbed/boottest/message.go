// Package boottest runs the test boot and the disk benchmark. It reads kernels and modules,
// emulates an arm64 host with KVM where this machine is not one, follows the boot, and writes the
// report.
package boottest

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/go-vsmmu/vsmmuv3/testbed/boottest/vm"
	"github.com/go-vsmmu/vsmmuv3/testbed/report"
)

// message is a line of JSON from the emulated host to the runner. Exactly one field is set.
type message struct {
	Stage string       `json:"stage,omitempty"`
	Line  *consoleLine `json:"line,omitempty"`
	// Transcript is a piece of the transcript.
	Transcript []byte         `json:"transcript,omitempty"`
	Report     *report.Report `json:"report,omitempty"` // the last message
	Error      string         `json:"error,omitempty"`  // the last message
}

type consoleLine struct {
	Machine string `json:"machine"`
	Text    string `json:"text"`
}

const (
	// stopWord is the runner's line that makes the host end the boot and report how far it came.
	stopWord = "stop"
	// maxMessage bounds one message; the largest is the report.
	maxMessage = 16 << 20
)

// sender is the host's end of the channel.
type sender struct {
	mu sync.Mutex
	w  io.Writer
}

func (s *sender) send(m message) error {
	line, err := json.Marshal(m)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err = s.w.Write(append(line, '\n'))
	return err
}

// Stage and Line ignore a broken channel: sending the report fails then.
func (s *sender) Stage(name string)         { _ = s.send(message{Stage: name}) }
func (s *sender) Line(machine, text string) { _ = s.send(message{Line: &consoleLine{machine, text}}) }

// Transcript sends a piece of the transcript.
func (s *sender) Transcript(p []byte) error { return s.send(message{Transcript: p}) }

// errNoReport is the error of a channel that ends before the host's last message.
var errNoReport = errors.New("the emulated host ended without a report")

// receive forwards the host's messages to sink until the last one, and returns the report. The
// report of a host that gives up has only an error.
func receive(r io.Reader, sink vm.Sink) (*report.Report, error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 64<<10), maxMessage)
	for lines.Scan() {
		var m message
		if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
			return nil, fmt.Errorf("the host sent a malformed message: %w", err)
		}
		switch {
		case m.Report != nil:
			return m.Report, nil
		case m.Error != "":
			return &report.Report{Error: "the host gave up: " + m.Error}, nil
		case m.Line != nil:
			sink.Line(m.Line.Machine, m.Line.Text)
		case len(m.Transcript) > 0:
			if err := sink.Transcript(m.Transcript); err != nil {
				return nil, err
			}
		case m.Stage != "":
			sink.Stage(m.Stage)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("the channel to the host failed: %w", err)
	}
	return nil, errNoReport
}
