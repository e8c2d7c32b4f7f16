//go:build !linux || !(amd64 || arm64)

package vm

import (
	"context"
	"fmt"
	"runtime"

	"github.com/go-vsmmu/vsmmuv3/testbed/report"
)

// Available says what keeps this machine from running the guest itself.
func Available() error {
	return fmt.Errorf("a linux/arm64 machine can run the guest itself, this is %s/%s", runtime.GOOS, runtime.GOARCH)
}

// Run cannot run the guest here.
func Run(context.Context, Job, []byte, []byte, Sink) *report.Report {
	return &report.Report{Error: Available().Error()}
}
