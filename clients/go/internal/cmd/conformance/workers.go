package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/atlasqueue/atlasqueue/clients/go/worker"
)

// gate holds handlers back until the runner opens it.
type gate struct {
	once   sync.Once
	opened chan struct{}
}

func (g *gate) open() { g.once.Do(func() { close(g.opened) }) }

func (e *executor) gate(name string) *gate {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	if e.gates[name] == nil {
		e.gates[name] = &gate{opened: make(chan struct{})}
	}
	return e.gates[name]
}

func (e *executor) openGate(from arguments) (answer, error) {
	var name string
	if err := from.get("gate", &name); err != nil {
		return nil, err
	}
	e.gate(name).open()
	return answer{}, nil
}

// running is a worker at work.
type running struct {
	worker *worker.Worker
	ended  chan struct{}
}

func (r *running) stop() {
	r.worker.Stop()
	<-r.ended
}

// action is what a handler is told to do: its name and what goes with it.
type action map[string]json.RawMessage

func (e *executor) startWorker(from arguments) (answer, error) {
	var name, title string
	var queues, servers []string
	var slots int
	var graceS float64
	var kinds map[string][][]action
	err := errors.Join(
		from.get("worker", &name), from.get("name", &title), from.get("queues", &queues), from.get("servers", &servers),
		from.get("slots", &slots), from.get("grace_s", &graceS), from.get("kinds", &kinds),
	)
	if err != nil {
		return nil, err
	}
	if servers == nil {
		servers = []string{""}
	}
	app := worker.NewApp()
	for kind, runs := range kinds {
		app.Handle(kind, "conformance", e.handler(name, runs))
	}
	made, err := worker.New(app, worker.WithServers(e.here(servers)...), worker.WithQueues(queues...),
		worker.WithSlots(slots), worker.WithName(title), worker.WithGrace(seconds(graceS)))
	if err != nil {
		return nil, err
	}
	started := &running{made, make(chan struct{})}
	e.mutex.Lock()
	e.workers[name] = started
	e.mutex.Unlock()
	go func() {
		defer close(started.ended)
		event := answer{"event": "ended", "worker": name, "error": nil}
		if err := made.Run(context.Background()); err != nil {
			event["error"] = told(err)
		}
		e.write(event)
	}()
	return answer{}, nil
}

func (e *executor) stopWorker(from arguments) (answer, error) {
	var name string
	if err := from.get("worker", &name); err != nil {
		return nil, err
	}
	e.mutex.Lock()
	started := e.workers[name]
	delete(e.workers, name)
	e.mutex.Unlock()
	if started == nil {
		return nil, fmt.Errorf("no worker %q", name)
	}
	started.stop()
	return answer{}, nil
}

func (e *executor) handler(name string, runs [][]action) worker.Handler {
	return func(ctx context.Context, job *worker.Job) ([]byte, error) {
		e.write(seen(name, job))
		for _, act := range runs[min(job.Deliveries, len(runs))-1] {
			for verb, with := range act {
				if over, result, err := e.act(ctx, job, name, verb, with); over {
					return result, err
				}
			}
		}
		return nil, nil
	}
}

// HandlerError is what a handler fails with.
type HandlerError struct{ message string }

func (e *HandlerError) Error() string { return e.message }

// act does what a handler is told; over when that ends it.
func (e *executor) act(ctx context.Context, job *worker.Job, name, verb string, with json.RawMessage) (over bool, result []byte, err error) {
	var told struct {
		Percent int     `json:"percent"`
		Note    string  `json:"note"`
		Message string  `json:"message"`
		AfterS  float64 `json:"after_s"`
		DelayS  float64 `json:"delay_s"`
	}
	var content []byte
	var gateName string
	switch verb {
	case "checkpoint", "complete":
		err = json.Unmarshal(with, &content)
	case "wait":
		err = json.Unmarshal(with, &gateName)
	default:
		err = json.Unmarshal(with, &told)
	}
	if err != nil {
		return true, nil, worker.Reject(err)
	}
	failure := &HandlerError{told.Message}
	switch verb {
	case "progress":
		job.SetProgress(told.Percent, told.Note)
		return false, nil, nil
	case "checkpoint":
		err := job.SaveCheckpoint(content)
		return err != nil, nil, err
	case "wait":
		<-e.gate(gateName).opened
		return false, nil, nil
	case "wait_stop":
		<-ctx.Done()
		e.write(answer{"event": "stopped", "worker": name, "job_id": job.JobID, "fence": job.Fence, "cause": cause(ctx)})
		return false, nil, nil
	case "complete":
		return true, content, nil
	case "echo":
		return true, job.Payload, nil
	case "fail":
		return true, nil, failure
	case "retry":
		return true, nil, worker.Retry(failure, seconds(told.AfterS))
	case "reject":
		return true, nil, worker.Reject(failure)
	case "snooze":
		return true, nil, worker.Snooze(seconds(told.DelayS))
	case "release":
		return true, nil, worker.Release()
	case "cancel":
		return true, nil, worker.Cancel()
	case "stop":
		return true, nil, context.Cause(ctx)
	default:
		return true, nil, worker.Reject(fmt.Errorf("no action %q", verb))
	}
}

func cause(ctx context.Context) string {
	switch why := context.Cause(ctx); {
	case errors.Is(why, worker.ErrCancelRequested):
		return "cancel"
	case errors.Is(why, worker.ErrLeaseLost):
		return "lost"
	case errors.Is(why, worker.ErrDraining):
		return "drain"
	default:
		return why.Error()
	}
}

// seen is what a handler sees of its job.
func seen(name string, job *worker.Job) answer {
	event := answer{
		"event": "run", "worker": name, "queue": job.Queue, "job_id": job.JobID, "kind": job.Kind, "payload": plainBytes(job.Payload),
		"headers": plainHeaders(job.Headers), "priority": job.Priority, "fence": job.Fence, "attempt": job.Attempt,
		"crashes": job.Crashes, "deliveries": job.Deliveries, "max_attempts": job.MaxAttempts,
		"checkpoint": plainBytes(job.Checkpoint), "time_left_s": nil,
	}
	if left, ok := job.TimeLeft(); ok {
		event["time_left_s"] = left.Seconds()
	}
	return event
}
