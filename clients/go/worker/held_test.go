package worker

import (
	"context"
	"errors"
	"math"
	"testing"
	"time"

	pb "github.com/atlasqueue/atlasqueue/clients/go/gen/atlasqueue/v1"
)

// It showed as jobs that stayed leased for the visibility timeout after their worker had stopped, and then counted
// a crash: they were on their way to it.
func TestNothingIsOnItsWayToAWorkerThatStops(t *testing.T) {
	held := newHeld()
	held.add([]*Job{{Fence: 7}})
	if _, last := held.snapshot(); last != 0 {
		t.Fatalf("a job of this moment counts as settled: %d", last)
	}
	held.noMoreArrive()
	jobs, last := held.snapshot()
	if len(jobs) != 1 || last != math.MaxInt64 {
		t.Fatalf("got %d jobs, last fence %d", len(jobs), last)
	}
}

// Leases of several queues arrive in any order; told the lower one, a server would take back what is held.
func TestTheHighestFenceStaysWhenALowerOneComesLater(t *testing.T) {
	held := newHeld()
	for _, fence := range []int64{5, 3} {
		held.add([]*Job{leased(t, fence)})
	}
	if held.highest() != 5 {
		t.Errorf("got %d", held.highest())
	}
}

func TestAFenceIsToldTwoSecondsAfterItCame(t *testing.T) {
	held, now := newHeld(), time.Now()
	held.lastFence = 5
	held.noteArrival(now)
	held.lastFence = 8
	held.noteArrival(now.Add(noteEvery))
	for _, each := range []struct {
		after time.Duration
		want  int64
	}{{settle, 0}, {settle + noteEvery, 5}, {settle + 2*noteEvery, 8}} {
		if held.settleBefore(now.Add(each.after)); held.settledFence != each.want {
			t.Errorf("after %s: %d instead of %d", each.after, held.settledFence, each.want)
		}
	}
	held.arrivals = []arrival{{now.Add(-settle), 9}}
	if _, last := held.snapshot(); last != 9 {
		t.Errorf("a heartbeat would tell %d", last)
	}
}

func TestLostJobsAreOutAndTheirHandlersAreTold(t *testing.T) {
	held := newHeld()
	one, two, done := leased(t, 1), leased(t, 2), leased(t, 3)
	held.add([]*Job{one, two, done})
	held.remove([]*pb.JobOutcome{outcomeOf(done)})
	if held.lose(1) != one || held.lose(1) != nil || held.get(3) != nil {
		t.Error("a job is held that is not")
	}
	held.setUncertain(true)
	if one.LeaseState() != Lost || two.LeaseState() != Uncertain {
		t.Errorf("the leases are %s and %s", one.LeaseState(), two.LeaseState())
	}
	held.loseAll()
	held.setUncertain(false)
	if jobs, last := held.snapshot(); len(jobs) != 0 || last != 0 || held.highest() != 0 {
		t.Errorf("a new session begins with %d jobs and fences %d, %d", len(jobs), last, held.highest())
	}
	for _, job := range []*Job{one, two} {
		if job.LeaseState() != Lost || !errors.Is(context.Cause(job.ctx), ErrLeaseLost) {
			t.Errorf("%s: %v", job.LeaseState(), context.Cause(job.ctx))
		}
	}
}

func TestAJobThatComesWhileNobodyAnswersIsUncertain(t *testing.T) {
	held := newHeld()
	held.setUncertain(true)
	job := leased(t, 1)
	held.add([]*Job{job})
	if job.LeaseState() != Uncertain {
		t.Errorf("it is %s", job.LeaseState())
	}
	held.setUncertain(false)
	if job.LeaseState() != Certain {
		t.Errorf("then it is %s", job.LeaseState())
	}
}

func TestWhatOneHeartbeatDoesNotCarryGoesWithTheNext(t *testing.T) {
	var jobs []*Job
	for fence := range int64(toldBytesMax/checkpointBytesMax + 1) {
		job := leased(t, fence)
		if err := job.SaveCheckpoint(make([]byte, checkpointBytesMax)); err != nil {
			t.Fatal(err)
		}
		jobs = append(jobs, job)
	}
	list, taken, more := listed(jobs)
	if len(list) != len(jobs) || len(taken) != len(jobs)-1 || !more {
		t.Errorf("%d of %d jobs are named, with %d checkpoints; more: %t", len(list), len(jobs), len(taken), more)
	}
	if _, taken, more = listed(jobs); len(taken) != 1 || more {
		t.Errorf("then %d checkpoints; more: %t", len(taken), more)
	}
}

func TestWhatIsToldAgainIsTheNewestOfEach(t *testing.T) {
	job := leased(t, 1)
	job.SetProgress(10, "old")
	_ = job.SaveCheckpoint([]byte("old"))
	waiting := job.takeTold()
	job.SetProgress(20, "new")
	job.giveBackTold(waiting)
	if told := job.takeTold(); told.progress.GetNote() != "new" || string(*told.checkpoint) != "old" {
		t.Errorf("told %v, %s", told.progress, *told.checkpoint)
	}
	data := []byte("mine")
	_ = job.SaveCheckpoint(data)
	data[0] = 'f'
	job.SetProgress(30, "")
	if told := job.takeTold(); string(*told.checkpoint) != "mine" || told.progress.GetPercent() != 30 {
		t.Errorf("told %v, %s", told.progress, *told.checkpoint)
	}
}
