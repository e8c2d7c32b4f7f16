package kernel_test

import (
	"debug/elf"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/go-vsmmu/vsmmuv3/testbed/host/kernel"
	"github.com/go-vsmmu/vsmmuv3/testbed/host/qemu/qemutest"
)

func TestCheckProgramAcceptsOnlyThisProgramForArm64(t *testing.T) {
	const path = "example.com/init"
	assert.NoError(t, kernel.CheckProgram(qemutest.ELF(elf.EM_AARCH64, path), path))

	object := qemutest.ELF(elf.EM_AARCH64, path)
	object[16] = byte(elf.ET_REL)
	dynamic := qemutest.ELF(elf.EM_AARCH64, path)
	dynamic[64] = byte(elf.PT_INTERP)
	for _, tt := range []struct {
		name string
		data []byte
		want string
	}{
		{"nothing", nil, "is no ELF file"},
		{"a script", []byte("#!/bin/sh\n"), "is no ELF file"},
		{"a truncated ELF file", qemutest.ELF(elf.EM_AARCH64, path)[:40], "is no ELF file"},
		{"another machine's", qemutest.ELF(elf.EM_X86_64, path), "is for EM_X86_64, not for arm64"},
		{"an object file", object, "is no executable (ET_REL)"},
		{"dynamically linked", dynamic, "is dynamically linked"},
		{"not Go", qemutest.ELF(elf.EM_AARCH64, ""), "is no Go program"},
		{"another program", qemutest.ELF(elf.EM_AARCH64, "example.com/other"), `is the program "example.com/other", not example.com/init`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			assert.ErrorContains(t, kernel.CheckProgram(tt.data, path), tt.want)
		})
	}
}
