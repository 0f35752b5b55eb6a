package term

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/kubeshore/kubeshore/internal/printable"
)

// Format is a format of the log. It is a flag's value (pflag.Value).
type Format string

// The formats of the log.
const (
	Text Format = "text"
	JSON Format = "json"
)

// String returns the format's name.
func (f Format) String() string { return string(f) }

// Set parses a format's name.
func (f *Format) Set(text string) error {
	switch Format(text) {
	case Text, JSON:
		*f = Format(text)
		return nil
	}
	return fmt.Errorf("must be %s or %s", Text, JSON)
}

// Type returns the flag value's type as the help shows it.
func (Format) Type() string { return string(Text + "|" + JSON) }

// NewFormatter returns a formatter for log lines, with times in the given layout
// (JSON always has RFC 3339).
func NewFormatter(format Format, layout string) logrus.Formatter {
	if format == JSON {
		return jsonFormatter{&logrus.JSONFormatter{TimestampFormat: time.RFC3339Nano}}
	}
	return &logrus.TextFormatter{FullTimestamp: true, TimestampFormat: layout, DisableColors: os.Getenv("NO_COLOR") != ""}
}

// jsonFormatter escapes what a terminal could interpret.
type jsonFormatter struct{ logrus.Formatter }

// Format implements logrus.Formatter.
func (f jsonFormatter) Format(entry *logrus.Entry) ([]byte, error) {
	line, err := f.Formatter.Format(entry)
	return printable.JSON(line), err
}

// WriteHook writes log entries to one more place.
type WriteHook struct {
	To        io.Writer
	Formatter logrus.Formatter
}

// Levels implements logrus.Hook.
func (*WriteHook) Levels() []logrus.Level { return logrus.AllLevels }

// Fire implements logrus.Hook.
func (h *WriteHook) Fire(entry *logrus.Entry) error {
	line, err := h.Formatter.Format(entry)
	if err == nil {
		_, err = h.To.Write(line)
	}
	return err
}
