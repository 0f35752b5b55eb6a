package term

import (
	"io"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"github.com/sirupsen/logrus"
	"k8s.io/klog/v2"
)

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
	writer, async := out.(*AsyncWriter)
	if !async && isTerminal(out) {
		writer = NewAsyncWriter(out)
	}
	switch {
	case format == Text && writer != nil && writer.terminal:
		view = &LogView{out: writer}
		writer.SetFormatter(view)
		log.SetOutput(io.Discard)
		log.AddHook(view)
	case async:
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
