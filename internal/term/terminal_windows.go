package term

import "os"

// isForeground reports whether this process may draw in the terminal: always, because
// Windows has no job control.
func isForeground(*os.File) bool { return true }

// ttyPath is the path of the process's terminal.
const ttyPath = "CONOUT$"
