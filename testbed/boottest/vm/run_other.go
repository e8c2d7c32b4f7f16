//go:build !linux || !(amd64 || arm64)

package vm

import (
	"context"
	"fmt"
	"runtime"

	"github.com/go-vsmmu/vsmmuv3/testbed/report"
)

// Available returns an error: this machine cannot run the guest itself.
func Available() error {
	return fmt.Errorf("only linux/arm64 machines run the guest themselves, this one is %s/%s",
		runtime.GOOS, runtime.GOARCH)
}

// Run reports the error of Available.
func Run(context.Context, Job, []byte, []byte, Sink) *report.Report {
	return &report.Report{Error: Available().Error()}
}
