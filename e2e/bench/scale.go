package main

import (
	"fmt"
	"math"

	"golang.org/x/text/language"
	"golang.org/x/text/message"
)

// cluster is what a large cluster is assumed to ask of gatehouse.
type cluster struct {
	users, controllers             int
	active                         float64 // share of users at any time
	userRate, controllerRate       float64 // requests a second of each
	userWatches, controllerWatches int
	userConnections                float64 // new ones a second, of each active user
	groups                         int     // of a user
	wide                           int     // watches of every pod of the cluster
	podEvents, otherEvents         float64 // a second: changes of pods, and events of each other watch
	lists                          float64 // a second, of 5 MiB
	tokenLife                      float64 // seconds
	issuers                        int
}

// largeCluster has 5,000 nodes with 30 pods each: a hundred of its pods start or
// end a second, each with about four changes.
func largeCluster() cluster {
	return cluster{
		users: 10000, active: .1, userRate: 1, userWatches: 3, userConnections: .1,
		controllers: 500, controllerRate: 5, controllerWatches: 20,
		groups: 20, wide: 100, podEvents: 400, otherEvents: .1, lists: 2, tokenLife: 3600, issuers: 3,
	}
}

// Of a replica.
const (
	replicaCores = 2
	useOfCores   = .5
)

// scaling is what the document about scaling says.
type scaling struct {
	Request, Group, First, Token, List, Connect, Connection, Watch, Event, Issuer, IssuerKiB, Idle string
	Assumed                                                                                        []assumption
	Loads                                                                                          []loadLine
	Kept                                                                                           []keptLine
	Cores, MiB                                                                                     string
	ReplicaCores, Needed, Replicas                                                                 int
	WatchesEach, MemoryEach, MemoryLimit                                                           string
	Tables                                                                                         []string
}

type (
	assumption struct{ What, Value string }
	loadLine   struct{ What, Rate, Cores string }
	keptLine   struct{ What, Number, MiB string }
)

// measured are the figures that the document calculates with: times in µs,
// memory in KiB.
type measured struct {
	request, group, first, list, connect, event, issuer float64
	token, connection, watch, issuerMemory, idle        float64
}

// scale calculates what a large cluster needs from what was measured.
func scale(outcomes map[string]outcome) (scaling, error) {
	var missing error
	of := func(experiment, figure string) float64 {
		value, ok := outcomes[experiment].figures[figure]
		if !ok {
			missing = fmt.Errorf("the document about scaling needs %q of %s", figure, experiment)
		}
		return value
	}
	m := measured{
		request: of("get-h2", gatehouseInfoName), group: of("slope-groups", groupCPU), first: of("slope-tokens", firstCPU),
		list: of("list-h2", gatehouseName), connect: of("connect", gatehouseName), event: of("watch", eventCPU),
		issuer: of("slope-issuers", issuerCPU), token: of("slope-tokens", tokenKiB), connection: of("slope-connections", connectionKiB),
		watch: of("watch", watchKiB), issuerMemory: of("slope-issuers", issuerKiB), idle: of("watch", idleMiB) * kibibyte,
	}
	if missing != nil {
		return scaling{}, missing
	}
	return m.scale(largeCluster()), nil
}

func (m measured) scale(c cluster) scaling {
	s := m.slopes()
	s.assume(c)
	active := c.active * float64(c.users)
	cores := 0.
	add := func(what string, rate, micros float64) {
		cores += rate * micros / 1e6
		s.Loads = append(s.Loads, loadLine{what, number(rate), fmt.Sprintf("%.2f", rate*micros/1e6)})
	}
	watches := active*float64(c.userWatches) + float64(c.controllers*c.controllerWatches)
	events := float64(c.wide)*c.podEvents + (watches-float64(c.wide))*c.otherEvents
	// The measured request has three groups already.
	add(fmt.Sprintf("requests, with %d groups", c.groups), active*c.userRate+float64(c.controllers)*c.controllerRate,
		m.request+max(0, m.group)*float64(c.groups-3))
	add("events to watches", events, m.event)
	add("lists of 5 MiB", c.lists, m.list)
	add("new connections", active*c.userConnections, m.connect)
	needed := func() int { return int(math.Ceil(cores / (replicaCores * useOfCores))) }
	// Each replica verifies a token that it sees for the first time.
	add("first requests with a token, in every replica", float64(c.users+c.controllers)*float64(needed()+1)/c.tokenLife, max(0, m.first))
	s.Cores, s.ReplicaCores, s.Needed, s.Replicas = fmt.Sprintf("%.1f", cores), replicaCores, needed(), needed()+1

	kib := 0.
	keep := func(what string, n, each float64) {
		kib += n * each
		s.Kept = append(s.Kept, keptLine{what, number(n), number(n * each / kibibyte)})
	}
	keep("watches", watches, m.watch)
	keep("connections", active+float64(c.controllers), m.connection)
	shared := kib // among the replicas; what follows each of them has
	keep("known tokens, in every replica", float64(c.users+c.controllers)*float64(s.Replicas), m.token)
	keep("replicas", float64(s.Replicas), m.idle+float64(c.issuers)*max(0, m.issuerMemory))
	s.MiB = number(kib / kibibyte)
	one := shared/float64(s.Needed) + (kib-shared)/float64(s.Replicas)
	s.WatchesEach, s.MemoryEach = number(watches/float64(s.Needed)), number(one/kibibyte)
	s.MemoryLimit = number(math.Ceil(2*one/kibibyte/128) * 128)
	return s
}

// slopes are what one more of each costs.
func (m measured) slopes() scaling {
	issuer := "none that can be measured"
	if m.issuer >= 1 {
		issuer = fmt.Sprintf("%.1f µs a request", m.issuer)
	}
	one := func(f float64) string { return fmt.Sprintf("%.1f", f) }
	return scaling{
		Request: number(m.request), Group: one(m.group), First: number(m.first), Token: one(m.token),
		List: one(m.list / 1000), Connect: number(m.connect), Connection: one(m.connection), Watch: one(m.watch),
		Event: one(m.event), Issuer: issuer, IssuerKiB: number(m.issuerMemory), Idle: number(m.idle / kibibyte),
	}
}

// assume writes down what is assumed of a cluster.
func (s *scaling) assume(c cluster) {
	add := func(value, what string) { s.Assumed = append(s.Assumed, assumption{what, value}) }
	n := func(i int) string { return number(float64(i)) }
	add(n(c.users), "users, each in "+n(c.groups)+" groups")
	add(fmt.Sprintf("%.0f %%", 100*c.active), "of them at work at any time")
	add(fmt.Sprintf("%g", c.userRate), "requests a second of each of these")
	add(n(c.userWatches), "watches of each of these")
	add(fmt.Sprintf("%g", c.userConnections), "new connections a second of each of these: a kubectl every ten seconds")
	add(n(c.controllers), "controllers and CI jobs outside the cluster")
	add(fmt.Sprintf("%g", c.controllerRate), "requests a second of each of these")
	add(n(c.controllerWatches), "watches of each of these")
	add(n(c.wide), "of all watches see every pod of the cluster")
	add(fmt.Sprintf("%g", c.podEvents), "changes of pods a second, in the whole cluster")
	add(fmt.Sprintf("%g", c.otherEvents), "events a second of each other watch")
	add(fmt.Sprintf("%g", c.lists), "lists of 5 MiB a second: whoever lost a watch for long")
	add("1 h", "life of a token")
	add(n(c.issuers), "issuers")
}

// number writes a number without a fraction, in groups of three digits.
func number(f float64) string {
	return message.NewPrinter(language.English).Sprintf("%.0f", f)
}
