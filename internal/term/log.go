package term

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"github.com/sirupsen/logrus"
	"k8s.io/klog/v2"
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
		return &logrus.JSONFormatter{TimestampFormat: time.RFC3339Nano}
	}
	return &logrus.TextFormatter{FullTimestamp: true, TimestampFormat: layout, DisableColors: os.Getenv("NO_COLOR") != ""}
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

// NewLog returns the log of a process that writes to out. Verbosity 1 adds debug
// entries, 2 adds those of client-go. If out is a terminal and the format is
// text, view shows the log there; otherwise view is nil.
func NewLog(out io.Writer, format Format, verbosity int) (log *logrus.Logger, view *LogView) {
	log = logrus.New()
	log.SetOutput(out)
	log.SetFormatter(NewFormatter(format, time.TimeOnly))
	switch {
	case verbosity > 1:
		log.SetLevel(logrus.TraceLevel)
	case verbosity > 0:
		log.SetLevel(logrus.DebugLevel)
	}
	writer, ok := out.(*AsyncWriter)
	if format == Text && IsTerminal(out) {
		if !ok {
			writer = NewAsyncWriter(out)
		}
		view = &LogView{out: writer}
		writer.SetFormatter(view)
		log.SetOutput(io.Discard)
		log.AddHook(view)
	} else if ok {
		writer.SetFormatter(log.Formatter)
	}
	klog.SetLoggerWithOptions(logr.New(klogSink{log: log}), klog.ContextualLogger(true))
	return log, view
}

// klogSink logs client-go's entries at trace level: kubeshore itself reports what
// a user has to know.
type klogSink struct {
	log logrus.FieldLogger
}

func (klogSink) Init(logr.RuntimeInfo) {}

func (klogSink) Enabled(level int) bool { return level <= 2 }

func (s klogSink) Info(_ int, msg string, keysAndValues ...any) {
	s.fields(keysAndValues).Log(logrus.TraceLevel, "client-go: "+msg)
}

func (s klogSink) Error(err error, msg string, keysAndValues ...any) {
	s.fields(keysAndValues).WithError(err).Log(logrus.TraceLevel, "client-go: "+msg)
}

func (s klogSink) WithValues(keysAndValues ...any) logr.LogSink {
	return klogSink{log: s.fields(keysAndValues)}
}

func (s klogSink) WithName(name string) logr.LogSink {
	return klogSink{log: s.log.WithField("logger", strings.ToLower(name))}
}

func (s klogSink) fields(keysAndValues []any) *logrus.Entry {
	fields := make(logrus.Fields, len(keysAndValues)/2)
	for i := 0; i+1 < len(keysAndValues); i += 2 {
		if key, ok := keysAndValues[i].(string); ok {
			fields[key] = keysAndValues[i+1]
		}
	}
	return s.log.WithFields(fields)
}
