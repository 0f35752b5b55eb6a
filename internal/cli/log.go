package cli

import (
	"io"
	"os"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"github.com/sirupsen/logrus"
	"k8s.io/klog/v2"
)

// The formats of the log.
const (
	formatText = "text"
	formatJSON = "json"
)

// newFormatter returns what makes lines of a format, with times as stamp has them.
func newFormatter(format, stamp string) logrus.Formatter {
	if format == formatJSON {
		return &logrus.JSONFormatter{TimestampFormat: time.RFC3339Nano}
	}
	return &logrus.TextFormatter{FullTimestamp: true, TimestampFormat: stamp, DisableColors: os.Getenv("NO_COLOR") != ""}
}

// writeHook writes what is logged to one more place.
type writeHook struct {
	to        io.Writer
	formatter logrus.Formatter
}

// Levels implements logrus.Hook.
func (*writeHook) Levels() []logrus.Level { return logrus.AllLevels }

// Fire implements logrus.Hook.
func (h *writeHook) Fire(entry *logrus.Entry) error {
	line, err := h.formatter.Format(entry)
	if err == nil {
		_, err = h.to.Write(line)
	}
	return err
}

// newLog returns the log that everything writes to: one line each, with more
// detail the higher verbose is. From 2 on client-go is heard too. In a terminal it is a
// view.
func newLog(out io.Writer, format string, verbose int) *logrus.Logger {
	log := logrus.New()
	log.SetOutput(out)
	log.SetFormatter(newFormatter(format, time.TimeOnly))
	if verbose > 0 {
		log.SetLevel(logrus.DebugLevel)
	}
	if verbose > 1 {
		log.SetLevel(logrus.TraceLevel)
	}
	shown, ok := out.(*screen)
	if format == formatText && isTerminal(out) {
		if !ok {
			shown = newScreen(out)
		}
		v := &view{screen: shown}
		shown.formatter = v
		log.SetOutput(io.Discard)
		log.AddHook(v)
	} else if ok {
		shown.formatter = log.Formatter
	}
	klog.SetLoggerWithOptions(logr.New(klogSink{log: log}), klog.ContextualLogger(true))
	return log
}

// klogSink takes what client-go logs. What a user must know of it kubeshore says
// itself, in its own words: so all of it is detail here.
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
