package qemu

import (
	"errors"
	"fmt"
	"os"
)

// TempFile is a temporary file for QEMU. On Linux it has no name, so it disappears even if a signal
// kills the runner.
type TempFile struct {
	*os.File
	named bool // Close removes the name
}

// NewTempFile returns an empty file in TMPDIR.
func NewTempFile() (*TempFile, error) {
	f, err := os.CreateTemp("", "vsmmu-")
	if err != nil {
		return nil, fmt.Errorf("create a file for QEMU (set TMPDIR to use another directory): %w", err)
	}
	t := &TempFile{f, true}
	if passesByDescriptor {
		if err := os.Remove(f.Name()); err != nil {
			return nil, errors.Join(err, f.Close())
		}
		t.named = false
	}
	return t, nil
}

// newTempFile returns a file with this content.
func newTempFile(content []byte) (*TempFile, error) {
	t, err := NewTempFile()
	if err != nil {
		return nil, err
	}
	if _, err := t.Write(content); err != nil {
		return nil, errors.Join(fmt.Errorf("%w (set TMPDIR to use another directory)", err), t.Close())
	}
	return t, nil
}

// Close closes and removes the file.
func (t *TempFile) Close() error {
	err := t.File.Close()
	if t.named {
		err = errors.Join(err, os.Remove(t.Name()))
	}
	return err
}

// firstFile is the descriptor of a machine's first file. 3 is the channel.
const firstFile = 4

// Pass gives QEMU a file, and returns the name by which Args refer to it. The caller closes the file
// after Run.
func (m *Machine) Pass(t *TempFile) (name string) {
	m.files = append(m.files, t.File)
	if t.named {
		return t.Name()
	}
	return fmt.Sprintf("/proc/self/fd/%d", firstFile+len(m.files)-1)
}
