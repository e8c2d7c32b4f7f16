// Package lab is the runner of the test boot: it gathers what is needed, brings up an arm64 host with KVM where this
// machine is none, and follows the boot to its report.
package boottest

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"sync"

	"github.com/go-vsmmu/vsmmuv3/testbed/boottest/vm"
	"github.com/go-vsmmu/vsmmuv3/testbed/report"
)

// message is one line of JSON from the emulated host to the runner. Exactly one field is set.
type message struct {
	Stage string       `json:"stage,omitempty"`
	Line  *consoleLine `json:"line,omitempty"`
	// Transcript is a piece of it.
	Transcript []byte         `json:"transcript,omitempty"`
	Report     *report.Report `json:"report,omitempty"` // the last message
	Error      string         `json:"error,omitempty"`  // the last message
}

type consoleLine struct {
	Machine string `json:"machine"`
	Text    string `json:"text"`
}

const (
	// stopWord is the runner's word to the host, before emulator.Heard: end the boot, and report as far as it came.
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

// Stage and Line make the sender a vm.Sink. A channel that is broken shows where the report is sent.
func (s *sender) Stage(name string)         { _ = s.send(message{Stage: name}) }
func (s *sender) Line(machine, text string) { _ = s.send(message{Line: &consoleLine{machine, text}}) }

// Transcript sends a piece of the transcript.
func (s *sender) Transcript(p []byte) error { return s.send(message{Transcript: p}) }

// receive passes on what the host says until its last message, or until the channel ends.
func receive(r io.Reader, sink vm.Sink) (*report.Report, error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 64<<10), maxMessage)
	for lines.Scan() {
		var m message
		if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
			return nil, fmt.Errorf("the host sent what is no message: %w", err)
		}
		switch {
		case m.Report != nil:
			return m.Report, nil
		case m.Error != "":
			return nil, fmt.Errorf("the host gave up: %s", m.Error)
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
	return nil, io.ErrUnexpectedEOF
}
