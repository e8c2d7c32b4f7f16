package main

import (
	"github.com/go-vsmmu/vsmmuv3/internal/guest"
	"github.com/go-vsmmu/vsmmuv3/internal/iommulab/machine"
	"github.com/go-vsmmu/vsmmuv3/internal/iommulab/vm"
	"github.com/go-vsmmu/vsmmuv3/internal/lab"
)

// runInit is the program as the init of either machine, which the kernel's command line asks for.
func runInit(role string) (isInit bool, err error) {
	switch role {
	case lab.HostInitRole:
		return true, lab.Init()
	case guest.InitRole:
		return true, guest.Init()
	case guest.BenchRole:
		return true, guest.Bench()
	case guest.LabRole:
		return true, guest.Lab()
	case machine.VMRole:
		vm.Main()
	}
	return false, nil
}
