package boottest

import (
	"fmt"
	"os"

	"github.com/go-vsmmu/vsmmuv3/testbed/host/kernel"
)

// agentPackage is the path of the program's main package.
const agentPackage = "github.com/go-vsmmu/vsmmuv3/testbed/cmd/testbed"

// ReadAgent reads a build of this program for linux/arm64. It returns an error for any other file,
// which would not start as a machine's init.
func ReadAgent(path string) ([]byte, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("the agent: %w (run make, or give one with -agent FILE)", err)
	}
	if err := kernel.CheckProgram(data, agentPackage); err != nil {
		return nil, fmt.Errorf(
			"the agent %s %w (run make, or give a build of testbed for linux/arm64 with -agent FILE)",
			path,
			err,
		)
	}
	return data, nil
}
