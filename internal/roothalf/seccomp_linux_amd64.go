package roothalf

import "golang.org/x/sys/unix"

// auditArch is the architecture whose calls are permitted (linux/audit.h).
const auditArch uint32 = unix.AUDIT_ARCH_X86_64

// refusedCallsOfArch are system calls that root's half never makes.
var refusedCallsOfArch = []uint32{unix.SYS_IOPL, unix.SYS_IOPERM, unix.SYS_MODIFY_LDT, unix.SYS_USELIB}
