package worker

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	pb "github.com/atlasqueue/atlasqueue/clients/go/gen/atlasqueue/v1"
)

// executing is an executor of one handler, with what it reports.
func executing(handler Handler) (*executor, chan *pb.JobOutcome) {
	reported := make(chan *pb.JobOutcome, 2)
	return &executor{
		handlers: map[string]Handler{"k": handler}, held: newHeld(), log: quiet, idle: make(chan struct{}, 1),
		report: func(outcome *pb.JobOutcome) { reported <- outcome }, tell: func(context.Context) {},
	}, reported
}

// begin hands jobs to the executor as the stream does.
func (e *executor) begin(jobs ...*Job) {
	e.held.add(jobs)
	e.start(jobs)
}

// over is a grace that is over.
func over(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

// It was reported as released: a failure spent no attempt and was not in the history, and a snooze ran at once.
func TestADrainThatCannotTellACheckpointReportsHowTheHandlerEnded(t *testing.T) {
	e, reported := executing(func(_ context.Context, job *Job) ([]byte, error) {
		return nil, errors.Join(job.SaveCheckpoint([]byte("page 7")), errors.New("the disk is full"))
	})
	telling, told := make(chan struct{}), make(chan struct{})
	defer close(told)
	e.tell = func(context.Context) { close(telling); <-told }
	e.begin(leased(t, 1))
	<-telling
	e.drain(over(t))
	if outcome := <-reported; outcome.GetFail().GetError().GetMessage() != "the disk is full" {
		t.Errorf("reported %v", outcome)
	}
}

// watched is a context that tells when somebody waits for its end.
type watched struct {
	context.Context
	waited chan struct{}
}

func (w watched) Done() <-chan struct{} {
	select {
	case w.waited <- struct{}{}:
	default:
	}
	return w.Context.Done()
}

func TestNoHandlerIsToldToStopWithinTheGrace(t *testing.T) {
	release := make(chan struct{})
	e, reported := executing(func(context.Context, *Job) ([]byte, error) { <-release; return nil, nil })
	job := leased(t, 1)
	e.begin(job)
	grace, drained := watched{t.Context(), make(chan struct{}, 1)}, make(chan struct{})
	go func() { defer close(drained); e.drain(grace) }()
	select {
	case <-grace.waited:
	case <-drained:
		t.Fatal("the grace was not waited for")
	}
	if job.ctx.Err() != nil {
		t.Error("the handler was told to stop")
	}
	close(release)
	<-drained
	if outcome := <-reported; outcome.GetComplete() == nil {
		t.Errorf("reported %v", outcome)
	}
}

func TestAHandlerThatIsToldToStopMayStillSayHowItEnds(t *testing.T) {
	started := make(chan struct{})
	e, reported := executing(func(ctx context.Context, _ *Job) ([]byte, error) {
		close(started)
		<-ctx.Done()
		time.Sleep(time.Millisecond)
		return nil, Snooze(time.Hour)
	})
	e.begin(leased(t, 1))
	<-started
	e.drain(over(t))
	if outcome := <-reported; outcome.GetSnooze() == nil {
		t.Errorf("reported %v", outcome)
	}
}

func TestARunThatWasReleasedReportsNothingMore(t *testing.T) {
	started, release, returned := make(chan struct{}), make(chan struct{}), make(chan struct{})
	e, reported := executing(func(context.Context, *Job) ([]byte, error) { close(started); <-release; return nil, nil })
	job := leased(t, 1)
	e.begin(job)
	<-started
	e.drain(over(t))
	if outcome := <-reported; outcome.GetRelease() == nil || e.running.Load() != 0 {
		t.Errorf("reported %v; %d run", outcome, e.running.Load())
	}
	go func() { defer close(returned); e.handOn(job, outcomeOf(job)) }()
	close(release)
	<-returned
	if len(reported) != 0 || e.running.Load() != 0 {
		t.Errorf("reported %v; %d run", <-reported, e.running.Load())
	}
}

func TestALostRunIsNeitherToldNorReported(t *testing.T) {
	e, reported := executing(func(_ context.Context, job *Job) ([]byte, error) {
		job.lose()
		return nil, errors.Join(job.SaveCheckpoint([]byte("page 7")), errors.New("late"))
	})
	e.tell = func(context.Context) { t.Error("a heartbeat is waited for") }
	e.begin(leased(t, 1))
	e.waitIdle(t.Context())
	if len(reported) != 0 {
		t.Errorf("reported %v", <-reported)
	}
}

func TestACheckpointIsWaitedForOnlyIfTheJobRunsAgain(t *testing.T) {
	for ends, waits := range map[error]bool{
		nil: false, errors.New("failed"): true, Snooze(0): true, Release(): true, Cancel(): false, Reject(errors.New("never")): false,
	} {
		e, reported := executing(func(_ context.Context, job *Job) ([]byte, error) {
			return nil, errors.Join(job.SaveCheckpoint([]byte("page 7")), ends)
		})
		waited := false
		e.tell = func(context.Context) { waited = true }
		e.begin(leased(t, 1))
		if outcome := <-reported; waited != waits {
			t.Errorf("%v: waited %t", outcome, waited)
		}
	}
}

func TestAJobThatIsCancelledBeforeItsRunDoesNotRun(t *testing.T) {
	e, reported := executing(func(context.Context, *Job) ([]byte, error) {
		t.Error("it ran")
		return nil, nil
	})
	job := leased(t, 1)
	job.cancel(ErrCancelRequested)
	e.begin(job)
	if outcome := <-reported; outcome.GetCancel() == nil {
		t.Errorf("reported %v", outcome)
	}
}

func TestTheContextOfARunEndsWithIt(t *testing.T) {
	e, reported := executing(func(context.Context, *Job) ([]byte, error) { return nil, nil })
	job := leased(t, 1)
	e.begin(job)
	<-reported
	<-job.ctx.Done()
}

func TestADrainSaysNothingOfJobsWhoseReportsAreOnTheirWay(t *testing.T) {
	e, reported := executing(func(context.Context, *Job) ([]byte, error) { return nil, nil })
	var log bytes.Buffer
	e.log = slog.New(slog.NewTextHandler(&log, nil))
	e.begin(leased(t, 1))
	<-reported
	e.waitIdle(t.Context())
	if e.drain(over(t)); strings.Contains(log.String(), "released_while_running") {
		t.Error(log.String())
	}
}
