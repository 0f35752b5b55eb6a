package listen

// SetOwnUser makes c the Clients of a process of another user.
func SetOwnUser(c *Clients, uid uint32) { c.own = uid }
