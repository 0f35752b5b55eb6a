//go:build !windows

package roothalf

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/kubeshore/kubeshore/internal/machine"
	"github.com/kubeshore/kubeshore/internal/namepolicy"
)

var (
	// plainPath matches paths that mean themselves in sudoers(5).
	plainPath = regexp.MustCompile(`^(/[-A-Za-z0-9_.+]+)+$`)
	// plainUser matches names that mean themselves in sudoers(5).
	plainUser = regexp.MustCompile(`^[a-z_][-a-z0-9_.]*$`)
)

// SudoersLine returns the line of sudoers(5) that lets the user o.Owner with the given
// name run keeper-connect of program without a password, for o.HostsFile and for sockets
// that [os.MkdirTemp] names kubeshore-N in tempDir, and with any of the public names that
// o.Names allows. It may forbid none: a rule can't enforce that. The arguments are a
// regular expression, which needs sudo 1.9.10.
func SudoersLine(user, program string, o machine.Options, tempDir string) (string, error) {
	for _, path := range []string{program, o.HostsFile, tempDir} {
		if !plainPath.MatchString(path) {
			return "", fmt.Errorf("%s: must have only letters, digits and .-_+ for a sudoers rule", path)
		}
	}
	if !plainUser.MatchString(user) {
		user = "#" + o.Owner
	}
	publicNames, err := publicNameArguments(o.Names.Patterns)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s ALL=(root) NOPASSWD: %s ^%s --hosts-file %s --listen (auto|lookup|each) --owner %s( --cidr 127([.][0-9]+){3}/[0-9]+)+( --full-names)?%s --socket %s/kubeshore-[0-9]+/keeper$",
		user, program, KeeperConnectCommand, regexp.QuoteMeta(o.HostsFile), o.Owner, publicNames, regexp.QuoteMeta(tempDir)), nil
}

// publicNameArguments returns the regular expression for the arguments of public names.
func publicNameArguments(patterns []string) (string, error) {
	quoted := make([]string, 0, len(patterns))
	for _, pattern := range patterns {
		if strings.HasPrefix(pattern, "!") {
			return "", fmt.Errorf("pattern %s: must not begin with ! in a sudoers rule, because a command line may leave it out", pattern)
		}
		if err := namepolicy.CheckPattern(pattern); err != nil {
			return "", err
		}
		if strings.ContainsAny(pattern, "[]^") {
			return "", fmt.Errorf("pattern %s: must not have brackets in a sudoers rule", pattern)
		}
		quoted = append(quoted, strings.NewReplacer("*", "[*]", ".", "[.]", "?", "[?]").Replace(pattern))
	}
	if len(quoted) == 0 {
		return "", nil
	}
	return "( --public-name (" + strings.Join(quoted, "|") + "))*", nil
}

// errArguments is the error of keeper-connect for a command line that no kubeshore wrote.
var errArguments = errors.New("arguments differ from those of kubeshore up")

// checkCanonical returns an error unless args are written as [ConnectArguments] writes
// them. sudo matches a rule against the arguments joined with spaces, so the words that a
// rule allows may arrive grouped in other ways, e.g. as "/etc/hosts --listen auto".
func (o *commandOptions) checkCanonical(args []string) error {
	if !slices.Equal(args, ConnectArguments(o.machine, o.socket)) {
		return errArguments
	}
	return nil
}
