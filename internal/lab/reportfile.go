package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/go-vsmmu/vsmmuv3/internal/report"
)

// reportFile is a report that comes into being complete or not at all. The one of the boot before is gone from the
// beginning, so that a boot which leaves none is not taken for it.
type reportFile struct {
	path string
	tmp  *os.File
}

// createReport finds out, before anything is booted, whether the report can be written.
func createReport(path string) (*reportFile, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("the report: %w", err)
	}
	info, err := os.Lstat(path)
	if err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("the report: %s is no regular file: give another path with -report FILE", path)
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".report-*")
	if err != nil {
		return nil, fmt.Errorf("the report: %w", err)
	}
	f := &reportFile{path, tmp}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		f.discard()
		return nil, fmt.Errorf("the report: %w", err)
	}
	return f, nil
}

func (f *reportFile) commit(r *report.Report) error {
	err := errors.Join(r.Write(f.tmp), f.tmp.Chmod(0o644), f.tmp.Close())
	if err == nil {
		err = os.Rename(f.tmp.Name(), f.path)
	}
	if err != nil {
		return fmt.Errorf("the report: %w", err)
	}
	return nil
}

// discard removes what was not committed. After a commit it has nothing to do.
func (f *reportFile) discard() {
	f.tmp.Close()
	os.Remove(f.tmp.Name())
}
