package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	atlasqueue "github.com/atlasqueue/atlasqueue/clients/go"
)

type answer = map[string]any

// given are the arguments that calls have; each call uses some of them.
type given struct {
	client    string
	jobID     string
	queue     string
	state     string
	kind      string
	reason    string
	jobIDs    []string
	dryRun    bool
	timeoutS  float64
	job       newJob
	jobs      []newJob
	policy    policy
	fields    []string
	servers   []string
	retryForS float64
}

func read(from arguments) (given, error) {
	g := given{retryForS: 30}
	err := errors.Join(
		from.get("client", &g.client), from.get("job_id", &g.jobID), from.get("queue", &g.queue),
		from.get("state", &g.state), from.get("kind", &g.kind), from.get("reason", &g.reason),
		from.get("job_ids", &g.jobIDs), from.get("dry_run", &g.dryRun), from.get("timeout_s", &g.timeoutS),
		from.get("job", &g.job), from.get("jobs", &g.jobs), from.get("policy", &g.policy),
		from.get("fields", &g.fields), from.get("servers", &g.servers), from.get("retry_for_s", &g.retryForS),
	)
	return g, err
}

// where narrows a job down to the queue that was given, if one was.
func (g given) where() []atlasqueue.Where {
	if g.queue == "" {
		return nil
	}
	return []atlasqueue.Where{atlasqueue.InQueue(g.queue)}
}

func (g given) deadLetters() (atlasqueue.DeadLetterFilter, error) {
	reason, err := named(g.reason, atlasqueue.AttemptsSpent, atlasqueue.BodyLost)
	return atlasqueue.DeadLetterFilter{JobIDs: g.jobIDs, Kind: g.kind, Reason: reason}, err
}

// named is the value of an enumeration that goes by a name; zero for none.
func named[Value interface {
	~int32
	fmt.Stringer
}](name string, first, last Value) (Value, error) {
	if name == "" {
		return 0, nil
	}
	for value := first; value <= last; value++ {
		if value.String() == name {
			return value, nil
		}
	}
	return 0, fmt.Errorf("nothing is called %s", name)
}

func (e *executor) call(ctx context.Context, name string, from arguments) (answer, error) {
	switch name {
	case "start_worker":
		return e.startWorker(from)
	case "stop_worker":
		return e.stopWorker(from)
	case "open":
		return e.openGate(from)
	}
	g, err := read(from)
	if err != nil {
		return nil, err
	}
	if name == "connect" {
		return e.connect(g)
	}
	client, err := e.client(g.client)
	if err != nil {
		return nil, err
	}
	if call := producers[name]; call != nil {
		return call(ctx, client, g)
	}
	if call := operators[name]; call != nil {
		return call(ctx, client, g)
	}
	return nil, fmt.Errorf("no call %q", name)
}

func (e *executor) connect(g given) (answer, error) {
	retryFor := atlasqueue.WithRetryFor(seconds(g.retryForS))
	client, err := atlasqueue.NewClient(atlasqueue.WithServers(e.here(g.servers)...), retryFor)
	if err != nil {
		return nil, err
	}
	e.mutex.Lock()
	defer e.mutex.Unlock()
	e.clients[g.client] = client
	return answer{}, nil
}

var producers = map[string]func(context.Context, *atlasqueue.Client, given) (answer, error){
	"hello": func(context.Context, *atlasqueue.Client, given) (answer, error) {
		return answer{"sdk": "go"}, nil
	},
	"enqueue": func(ctx context.Context, c *atlasqueue.Client, g given) (answer, error) {
		id, err := c.Enqueue(ctx, g.job.sdk())
		return answer{"job_id": id}, err
	},
	"enqueue_batch": func(ctx context.Context, c *atlasqueue.Client, g given) (answer, error) {
		jobs := make([]atlasqueue.NewJob, len(g.jobs))
		for i, job := range g.jobs {
			jobs[i] = job.sdk()
		}
		ids, err := c.EnqueueBatch(ctx, jobs)
		return answer{"job_ids": ids}, err
	},
	"get": func(ctx context.Context, c *atlasqueue.Client, g given) (answer, error) {
		job, err := c.Get(ctx, g.jobID, g.where()...)
		return answer{"job": plainJob(job)}, err
	},
	"list": func(ctx context.Context, c *atlasqueue.Client, g given) (answer, error) {
		state, err := named(g.state, atlasqueue.Scheduled, atlasqueue.Dead)
		if err != nil {
			return nil, err
		}
		return plainJobs(c.List(ctx, g.queue, atlasqueue.JobFilter{State: state, Kind: g.kind}))
	},
	"cancel": func(ctx context.Context, c *atlasqueue.Client, g given) (answer, error) {
		state, err := c.Cancel(ctx, g.jobID, g.where()...)
		return answer{"state": state.String()}, err
	},
	"cancel_many": func(ctx context.Context, c *atlasqueue.Client, g given) (answer, error) {
		state, err := named(g.state, atlasqueue.Scheduled, atlasqueue.Dead)
		if err != nil {
			return nil, err
		}
		done, err := c.CancelMany(ctx, g.queue, atlasqueue.JobFilter{State: state, Kind: g.kind}, g.dryRun)
		return answer{"cancelled": sorted(done.Cancelled), "requested": sorted(done.Requested)}, err
	},
	"wait": func(ctx context.Context, c *atlasqueue.Client, g given) (answer, error) {
		if g.timeoutS > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, seconds(g.timeoutS))
			defer cancel()
		}
		job, err := c.Wait(ctx, g.jobID, g.where()...)
		return answer{"job": plainJob(job)}, err
	},
	"watch": func(ctx context.Context, c *atlasqueue.Client, g given) (answer, error) {
		states := []string{}
		for job, err := range c.Watch(ctx, g.jobID, g.where()...) {
			if err != nil {
				return nil, err
			}
			states = append(states, job.State.String())
		}
		return answer{"states": states}, nil
	},
}

var operators = map[string]func(context.Context, *atlasqueue.Client, given) (answer, error){
	"queues": func(ctx context.Context, c *atlasqueue.Client, _ given) (answer, error) {
		names := []string{}
		for queue, err := range c.Queues.List(ctx) {
			if err != nil {
				return nil, err
			}
			names = append(names, queue.Name)
		}
		return answer{"queues": names}, nil
	},
	"queue": func(ctx context.Context, c *atlasqueue.Client, g given) (answer, error) {
		queue, err := c.Queues.Get(ctx, g.queue)
		return answer{"queue": plainQueue(queue)}, err
	},
	"update_policy": func(ctx context.Context, c *atlasqueue.Client, g given) (answer, error) {
		queue, err := c.Queues.UpdatePolicy(ctx, g.queue, g.policy.sdk(), g.fields...)
		return answer{"queue": plainQueue(queue)}, err
	},
	"pause": func(ctx context.Context, c *atlasqueue.Client, g given) (answer, error) {
		queue, err := c.Queues.Pause(ctx, g.queue)
		return answer{"queue": plainQueue(queue)}, err
	},
	"resume": func(ctx context.Context, c *atlasqueue.Client, g given) (answer, error) {
		queue, err := c.Queues.Resume(ctx, g.queue)
		return answer{"queue": plainQueue(queue)}, err
	},
	"depth": func(ctx context.Context, c *atlasqueue.Client, g given) (answer, error) {
		depth, err := c.Queues.Depth(ctx, g.queue)
		return answer{"depth": answer{
			"scheduled": depth.Scheduled, "ready": depth.Ready, "leased": depth.Leased,
			"dead": depth.Dead, "succeeded": depth.Succeeded, "cancelled": depth.Cancelled,
		}}, err
	},
	"dead_letters": func(ctx context.Context, c *atlasqueue.Client, g given) (answer, error) {
		filter, err := g.deadLetters()
		if err != nil {
			return nil, err
		}
		return plainJobs(c.DeadLetters.List(ctx, g.queue, filter))
	},
	"redrive": func(ctx context.Context, c *atlasqueue.Client, g given) (answer, error) {
		filter, err := g.deadLetters()
		if err != nil {
			return nil, err
		}
		count, err := c.DeadLetters.Redrive(ctx, g.queue, filter, g.dryRun)
		return answer{"count": count}, err
	},
	"purge": func(ctx context.Context, c *atlasqueue.Client, g given) (answer, error) {
		filter, err := g.deadLetters()
		if err != nil {
			return nil, err
		}
		count, err := c.DeadLetters.Purge(ctx, g.queue, filter, g.dryRun)
		return answer{"count": count}, err
	},
	"workers": func(ctx context.Context, c *atlasqueue.Client, _ given) (answer, error) {
		sessions, err := c.Workers(ctx)
		listed := make([]answer, len(sessions))
		for i, s := range sessions {
			listed[i] = answer{
				"session_id": s.SessionID, "worker": s.Worker, "queues": s.Queues, "slots": s.Slots, "leased": s.Leased,
				"streaming": s.Streaming, "server_id": s.ServerID, "time_left_s": s.TimeLeft.Seconds(),
			}
		}
		return answer{"workers": listed}, err
	},
	"cluster": func(ctx context.Context, c *atlasqueue.Client, _ given) (answer, error) {
		cluster, err := c.Cluster(ctx)
		servers := make([]answer, len(cluster.Servers))
		for i, s := range cluster.Servers {
			servers[i] = answer{"server_id": s.ServerID, "address": s.Address, "version": s.Version, "leader": s.Leader}
		}
		return answer{"cluster": answer{"servers": servers, "leader": cluster.Leader}}, err
	},
}

func plainJobs(found iter.Seq2[atlasqueue.Job, error]) (answer, error) {
	jobs := []answer{}
	for job, err := range found {
		if err != nil {
			return nil, err
		}
		jobs = append(jobs, plainJob(job))
	}
	return answer{"jobs": jobs}, nil
}

// sorted are ids in order, [] for none.
func sorted(ids []string) []string {
	slices.Sort(ids)
	return append([]string{}, ids...)
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
