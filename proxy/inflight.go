package proxy

import (
	"sync"

	"github.com/kube-gatehouse/gatehouse/auth"
)

// inFlight counts who has how much under way. It knows nobody who has nothing
// under way, so that its size is bounded by its own limits.
//
// Nothing is queued: a queue in front of the API server's own (API priority and
// fairness) would hide a caller's load from it, and clients repeat a 429 by
// themselves. Fairness comes from a rule that needs no knowledge of who is there:
// nobody may have more under way than is still free (Choudhury and Hahne, 1998).
// With k callers who want all they can get, each has 1/(k+1) of the whole, and
// the same is left for whoever comes next.
type inFlight struct {
	all, perUser [2]int // the limits of each class

	mu    sync.Mutex
	used  [2]int
	users map[caller]*usage
}

// caller is whose load is counted together: the user that a kind of credential
// names.
type caller struct {
	kind auth.Kind
	name string
}

// usage is what a caller has under way, of each class.
type usage [2]int

// class tells requests, which end soon by themselves, from streams.
type class int

const (
	requestClass class = iota
	streamClass
)

func classOf(kind requestKind) class {
	if kind.stream {
		return streamClass
	}
	return requestClass
}

func newInFlight(l Limits) inFlight {
	return inFlight{
		all:     [2]int{requestClass: l.Requests, streamClass: l.Streams},
		perUser: [2]int{requestClass: l.RequestsPerUser, streamClass: l.StreamsPerUser},
		users:   map[caller]*usage{},
	}
}

// enter counts one more, or returns why not. Who entered has to leave.
func (f *inFlight) enter(who caller, what class) (*usage, *rejection) {
	f.mu.Lock()
	defer f.mu.Unlock()
	mine, free := 0, f.all[what]-f.used[what]
	user := f.users[who]
	if user != nil {
		mine = user[what]
	}
	switch {
	case mine >= f.perUser[what]:
		return nil, [2]*rejection{tooManyRequests, tooManyStreams}[what]
	case mine >= free:
		return nil, [2]*rejection{fullOfRequests, fullOfStreams}[what]
	}
	if user == nil {
		user = new(usage)
		f.users[who] = user
	}
	user[what]++
	f.used[what]++
	return user, nil
}

// leave takes back what enter counted.
func (f *inFlight) leave(who caller, user *usage, what class) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.used[what]--
	user[what]--
	if *user == (usage{}) {
		delete(f.users, who)
	}
}
