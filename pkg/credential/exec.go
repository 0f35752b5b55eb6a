package credential

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
	"unicode"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/pkg/apis/clientauthentication"
	"k8s.io/client-go/pkg/apis/clientauthentication/install"
	clientauthenticationv1 "k8s.io/client-go/pkg/apis/clientauthentication/v1"
	clientauthenticationv1beta1 "k8s.io/client-go/pkg/apis/clientauthentication/v1beta1"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/kubeshore/kubeshore/internal/printable"
)

const (
	// execInfo is the variable by which a plugin gets its ExecCredential.
	execInfo = "KUBERNETES_EXEC_INFO"
	// maxOutput bounds what a plugin may write to its stdout.
	maxOutput = 1 << 20
	// exitGrace is how long a plugin that is stopped may take to exit, and how long
	// the children of one that has exited may keep its stdout open.
	exitGrace = time.Second
)

// codecs convert ExecCredentials.
var codecs = newCodecs()

func newCodecs() serializer.CodecFactory {
	scheme := runtime.NewScheme()
	install.Install(scheme)
	return serializer.NewCodecFactory(scheme)
}

// versionOf returns the version of client.authentication.k8s.io that a plugin is
// configured to use.
func versionOf(config *clientcmdapi.ExecConfig) (schema.GroupVersion, error) {
	for _, version := range []schema.GroupVersion{clientauthenticationv1.SchemeGroupVersion, clientauthenticationv1beta1.SchemeGroupVersion} {
		if config.APIVersion == version.String() {
			return version, nil
		}
	}
	return schema.GroupVersion{}, fmt.Errorf("credential plugin %s: apiVersion %q is not supported", filepath.Base(config.Command), config.APIVersion)
}

// execution runs a plugin once.
type execution struct {
	config  *clientcmdapi.ExecConfig
	cluster *clientauthentication.Cluster // nil if the plugin doesn't get it
	// terminal is the plugin's stdin and stderr; nil if it can't ask anybody.
	terminal *loan
	// onStderr gets the lines that a plugin without a terminal writes to stderr.
	onStderr func(line string)
}

// errNoTerminal reports that a plugin has to ask somebody and can't.
var errNoTerminal = errors.New("it needs a terminal to ask for something")

// run runs the plugin until it exits or ctx ends, and returns its credential.
func (e execution) run(ctx context.Context) (*credential, error) {
	version, err := versionOf(e.config)
	if err != nil {
		return nil, err
	}
	if e.terminal == nil && e.config.InteractiveMode == clientcmdapi.AlwaysExecInteractiveMode {
		return nil, errNoTerminal
	}
	request := &clientauthentication.ExecCredential{Spec: clientauthentication.ExecCredentialSpec{Interactive: e.terminal != nil, Cluster: e.cluster}}
	info, err := runtime.Encode(codecs.LegacyCodec(version), request)
	if err != nil {
		return nil, fmt.Errorf("encode its ExecCredential: %w", err)
	}
	command := exec.CommandContext(ctx, filepath.Clean(e.config.Command), e.config.Args...)
	if err := checkPolicy(e.config.PluginPolicy, command); err != nil {
		return nil, err
	}
	command.Env = os.Environ()
	for _, variable := range e.config.Env {
		command.Env = append(command.Env, variable.Name+"="+variable.Value)
	}
	command.Env = append(command.Env, execInfo+"="+string(info))
	stdout := &limitedBuffer{limit: maxOutput}
	stderr := &lineWriter{onLine: e.onStderr}
	command.Stdout, command.Stderr = stdout, stderr
	if e.terminal != nil {
		command.Stdin, command.Stderr = e.terminal.in, e.terminal.out
	}
	command.WaitDelay = exitGrace
	stopGently(command, e.terminal == nil)
	err = command.Run()
	stderr.flush()
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil && !errors.Is(err, exec.ErrWaitDelay): // which only a child of the plugin causes
		return nil, e.describe(err, stderr.reason())
	case stdout.full:
		return nil, fmt.Errorf("it returned more than %d bytes", maxOutput)
	}
	return decode(stdout.Bytes(), version)
}

// decode returns the credential in a plugin's output. Its errors don't quote it.
func decode(output []byte, version schema.GroupVersion) (*credential, error) {
	object, kind, err := codecs.UniversalDecoder(version).Decode(output, nil, &clientauthentication.ExecCredential{})
	answer, ok := object.(*clientauthentication.ExecCredential)
	switch {
	case err != nil || !ok:
		return nil, errors.New("its output is not an ExecCredential")
	case kind.GroupVersion() != version:
		return nil, fmt.Errorf("it returned version %s instead of %s", printable.Line(kind.GroupVersion().String(), maxQuote), version)
	case answer.Status == nil:
		return nil, errors.New("it returned no status")
	}
	status := Status{
		Token: answer.Status.Token, ClientCertificateData: answer.Status.ClientCertificateData, ClientKeyData: answer.Status.ClientKeyData,
	}
	if expires := answer.Status.ExpirationTimestamp; expires != nil {
		status.Expires = &expires.Time
	}
	return newCredential(status)
}

// missingError reports that a plugin isn't installed.
type missingError struct{ reason string }

func (e missingError) Error() string { return e.reason }

// maxQuote bounds what is quoted from a plugin and from the kubeconfig, in runes.
const maxQuote = 300

// describe returns the error of a plugin that couldn't run or has failed, with the
// line of its stderr that says most.
func (e execution) describe(err error, line string) error {
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && line != "":
		return fmt.Errorf("exit code %d: %s", exit.ExitCode(), line)
	case errors.As(err, &exit):
		return fmt.Errorf("exit code %d", exit.ExitCode())
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, os.ErrNotExist):
		reason := "it is not installed"
		if _, err := exec.LookPath(e.config.Command); err == nil {
			return missingError{"the interpreter in the first line of its file is not installed"}
		}
		if !strings.ContainsRune(e.config.Command, filepath.Separator) {
			reason = "not found in PATH (" + printable.Line(os.Getenv("PATH"), maxQuote) + "), which sudo may have replaced"
		}
		if e.config.InstallHint != "" {
			reason += "; " + printable.Line(e.config.InstallHint, maxQuote)
		}
		return missingError{reason}
	}
	return err
}

// limitedBuffer keeps the first bytes that are written to it.
type limitedBuffer struct {
	bytes.Buffer

	limit int
	full  bool // something was dropped
}

func (b *limitedBuffer) Write(p []byte) (int, error) {
	room := min(b.limit-b.Len(), len(p))
	b.full = b.full || room < len(p)
	_, _ = b.Buffer.Write(p[:room])
	return len(p), nil
}

// maxStderrLines is how many lines of a plugin's stderr are reported.
const maxStderrLines = 50

// lineWriter reports lines as they are written, in printable form.
type lineWriter struct {
	onLine  func(line string)
	pending []byte
	lines   int
	failure string // the first line with the word error
	last    string // the last line with a letter
}

func (w *lineWriter) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		line, after, ended := bytes.Cut(rest, []byte("\n"))
		if room := 4*maxQuote - len(w.pending); room > 0 {
			w.pending = append(w.pending, line[:min(room, len(line))]...)
		}
		if ended {
			w.flush()
		}
		rest = after
	}
	return len(p), nil
}

// reason returns the line that is most likely the reason for a failure.
func (w *lineWriter) reason() string { return cmp.Or(w.failure, w.last) }

// flush reports the rest of the output.
func (w *lineWriter) flush() {
	line := printable.Line(string(w.pending), maxQuote)
	w.pending = w.pending[:0]
	if line == "" {
		return
	}
	if strings.ContainsFunc(line, unicode.IsLetter) {
		w.last = line
	}
	if w.failure == "" && strings.Contains(strings.ToLower(line), "error") {
		w.failure = line
	}
	if w.lines++; w.lines <= maxStderrLines && w.onLine != nil {
		w.onLine(line)
	}
}
