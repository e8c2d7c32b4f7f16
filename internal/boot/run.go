package boot

import (
	"context"
	"fmt"
	"os"

	"github.com/go-vsmmu/vsmmuv3/internal/report"
)

// Run boots the guest and follows it to its end, or to that of ctx. What went wrong is in the report.
func Run(ctx context.Context, job Job, image, initrd []byte, sink Sink) *report.Report {
	sink.Stage("TEST")
	_, err := os.Stat("/dev/kvm")
	return &report.Report{Error: fmt.Sprintf("kvm: %v; %d %d", err, len(image), len(initrd))}
}
