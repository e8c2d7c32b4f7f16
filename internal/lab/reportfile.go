package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/go-vsmmu/vsmmuv3/internal/report"
)

// checkReport finds out, before anything is booted, whether a report can be written, and removes the one of the boot
// before, so that a boot which leaves none is not taken for it.
func checkReport(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("the report: %w", err)
	}
	if info, err := os.Lstat(path); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("the report: %s is no regular file: give another path with -report FILE", path)
	}
	if err := writeReport(path, &report.Report{}); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("the report: %w", err)
	}
	return nil
}

// writeReport leaves a report that is complete, or none.
func writeReport(path string, r *report.Report) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".report-*")
	if err != nil {
		return fmt.Errorf("the report: %w", err)
	}
	err = errors.Join(r.Write(tmp), tmp.Chmod(0o644), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		os.Remove(tmp.Name())
		return fmt.Errorf("the report: %w", err)
	}
	return nil
}
