//go:build linux && (amd64 || arm64)

package vsmmuv3_test

import (
	"fmt"
	"reflect"
	"testing"

	"github.com/stretchr/testify/assert"

	vsmmuv3 "github.com/go-vsmmu/vsmmuv3"
	"github.com/go-vsmmu/vsmmuv3/bridge/iommufd"
	"github.com/go-vsmmu/vsmmuv3/bridge/record"
	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/firmware"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/transcript"
	"github.com/go-vsmmu/vsmmuv3/vsmmu"
	"github.com/go-vsmmu/vsmmuv3/vsmmutest"
)

// failures calls each method of v that returns an error, with zero arguments, and passes the result
// to check.
func failures(v any, check func(method string, err error)) {
	r := reflect.ValueOf(v)
	for i := range r.NumMethod() {
		m, name := r.Method(i), fmt.Sprintf("%T.%s", v, r.Type().Method(i).Name)
		last := m.Type().NumOut() - 1
		if last < 0 || m.Type().Out(last) != reflect.TypeFor[error]() {
			continue
		}
		var in []reflect.Value
		for i := range m.Type().NumIn() {
			if m.Type().IsVariadic() && i == m.Type().NumIn()-1 {
				break
			}
			in = append(in, reflect.Zero(m.Type().In(i)))
		}
		func() {
			defer func() {
				if p := recover(); p != nil {
					check(name, fmt.Errorf("panic: %v", p))
				}
			}()
			err, _ := m.Call(in)[last].Interface().(error)
			check(name, err)
		}()
	}
}

// TestNilReceiversFail shows that each method with an error returns one if its receiver is nil.
func TestNilReceiversFail(t *testing.T) {
	for _, v := range []any{
		(*vsmmu.Device)(nil), (*soft.Host)(nil), (*iommufd.Host)(nil), (*iommufd.Device)(nil),
		(*record.Host)(nil), (*guestmem.Slots)(nil), (*guestmem.Tracked)(nil), (*firmware.IORT)(nil),
		(*transcript.Recorder)(nil), (*vsmmutest.RAM)(nil),
	} {
		failures(v, func(method string, err error) {
			if assert.Error(t, err, method) {
				assert.NotContains(t, err.Error(), "panic", method)
			}
		})
	}
}

// TestZeroReceiversDoNotPanic shows that no method of a zero value panics. Some zero values are
// valid.
func TestZeroReceiversDoNotPanic(t *testing.T) {
	for _, v := range []any{
		new(vsmmuv3.SMMU), new(vsmmu.Device), vsmmu.Registers{}, vsmmu.Registers{Device: (*vsmmu.Device)(nil)},
		new(soft.Host), new(soft.Endpoint), (*soft.Endpoint)(nil), soft.Port{}, new(soft.Fault),
		new(iommufd.Host), new(iommufd.Device), new(record.Host),
		new(guestmem.Slots), new(guestmem.Tracked), new(guestmem.Fake), new(guestmem.WordMemory),
		new(firmware.IORT), new(transcript.Recorder),
		new(vsmmutest.Guest), new(vsmmutest.RAM), new(vsmmutest.Stage1), new(vsmmutest.Stage2),
		new(vsmmutest.CDTable), new(vsmmutest.StreamTable),
	} {
		failures(v, func(method string, err error) {
			if err != nil {
				assert.NotContains(t, err.Error(), "panic", method)
			}
		})
	}
	assert.NotPanics(t, func() { _ = new(soft.Fault).Error() })
}

// TestWhatWasNotMadeSaysSo shows the errors of values that were made without their constructor.
func TestWhatWasNotMadeSaysSo(t *testing.T) {
	smmu := newSMMU(t, config(newRAM(t)))
	_, stage1 := vsmmutest.NewStage1(nil, soft.DefaultIDs(), vsmmutest.Layout{}, 1)
	_, cds := vsmmutest.NewCDTable(nil, 0, 1)
	_, table := (*firmware.IORT)(nil).Table()
	for text, err := range map[string]error{
		"vsmmu: attach stream 0x1: host capabilities: host was not made by soft.New":     smmu.Attach(1, new(soft.Host), soft.NewEndpoint()),
		"vsmmu: attach stream 0x1: host capabilities: host was not made by record.New":   smmu.Attach(1, new(record.Host), "nic"),
		"vsmmu: attach stream 0x1: host capabilities: host was not made by iommufd.Open": smmu.Attach(1, new(iommufd.Host), new(iommufd.Device)),
		"vsmmu: load 4 bytes at 0x0: device was not made by vsmmu.New":                   vsmmu.Registers{}.LoadBytes(0, make([]byte, 4)),
		"vsmmu: store 8 bytes at 0x80: device was not made by vsmmu.New":                 new(vsmmu.Device).StoreBytes(0x80, make([]byte, 8)),
		"vsmmu: close: device was not made by vsmmu.New":                                 new(vsmmu.Device).Close(),
		"iommufd: close: host was not made by iommufd.Open":                              (*iommufd.Host)(nil).Close(),
		"soft: close: host was not made by soft.New":                                     (*soft.Host)(nil).Close(),
		"record: close: host was not made by record.New":                                 new(record.Host).Close(),
		"vsmmutest: allocate memory: the guest's memory is nil":                          cds,
		"firmware: IORT: nil": table,
		"transcript: recorder was not made by transcript.Record": new(transcript.Recorder).Close(),
	} {
		assert.EqualError(t, err, text)
	}
	assert.ErrorContains(t, stage1, "the guest's memory is nil")
}
