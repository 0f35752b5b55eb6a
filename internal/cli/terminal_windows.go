package cli

import "os"

// inForeground tells whether a terminal is for this process: there are no jobs here.
func inForeground(*os.File) bool { return true }
