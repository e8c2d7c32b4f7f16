package boottest

import (
	"fmt"
	"os"
	"strings"

	"github.com/go-vsmmu/vsmmuv3/testbed/host/progress"
)

// sink shows what happens, and keeps the transcript.
type sink struct {
	*progress.Progress
	transcript *os.File // nil for none
}

// Transcript writes a piece of the transcript.
func (s sink) Transcript(p []byte) error {
	if _, err := s.transcript.Write(p); err != nil {
		return fmt.Errorf("the transcript: %w", err)
	}
	return nil
}

// title says what is recorded.
func (o *Options) title(kernel string) string {
	title := strings.TrimSpace(kernel + " " + o.Cmdline)
	if o.pci() {
		title += ", disks on the PCI bus"
	}
	if o.Stage == 2 {
		title += ", by stage 2"
	}
	if o.Stalls {
		title += ", with stalls"
	}
	if o.Rebind {
		title += ", disks unbound and bound"
	}
	return title
}

// createTranscript finds out, before anything is booted, whether the transcript can be written; nil without a path. What
// is there of it when a boot fails can be read up to there.
func createTranscript(path string) (*os.File, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("the transcript: %w", err)
	}
	return f, nil
}
