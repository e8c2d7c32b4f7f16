package main

import (
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestVersion(t *testing.T) {
	status, out, errs := command("version")
	assert.Equal(t, 0, status)
	assert.Empty(t, errs)
	assert.Contains(t, out, "module      github.com/go-vsmmu/vsmmuv3")
	assert.Contains(t, out, "transcript  version 2\n")
	assert.Regexp(t, `(?m)^go          go1\.\d+.* \w+/\w+$`, out)

	for _, flag := range []string{"-version", "--version"} {
		status, same, errs := command(flag)
		assert.Equal(t, 0, status, errs)
		assert.Equal(t, out, same)
	}

	status, out, errs = command("version", "now")
	assert.Equal(t, 2, status)
	assert.Empty(t, out)
	assert.Equal(t, "vsmmu: unexpected argument \"now\": see vsmmu version -h\n", errs)
}

func TestVersionOfABuild(t *testing.T) {
	setting := func(key, value string) debug.BuildSetting { return debug.BuildSetting{Key: key, Value: value} }
	for want, info := range map[string]*debug.BuildInfo{
		"module      unknown\nrevision    unknown\n":  nil,
		"module      m v0.1.0\nrevision    unknown\n": {Main: debug.Module{Path: "m", Version: "v0.1.0"}},
		"module      m\nrevision    abc (modified)\n": {
			Main:     debug.Module{Path: "m"},
			Settings: []debug.BuildSetting{setting("vcs.modified", "true"), setting("vcs.revision", "abc")},
		},
		"module      m (devel)\nrevision    abc\n": {
			Main:     debug.Module{Path: "m", Version: "(devel)"},
			Settings: []debug.BuildSetting{setting("vcs.revision", "abc"), setting("vcs.modified", "false")},
		},
	} {
		assert.Contains(t, versionText(info), want)
	}
}
