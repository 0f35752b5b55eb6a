package project

import (
	"io/fs"
	"os"

	"golang.org/x/sys/windows"
)

// openFlags are additional flags to open a file.
const openFlags = 0

// distrust returns why a file isn't trusted: it belongs neither to the user nor to
// the administrators or the system. It is empty if the file is trusted. Access control
// lists aren't checked.
func distrust(file *os.File, _, _ fs.FileInfo) string {
	descriptor, err := windows.GetSecurityInfo(windows.Handle(file.Fd()), windows.SE_FILE_OBJECT, windows.OWNER_SECURITY_INFORMATION)
	if err != nil {
		return "has an unknown owner: " + err.Error()
	}
	owner, _, err := descriptor.Owner()
	if err != nil {
		return "has an unknown owner: " + err.Error()
	}
	me, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err == nil && owner.Equals(me.User.Sid) || owner.IsWellKnown(windows.WinBuiltinAdministratorsSid) || owner.IsWellKnown(windows.WinLocalSystemSid) {
		return ""
	}
	return "belongs to another user"
}
