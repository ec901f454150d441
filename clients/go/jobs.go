package atlasqueue

import (
	"encoding/json"
	"math"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/atlasqueue/atlasqueue/clients/go/gen/atlasqueue/v1"
)

// JobState tells where a job stands.
type JobState int32

// The states of a job. Zero in a filter: any.
const (
	Scheduled = JobState(pb.JobState_JOB_STATE_SCHEDULED)
	Ready     = JobState(pb.JobState_JOB_STATE_READY)
	Leased    = JobState(pb.JobState_JOB_STATE_LEASED)
	Succeeded = JobState(pb.JobState_JOB_STATE_SUCCEEDED)
	Cancelled = JobState(pb.JobState_JOB_STATE_CANCELLED)
	Dead      = JobState(pb.JobState_JOB_STATE_DEAD)
)

// String is the contract's name: READY, for example.
func (s JobState) String() string { return strings.TrimPrefix(pb.JobState(s).String(), "JOB_STATE_") }

// DeadLetterReason tells why a job became a dead letter.
type DeadLetterReason int32

// The reasons of dead letters. Zero in a filter: any.
const (
	AttemptsSpent      = DeadLetterReason(pb.DeadLetterReason_DEAD_LETTER_REASON_ATTEMPTS_SPENT)
	Rejected           = DeadLetterReason(pb.DeadLetterReason_DEAD_LETTER_REASON_REJECTED)
	CrashLoop          = DeadLetterReason(pb.DeadLetterReason_DEAD_LETTER_REASON_CRASH_LOOP)
	DeadlinePassed     = DeadLetterReason(pb.DeadLetterReason_DEAD_LETTER_REASON_DEADLINE)
	UnknownKindReached = DeadLetterReason(pb.DeadLetterReason_DEAD_LETTER_REASON_UNKNOWN_KIND)
	BodyLost           = DeadLetterReason(pb.DeadLetterReason_DEAD_LETTER_REASON_BODY_LOST)
)

// String is the contract's name: ATTEMPTS_SPENT, for example.
func (r DeadLetterReason) String() string {
	return strings.TrimPrefix(pb.DeadLetterReason(r).String(), "DEAD_LETTER_REASON_")
}

// FailureCause tells why a lease ended without success.
type FailureCause int32

// String is the contract's name: FAILED, REJECTED, EXPIRED, DEADLINE, UNKNOWN_KIND or BODY_LOST.
func (c FailureCause) String() string {
	return strings.TrimPrefix(pb.FailureCause(c).String(), "FAILURE_CAUSE_")
}

// RetryPolicy tells how failures are retried; what is nil comes from the queue, then from the default.
// new(int32(20)) and new(time.Minute) make pointers to values.
type RetryPolicy struct {
	// MaxAttempts may fail before the job becomes a dead letter, 1 to 1000.
	MaxAttempts *int32
	// InitialBackoff bounds the first delay, 0 to 1 h.
	InitialBackoff *time.Duration
	// Multiplier is the growth of the bound, 1 to 10.
	Multiplier *float64
	// MaxBackoff bounds every delay, 0 to 7 days.
	MaxBackoff *time.Duration
}

// NewJob is a job to enqueue. A zero value of all but Queue and Kind has the server's default.
type NewJob struct {
	// Queue comes into being on first use.
	Queue string
	// Kind is the name under which workers register the handler.
	Kind string
	// Payload is for the handler: opaque, at most 1 MiB.
	Payload []byte
	// JobID is a UUID; made when the job is sent if it is empty. The same id with the same body is one job.
	JobID string
	// Headers are text beside the payload: at most 32 and 8 KiB in all.
	Headers map[string]string
	// Priority is 1 (most urgent) to 5; default 3.
	Priority int
	// RunAt is when it may run at the earliest; default now.
	RunAt time.Time
	// Deadline is the longest that one run may last, 1 s to 7 days; default none.
	Deadline time.Duration
	// RetryPolicy overrides the queue's, field by field.
	RetryPolicy *RetryPolicy
}

// Failure is a lease that did not end in success: a failed attempt, a crash, or a kind that its worker does not know.
type Failure struct {
	Fence    int64
	Attempt  int
	Cause    FailureCause
	Type     string
	Message  string
	Stack    string
	FailedAt time.Time
}

// Progress is how far a handler said it had come.
type Progress struct {
	Percent int
	Note    string
}

// Job is a job as the server knows it. Times that it has not are zero. List leaves Payload, Result, Checkpoint
// and Failures empty.
type Job struct {
	Queue            string
	JobID            string
	Kind             string
	State            JobState
	Payload          []byte
	Headers          map[string]string
	Priority         int
	Attempt          int
	Crashes          int
	Deliveries       int
	Fence            int64
	CreatedAt        time.Time
	RunAt            time.Time
	Deadline         time.Duration
	RetryPolicy      *RetryPolicy
	FinishedAt       time.Time
	DiedAt           time.Time
	DeadLetterReason DeadLetterReason
	LeasedAt         time.Time
	SessionID        int64
	CancelRequested  bool
	Result           []byte
	Progress         *Progress
	Checkpoint       []byte
	Failures         []Failure
}

// Settled tells whether nothing moves the job further by itself.
func (j Job) Settled() bool {
	return j.State == Succeeded || j.State == Cancelled || j.State == Dead
}

// ResultJSON reads the result as JSON into a value.
func (j Job) ResultJSON(into any) error { return json.Unmarshal(j.Result, into) }

func toTimestamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

func fromTimestamp(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}

func toDuration(d *time.Duration) *durationpb.Duration {
	if d == nil {
		return nil
	}
	return durationpb.New(*d)
}

func fromDuration(d *durationpb.Duration) *time.Duration {
	if d == nil {
		return nil
	}
	return new(d.AsDuration())
}

func retryPolicyToProto(policy *RetryPolicy) *pb.RetryPolicy {
	if policy == nil {
		return nil
	}
	return &pb.RetryPolicy{
		MaxAttempts:    policy.MaxAttempts,
		InitialBackoff: toDuration(policy.InitialBackoff),
		Multiplier:     policy.Multiplier,
		MaxBackoff:     toDuration(policy.MaxBackoff),
	}
}

func retryPolicyFromProto(message *pb.RetryPolicy) *RetryPolicy {
	if message == nil {
		return nil
	}
	return &RetryPolicy{
		MaxAttempts:    message.MaxAttempts,
		InitialBackoff: fromDuration(message.InitialBackoff),
		Multiplier:     message.Multiplier,
		MaxBackoff:     fromDuration(message.MaxBackoff),
	}
}

func newJobToProto(job NewJob) *pb.NewJob {
	message := &pb.NewJob{
		Queue:       job.Queue,
		JobId:       job.JobID,
		Kind:        job.Kind,
		Payload:     job.Payload,
		Headers:     job.Headers,
		RunAt:       toTimestamp(job.RunAt),
		RetryPolicy: retryPolicyToProto(job.RetryPolicy),
	}
	if job.JobID == "" {
		message.JobId = NewJobID()
	}
	if job.Priority != 0 {
		// A number that int32 does not hold is for the server to refuse, not to become another one.
		message.Priority = new(int32(max(math.MinInt32, min(math.MaxInt32, job.Priority))))
	}
	if job.Deadline != 0 {
		message.Deadline = durationpb.New(job.Deadline)
	}
	return message
}

func jobFromProto(message *pb.Job) Job {
	job := Job{
		Queue:            message.GetQueue(),
		JobID:            message.GetJobId(),
		Kind:             message.GetKind(),
		State:            JobState(message.GetState()),
		Payload:          message.GetPayload(),
		Headers:          message.GetHeaders(),
		Priority:         int(message.GetPriority()),
		Attempt:          int(message.GetAttempt()),
		Crashes:          int(message.GetCrashes()),
		Deliveries:       int(message.GetDeliveries()),
		Fence:            message.GetFence(),
		CreatedAt:        fromTimestamp(message.GetCreatedAt()),
		RunAt:            fromTimestamp(message.GetRunAt()),
		Deadline:         message.GetDeadline().AsDuration(),
		RetryPolicy:      retryPolicyFromProto(message.GetRetryPolicy()),
		FinishedAt:       fromTimestamp(message.GetFinishedAt()),
		DiedAt:           fromTimestamp(message.GetDiedAt()),
		DeadLetterReason: DeadLetterReason(message.GetDeadLetterReason()),
		LeasedAt:         fromTimestamp(message.GetLeasedAt()),
		SessionID:        message.GetSessionId(),
		CancelRequested:  message.GetCancelRequested(),
		Result:           message.GetResult(),
		Checkpoint:       message.GetCheckpoint(),
	}
	if progress := message.GetProgress(); progress != nil {
		job.Progress = &Progress{int(progress.GetPercent()), progress.GetNote()}
	}
	for _, failure := range message.GetFailures() {
		job.Failures = append(job.Failures, Failure{
			Fence:    failure.GetFence(),
			Attempt:  int(failure.GetAttempt()),
			Cause:    FailureCause(failure.GetCause()),
			Type:     failure.GetError().GetType(),
			Message:  failure.GetError().GetMessage(),
			Stack:    failure.GetError().GetStack(),
			FailedAt: fromTimestamp(failure.GetFailedAt()),
		})
	}
	return job
}
