//go:build linux && (amd64 || arm64)

package vm

import (
	"context"
	"fmt"

	"github.com/go-vsmmu/vsmmuv3/testbed/report"
)

// runTables boots the guest with each of the job's tables. If a guest does not reach its end, the
// other guests still boot.
func runTables(ctx context.Context, job Job, image, initrd []byte, sink Sink) (*report.Tables, error) {
	all := new(report.Tables)
	for n, name := range job.Tables {
		next, about, ok := job.by(name)
		if !ok {
			return all, fmt.Errorf("there is no table %q", name)
		}
		sink.Stage(fmt.Sprintf("table %d of %d: %s", n+1, len(job.Tables), name))
		// Each character on the console costs two exits.
		next.Cmdline = "quiet " + next.Cmdline
		r := Run(ctx, next, image, initrd, withoutStages{sink})
		all.Boots = append(all.Boots, report.TableBoot{Name: name, About: about, Report: r})
		if ctx.Err() != nil {
			return all, context.Cause(ctx)
		}
	}
	return all, nil
}

// withoutStages is a Sink that ignores the stages of one of several boots.
type withoutStages struct{ Sink }

func (withoutStages) Stage(string) {}
