package kernel_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/go-vsmmu/vsmmuv3/testbed/host/kernel"
	"github.com/go-vsmmu/vsmmuv3/testbed/host/qemu/qemutest"
)

func TestCheckProgramAcceptsOnlyThisProgramForArm64(t *testing.T) {
	const path = "example.com/init"
	assert.NoError(t, kernel.CheckProgram(qemutest.Agent(path), path))

	edited := func(at int, b byte) []byte {
		p := qemutest.Agent(path)
		p[at] = b
		return p
	}
	for _, tt := range []struct {
		name string
		data []byte
		want string
	}{
		{"nothing", nil, "is not an ELF file"},
		{"a script", []byte("#!/bin/sh\n"), "is not an ELF file"},
		{"a truncated ELF file", qemutest.Agent(path)[:40], "is not an ELF file"},
		{"another machine's", edited(18, 62), "is for EM_X86_64, not for arm64"},
		{"an object file", edited(16, 1), "is not an executable (ET_REL)"},
		{"dynamically linked", edited(64, 3), "is dynamically linked"},
		{"not Go", edited(128, 0), "is not a Go program"},
		{"another program", qemutest.Agent("example.com/other"), "is the program example.com/other, not example.com/init"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			assert.ErrorContains(t, kernel.CheckProgram(tt.data, path), tt.want)
		})
	}
}
