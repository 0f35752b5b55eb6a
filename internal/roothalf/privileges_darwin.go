package roothalf

// macOS has no capabilities.
var hostsCapabilities, portCapabilities []int

const namingCapability, signalCapability = 0, 0

// dropPrivileges does nothing.
func dropPrivileges(...int) error { return nil }
