package plan

// planner holds the intermediate state of Plan.
type planner struct {
	options  Options
	clusters []Cluster
	hosts    []Host         // sorted by ID once addHosts has returned
	byID     map[HostID]int // index in hosts
	claims   []claim
	dashed   map[HostID]string // DNS labels of pods without a host name; some have none
	refused  refusedDomains
}

// claim is a name that a host may get.
type claim struct {
	name string
	rank rank
	host int // index in planner.hosts
}

// rank is the precedence of a claim; the lowest wins.
type rank int

const (
	rankUser     rank = iota // configured by the user
	rankService              // a Service's own name
	rankPod                  // the name of a headless Service's pod
	rankExternal             // the name of an ExternalName Service that refers to the host
	rankIngress              // a host of an Ingress
)
