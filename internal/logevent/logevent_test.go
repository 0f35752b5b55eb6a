package logevent_test

import (
	"bytes"
	"testing"

	"github.com/sirupsen/logrus"

	"github.com/kubeshore/kubeshore/internal/logevent"
)

// hook records the kinds of all entries.
type hook struct{ kinds []logevent.Kind }

func (*hook) Levels() []logrus.Level { return logrus.AllLevels }

func (h *hook) Fire(entry *logrus.Entry) error {
	kind, _ := logevent.Of(entry)
	h.kinds = append(h.kinds, kind)
	return nil
}

func TestKindReachesHooksButIsNotPrinted(t *testing.T) {
	for name, formatter := range map[string]logrus.Formatter{
		"text": &logrus.TextFormatter{DisableTimestamp: true}, "JSON": &logrus.JSONFormatter{DisableTimestamp: true},
	} {
		var plain, marked bytes.Buffer
		var h hook
		log := logrus.New()
		log.SetFormatter(formatter)
		log.AddHook(&h)
		log.SetOutput(&plain)
		log.WithField("port", 80).Info("- web.shop")
		log.SetOutput(&marked)
		logevent.With(log.WithField("port", 80), logevent.Removed).Info("- web.shop")
		if got, want := marked.String(), plain.String(); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
		if len(h.kinds) != 2 || h.kinds[0] != "" || h.kinds[1] != logevent.Removed {
			t.Errorf("%s: got kinds %q, want none and removed", name, h.kinds)
		}
	}
}
