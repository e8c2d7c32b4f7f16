package machine

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Actions of syslog(2).
const (
	syslogReadAll      = 3
	syslogConsoleLevel = 8
	syslogSizeBuffer   = 10
)

const (
	// quietLevel is the console level at which a kernel prints only messages about its own end.
	quietLevel = 2
	// warning is the level of the kernel's log up to which lines are sent.
	warning = 4
	// maxLog is the number of lines of the kernel's log that are sent.
	maxLog = 100
)

// quiet makes the kernel print less on its console, since each character that a guest prints costs
// an exit.
func quiet() error {
	// syslog(2) gets the level as the length of a buffer.
	if _, err := unix.Klogctl(syslogConsoleLevel, make([]byte, quietLevel)); err != nil {
		return fmt.Errorf("syslog: set the console level: %w", err)
	}
	return nil
}

// sendLog sends the kernel's warnings and errors, except messages about the faults that the tests
// cause.
func (m *Machine) sendLog() error {
	size, err := unix.Klogctl(syslogSizeBuffer, nil)
	if err != nil {
		return fmt.Errorf("syslog: size of the log: %w", err)
	}
	log := make([]byte, size)
	n, err := unix.Klogctl(syslogReadAll, log)
	if err != nil {
		return fmt.Errorf("syslog: read the log: %w", err)
	}
	sent := 0
	for line := range strings.Lines(string(log[:n])) {
		text, ok := logged(strings.TrimSpace(line))
		if !ok || sent == maxLog {
			continue
		}
		sent++
		if err := m.Send(Message{Log: &text}); err != nil {
			return err
		}
	}
	return nil
}

// timeStamp is the time of a line. Kernels without CONFIG_PRINTK_TIME print none.
var timeStamp = regexp.MustCompile(`^\[ *[0-9.]+\] ?`)

// logged returns the text of a line of the log, such as <4>[    1.2] text, if it is a warning or an
// error and not about a fault.
func logged(line string) (text string, ok bool) {
	level, text, found := strings.Cut(strings.TrimPrefix(line, "<"), ">")
	n, err := strconv.Atoi(level)
	if says := timeStamp.ReplaceAllString(text, ""); says == "" || strings.HasPrefix(says, "**") {
		return "", false // the frame of a notice
	}
	fault := strings.Contains(text, "arm-smmu-v3") &&
		(strings.Contains(text, " event") || strings.Contains(text, "iommu: \t0x") || strings.Contains(text, "stag: "))
	return text, found && err == nil && n&7 <= warning && !fault
}
