package kube

import "fmt"

// denial describes requests that the API server rejects because the user lacks the
// permission, or because it doesn't serve the resource.
type denial struct {
	verb, resource string // the resource may have an object's name: services/web
	namespace      string // empty: all namespaces
	context        string
	unserved       bool // the API server doesn't know the resource
}

// limitation is a denial and what happens instead.
type limitation struct {
	denial
	fallback *denial // the fallback's denial, if it is denied as well
	instead  string  // the replacement that is in use; empty if there is none
}

// String describes the limitation in a line for the user.
func (l limitation) String() string {
	text := l.describe(l.request())
	switch {
	case l.fallback != nil && (l.unserved || l.fallback.unserved):
		text += "; " + l.fallback.describe(l.fallback.request())
	case l.fallback != nil && l.fallback.resource == l.resource:
		text = l.describe(fmt.Sprintf("%s or %s %s", l.verb, l.fallback.verb, l.resource))
	case l.fallback != nil && l.fallback.verb == l.verb:
		text = l.describe(fmt.Sprintf("%s %s or %s", l.verb, l.resource, l.fallback.resource))
	case l.fallback != nil:
		text = l.describe(l.request() + " or " + l.fallback.request())
	}
	switch {
	case l.instead != "":
		text += "; " + l.instead
	case l.namespace == "" && !l.unserved:
		text += "; use -n NAMESPACE"
	}
	return text
}

func (d denial) request() string { return d.verb + " " + d.resource }

// describe returns the text for a request, or several, in the denial's namespace.
func (d denial) describe(request string) string {
	if d.unserved {
		return fmt.Sprintf("API server doesn't serve %s (context %s)", d.resource, d.context)
	}
	where := "in namespace " + d.namespace
	if d.namespace == "" {
		where = "in all namespaces"
	}
	return fmt.Sprintf("not allowed to %s %s (context %s)", request, where, d.context)
}
