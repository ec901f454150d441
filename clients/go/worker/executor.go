package worker

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync/atomic"
	"time"

	pb "github.com/atlasqueue/atlasqueue/clients/go/gen/atlasqueue/v1"
)

// stopWait is how long handlers that were asked to stop may take over it.
const stopWait = time.Second

// executor runs jobs, each in a goroutine, and hands their outcomes on. The server never sends more than the
// slots.
type executor struct {
	handlers map[string]Handler
	held     *held
	report   func(*pb.JobOutcome)
	// Returns when a heartbeat has brought what handlers have told, or when none can for a while.
	tell func(context.Context)
	log  *slog.Logger

	running atomic.Int64
	idle    chan struct{}
}

func (e *executor) start(jobs []*Job) {
	e.running.Add(int64(len(jobs)))
	for _, job := range jobs {
		if handler := e.handlers[job.Kind]; handler != nil {
			go e.run(job, handler)
		} else {
			e.setAside(job)
		}
	}
}

func (e *executor) setAside(job *Job) {
	e.log.Warn("unknown_kind", "queue", job.Queue, "job", job.JobID, "kind", job.Kind)
	outcome := outcomeOf(job)
	outcome.Outcome = &pb.JobOutcome_UnknownKind{UnknownKind: &pb.UnknownKind{}}
	e.handOn(job, outcome)
}

func (e *executor) run(job *Job, handler Handler) {
	outcome := outcomeOf(job)
	if job.ctx.Err() != nil {
		end(outcome, job, job.ctx.Err())
		e.ended(job, outcome)
		return
	}
	ended := false
	defer func() {
		if ended {
			return
		}
		// It panicked, or ended its goroutine; or the error that it returned panics when it is looked at, as a nil
		// pointer of some type of error does.
		var failure error = handlerPanic{recover()}
		outcome.Outcome = &pb.JobOutcome_Fail{Fail: &pb.Fail{Error: jobError(failure, debug.Stack())}}
		e.failed(job, failure)
		e.ended(job, outcome)
	}()
	result, err := handler(job.ctx, job)
	if err == nil {
		complete(outcome, result)
	} else {
		end(outcome, job, err)
		e.failed(job, err)
	}
	ended = true
	e.ended(job, outcome)
}

// handlerPanic is the error of a handler that panicked.
type handlerPanic struct{ value any }

func (p handlerPanic) Error() string {
	if p.value == nil {
		return "the handler ended its goroutine without returning"
	}
	return fmt.Sprintf("panic: %v", p.value)
}

func (e *executor) failed(job *Job, err error) {
	e.log.Info("attempt_ended", "queue", job.Queue, "job", job.JobID, "kind", job.Kind, "fence", job.Fence,
		"attempt", job.Attempt, "error", errorType(err))
}

// ended hands the outcome on, after the checkpoint that no heartbeat has brought yet: the report ends the lease,
// and with it the chance to keep what the next run begins from.
func (e *executor) ended(job *Job, outcome *pb.JobOutcome) {
	if job.hasCheckpointToTell() && runsAgain(outcome) && job.LeaseState() != Lost {
		job.settled.Store(outcome)
		e.tell(job.ctx)
	}
	e.handOn(job, outcome)
	// Whatever the handler has started ends with it.
	job.cancel(context.Canceled)
}

func runsAgain(outcome *pb.JobOutcome) bool {
	switch outcome.GetOutcome().(type) {
	case *pb.JobOutcome_Fail, *pb.JobOutcome_Snooze, *pb.JobOutcome_Release:
		return true
	default:
		return false
	}
}

func (e *executor) handOn(job *Job, outcome *pb.JobOutcome) {
	switch {
	case job.ended.Swap(true):
		// It was released while its handler ran on; whatever it says now is stale.
		return
	case job.LeaseState() == Lost:
		e.log.Warn("outcome_dropped", "queue", job.Queue, "job", job.JobID, "fence", job.Fence)
	default:
		e.report(outcome)
	}
	if e.running.Add(-1) == 0 {
		select {
		case e.idle <- struct{}{}:
		default:
		}
	}
}

// drain lets handlers finish until the grace is over, then asks them to stop and releases their jobs.
func (e *executor) drain(grace context.Context) {
	e.waitIdle(grace)
	running := e.unfinished()
	for _, job := range running {
		job.cancel(ErrDraining)
	}
	waiting, cancel := context.WithTimeout(context.Background(), stopWait)
	defer cancel()
	e.waitIdle(waiting)
	for _, job := range e.unfinished() {
		e.handOn(job, e.withoutWaiting(job))
	}
}

// withoutWaiting is the outcome of a job that a drain waits for no longer. A handler that has ended, and whose
// checkpoint no heartbeat can bring, has said how it ended. A goroutine that runs on cannot be stopped: its job goes
// back, and what it still reports will be dropped.
func (e *executor) withoutWaiting(job *Job) *pb.JobOutcome {
	if outcome := job.settled.Load(); outcome != nil {
		return outcome
	}
	e.log.Warn("released_while_running", "queue", job.Queue, "job", job.JobID)
	outcome := outcomeOf(job)
	outcome.Outcome = &pb.JobOutcome_Release{Release: &pb.Release{}}
	return outcome
}

func (e *executor) unfinished() []*Job {
	jobs, _ := e.held.snapshot()
	running := jobs[:0]
	for _, job := range jobs {
		if !job.ended.Load() {
			running = append(running, job)
		}
	}
	return running
}

func (e *executor) waitIdle(ctx context.Context) {
	for e.running.Load() > 0 {
		select {
		case <-ctx.Done():
			return
		case <-e.idle:
		}
	}
}

func outcomeOf(job *Job) *pb.JobOutcome {
	return &pb.JobOutcome{Queue: job.Queue, JobId: job.JobID, Fence: job.Fence}
}
