package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	pb "github.com/atlasqueue/atlasqueue/clients/go/gen/atlasqueue/v1"
)

const (
	checkpointBytesMax = 64 << 10
	noteBytesMax       = 1 << 10
)

// LeaseState tells how sure the worker is that a job is still its own.
type LeaseState int32

const (
	// Certain: the last heartbeat was answered.
	Certain LeaseState = iota
	// Uncertain: no server has answered of late. Go on, but think twice before an effect that hurts.
	Uncertain
	// Lost: the job is another worker's by now; whatever is reported will be refused.
	Lost
)

// String is certain, uncertain or lost.
func (s LeaseState) String() string { return [...]string{"certain", "uncertain", "lost"}[s] }

// Job is a job under a lease. Its methods may be called from any goroutine.
type Job struct {
	Queue    string
	JobID    string
	Kind     string
	Payload  []byte
	Headers  map[string]string
	Priority int
	// Fence grows from one lease of the job to the next. Hand it to whatever the job writes to, so that a run that
	// is late can be refused there.
	Fence int64
	// Attempt counts failures so far, Crashes lost leases, Deliveries all leases with this one.
	Attempt     int
	Crashes     int
	Deliveries  int
	MaxAttempts int
	// Checkpoint is what an earlier run saved; nil without one.
	Checkpoint []byte

	ctx    context.Context
	cancel context.CancelCauseFunc
	endsAt time.Time
	lease  atomic.Int32
	// Its outcome was handed on, or it was released while its handler ran on.
	ended atomic.Bool
	// How its handler has ended, while its checkpoint is on its way.
	settled atomic.Pointer[pb.JobOutcome]
	told    atomic.Pointer[told]
	// Guards changes of told, which few jobs ever make.
	telling sync.Mutex
}

// told is what a handler wants the next heartbeat to bring.
type told struct {
	progress   *pb.Progress
	checkpoint *[]byte
}

func newJob(base context.Context, leased *pb.LeasedJob) *Job {
	job := ofSort(base, leased, endOf(leased))
	job.JobID, job.Fence, job.Payload = leased.GetJobId(), leased.GetFence(), leased.GetPayload()
	return job
}

// ofSort makes a job without what is its own: id, fence and payload.
func ofSort(base context.Context, leased *pb.LeasedJob, endsAt time.Time) *Job {
	job := &Job{
		Queue:       leased.GetQueue(),
		Kind:        leased.GetKind(),
		Headers:     leased.GetHeaders(),
		Priority:    int(leased.GetPriority()),
		Attempt:     int(leased.GetAttempt()),
		Crashes:     int(leased.GetCrashes()),
		Deliveries:  int(leased.GetDeliveries()),
		MaxAttempts: int(leased.GetMaxAttempts()),
		Checkpoint:  leased.GetCheckpoint(),
		endsAt:      endsAt,
	}
	job.ctx, job.cancel = context.WithCancelCause(base)
	return job
}

// endOf a run by its deadline; the zero time without one.
func endOf(leased *pb.LeasedJob) time.Time {
	if left := leased.GetDeadlineTimeLeft(); left != nil {
		// The server's words for how long; a local monotonic clock only counts it down.
		return time.Now().Add(left.AsDuration())
	}
	return time.Time{}
}

// NewJob makes a job that no server has leased, for tests of handlers.
func NewJob(ctx context.Context, kind string, payload []byte) *Job {
	leased := &pb.LeasedJob{Queue: "default", JobId: "00000000-0000-7000-8000-000000000000", Kind: kind,
		Payload: payload, Fence: 1, Deliveries: 1, MaxAttempts: 20, Priority: 3}
	return newJob(ctx, leased)
}

// JSON reads the payload as JSON into a value.
func (j *Job) JSON(into any) error { return json.Unmarshal(j.Payload, into) }

// TimeLeft is how long until the job's deadline; false without one. The server counts a run that passes it as
// failed, and the context ends when the next heartbeat brings the news: who wants to end in time sets a timeout.
func (j *Job) TimeLeft() (time.Duration, bool) {
	if j.endsAt.IsZero() {
		return 0, false
	}
	return max(0, time.Until(j.endsAt)), true
}

// LeaseState tells whether the job is still this worker's.
func (j *Job) LeaseState() LeaseState { return LeaseState(j.lease.Load()) }

// SetProgress tells how far the handler has come; it goes with the next heartbeat. The percentage is brought
// between 0 and 100, the note cut at 1 KiB.
func (j *Job) SetProgress(percent int, note string) {
	progress := &pb.Progress{Percent: int32(max(0, min(100, percent))), Note: cutText(note, noteBytesMax)}
	j.tell(told{progress: progress})
}

// SaveCheckpoint keeps up to 64 KiB for the next run; it goes with the next heartbeat, or before the report.
func (j *Job) SaveCheckpoint(data []byte) error {
	if len(data) > checkpointBytesMax {
		return fmt.Errorf("worker: a checkpoint holds at most %d bytes, not %d", checkpointBytesMax, len(data))
	}
	j.tell(told{checkpoint: new(append([]byte{}, data...))})
	return nil
}

func (j *Job) tell(newer told) {
	j.telling.Lock()
	defer j.telling.Unlock()
	j.told.Store(newer.over(j.told.Load()))
}

// over adds what an older telling has and this one has not.
func (t told) over(older *told) *told {
	if older != nil && t.progress == nil {
		t.progress = older.progress
	}
	if older != nil && t.checkpoint == nil {
		t.checkpoint = older.checkpoint
	}
	return &t
}

// takeTold takes out what was told since the last heartbeat; nil when nothing was.
func (j *Job) takeTold() *told {
	if j.told.Load() == nil {
		return nil
	}
	j.telling.Lock()
	defer j.telling.Unlock()
	return j.told.Swap(nil)
}

// giveBackTold after a heartbeat that failed, unless something newer was told meanwhile.
func (j *Job) giveBackTold(older *told) {
	j.telling.Lock()
	defer j.telling.Unlock()
	newer := j.told.Load()
	if newer == nil {
		newer = &told{}
	}
	j.told.Store(newer.over(older))
}

func (j *Job) hasCheckpointToTell() bool {
	waiting := j.told.Load()
	return waiting != nil && waiting.checkpoint != nil
}

func (t *told) bytes() int {
	size := len(t.progress.GetNote())
	if t.checkpoint != nil {
		size += len(*t.checkpoint)
	}
	return size
}

// lose ends the handler's context because the job is another worker's.
func (j *Job) lose() {
	j.lease.Store(int32(Lost))
	j.cancel(ErrLeaseLost)
}
