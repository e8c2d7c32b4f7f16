package main

import (
	"github.com/go-vsmmu/vsmmuv3/testbed/boottest"
	"github.com/go-vsmmu/vsmmuv3/testbed/guest"
	"github.com/go-vsmmu/vsmmuv3/testbed/labtest/machine"
	"github.com/go-vsmmu/vsmmuv3/testbed/labtest/ownsmmu"
	"github.com/go-vsmmu/vsmmuv3/testbed/labtest/vm"
)

// runInit runs the program as a machine's init. The role is on that kernel's command line.
func runInit(role string) (isInit bool, err error) {
	switch role {
	case boottest.HostInitRole:
		return true, boottest.Init()
	case guest.InitRole:
		return true, guest.Init()
	case guest.BenchRole:
		return true, guest.Bench()
	case guest.LabRole:
		return true, guest.Lab()
	case machine.VMRole:
		vm.Main()
	case machine.OwnRole:
		ownsmmu.Main()
	}
	return false, nil
}
