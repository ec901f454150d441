package main

import (
	"errors"
	"strconv"
	"time"

	atlasqueue "github.com/atlasqueue/atlasqueue/clients/go"
)

// newJob is a job to enqueue as a line has it: times and spans in seconds, bytes as base64.
type newJob struct {
	Queue       string            `json:"queue"`
	Kind        string            `json:"kind"`
	Payload     []byte            `json:"payload"`
	JobID       string            `json:"job_id"`
	Headers     map[string]string `json:"headers"`
	Priority    int               `json:"priority"`
	RunAt       *float64          `json:"run_at"`
	DeadlineS   float64           `json:"deadline_s"`
	RetryPolicy *retryPolicy      `json:"retry_policy"`
}

type retryPolicy struct {
	MaxAttempts     *int32   `json:"max_attempts"`
	InitialBackoffS *float64 `json:"initial_backoff_s"`
	Multiplier      *float64 `json:"multiplier"`
	MaxBackoffS     *float64 `json:"max_backoff_s"`
}

type policy struct {
	RetryPolicy        *retryPolicy `json:"retry_policy"`
	VisibilityTimeoutS *float64     `json:"visibility_timeout_s"`
}

func (j newJob) sdk() atlasqueue.NewJob {
	job := atlasqueue.NewJob{
		Queue: j.Queue, Kind: j.Kind, Payload: j.Payload, JobID: j.JobID, Headers: j.Headers, Priority: j.Priority,
		Deadline: seconds(j.DeadlineS), RetryPolicy: j.RetryPolicy.sdk(),
	}
	if j.RunAt != nil {
		job.RunAt = time.UnixMicro(int64(*j.RunAt * 1e6))
	}
	return job
}

func (p *retryPolicy) sdk() *atlasqueue.RetryPolicy {
	if p == nil {
		return nil
	}
	return &atlasqueue.RetryPolicy{
		MaxAttempts: p.MaxAttempts, InitialBackoff: span(p.InitialBackoffS), Multiplier: p.Multiplier, MaxBackoff: span(p.MaxBackoffS),
	}
}

func (p policy) sdk() atlasqueue.QueuePolicy {
	return atlasqueue.QueuePolicy{RetryPolicy: p.RetryPolicy.sdk(), VisibilityTimeout: span(p.VisibilityTimeoutS)}
}

func span(s *float64) *time.Duration {
	if s == nil {
		return nil
	}
	return new(seconds(*s))
}

func plainJob(job atlasqueue.Job) answer {
	failures := []answer{}
	for _, failure := range job.Failures {
		failures = append(failures, answer{
			"fence": failure.Fence, "attempt": failure.Attempt, "cause": failure.Cause.String(), "type": failure.Type,
			"message": failure.Message, "stack": failure.Stack, "failed_at": plainTime(failure.FailedAt),
		})
	}
	plain := answer{
		"queue": job.Queue, "job_id": job.JobID, "kind": job.Kind, "state": job.State.String(), "payload": plainBytes(job.Payload),
		"headers": plainHeaders(job.Headers), "priority": job.Priority, "attempt": job.Attempt, "crashes": job.Crashes,
		"deliveries": job.Deliveries, "fence": job.Fence, "created_at": plainTime(job.CreatedAt), "run_at": plainTime(job.RunAt),
		"deadline_s": nil, "retry_policy": plainRetryPolicy(job.RetryPolicy), "finished_at": plainTime(job.FinishedAt),
		"died_at": plainTime(job.DiedAt), "dead_letter_reason": job.DeadLetterReason.String(), "leased_at": plainTime(job.LeasedAt),
		"session_id": job.SessionID, "cancel_requested": job.CancelRequested, "result": plainBytes(job.Result), "progress": nil,
		"checkpoint": plainBytes(job.Checkpoint), "failures": failures,
	}
	if job.Deadline != 0 {
		plain["deadline_s"] = job.Deadline.Seconds()
	}
	if job.Progress != nil {
		plain["progress"] = answer{"percent": job.Progress.Percent, "note": job.Progress.Note}
	}
	return plain
}

func plainQueue(queue atlasqueue.Queue) answer {
	return answer{"name": queue.Name, "paused": queue.Paused, "policy": answer{
		"retry_policy":         plainRetryPolicy(queue.Policy.RetryPolicy),
		"visibility_timeout_s": plainSpan(queue.Policy.VisibilityTimeout),
	}}
}

func plainRetryPolicy(policy *atlasqueue.RetryPolicy) any {
	if policy == nil {
		return nil
	}
	return answer{
		"max_attempts": policy.MaxAttempts, "initial_backoff_s": plainSpan(policy.InitialBackoff),
		"multiplier": policy.Multiplier, "max_backoff_s": plainSpan(policy.MaxBackoff),
	}
}

// plainBytes are those that JSON shows as "" rather than null when there are none.
func plainBytes(content []byte) []byte {
	if content == nil {
		return []byte{}
	}
	return content
}

func plainHeaders(headers map[string]string) map[string]string {
	if headers == nil {
		return map[string]string{}
	}
	return headers
}

func plainSpan(span *time.Duration) any {
	if span == nil {
		return nil
	}
	return span.Seconds()
}

func plainTime(at time.Time) any {
	if at.IsZero() {
		return nil
	}
	return float64(at.UnixMicro()) / 1e6
}

// reasons by the errors that callers ask for with errors.Is; the kinds of another error come before it.
var reasons = []struct {
	err    error
	reason string
}{
	{atlasqueue.ErrJobDied, "JOB_DIED"},
	{atlasqueue.ErrJobCancelled, "JOB_CANCELLED"},
	{atlasqueue.ErrInvalidField, "INVALID_FIELD"},
	{atlasqueue.ErrMalformedMessage, "MALFORMED_MESSAGE"},
	{atlasqueue.ErrMessageTooLarge, "MESSAGE_TOO_LARGE"},
	{atlasqueue.ErrJobNotFound, "JOB_NOT_FOUND"},
	{atlasqueue.ErrQueueNotFound, "QUEUE_NOT_FOUND"},
	{atlasqueue.ErrJobIDConflict, "JOB_ID_CONFLICT"},
	{atlasqueue.ErrJobIDAmbiguous, "JOB_ID_AMBIGUOUS"},
	{atlasqueue.ErrJobFinal, "JOB_FINAL"},
	{atlasqueue.ErrJobDead, "JOB_DEAD"},
	{atlasqueue.ErrTooManyQueues, "TOO_MANY_QUEUES"},
	{atlasqueue.ErrSessionLost, "SESSION_LOST"},
	{atlasqueue.ErrSessionSuperseded, "SESSION_SUPERSEDED"},
	{atlasqueue.ErrDatabaseUnavailable, "DATABASE_UNAVAILABLE"},
	{atlasqueue.ErrShuttingDown, "SHUTTING_DOWN"},
	{atlasqueue.ErrOverloaded, "OVERLOADED"},
	{atlasqueue.ErrDeadlineExceeded, "DEADLINE_EXCEEDED"},
	{atlasqueue.ErrUnavailable, "UNAVAILABLE"},
	{atlasqueue.ErrInternal, "INTERNAL"},
}

// told is an error as a line has it.
func told(err error) answer {
	plain := answer{"reason": "EXECUTOR", "message": err.Error()}
	if batch := (*atlasqueue.EnqueueBatchError)(nil); errors.As(err, &batch) {
		refused := answer{}
		for position, refusal := range batch.Errors {
			refused[strconv.Itoa(position)] = told(refusal)
		}
		plain["reason"], plain["errors"], plain["job_ids"] = "ENQUEUE_BATCH", refused, batch.JobIDs
		return plain
	}
	for _, known := range reasons {
		if errors.Is(err, known.err) {
			plain["reason"] = known.reason
			break
		}
	}
	if refused := (*atlasqueue.Error)(nil); errors.As(err, &refused) {
		violations := []answer{}
		for _, broken := range refused.Violations {
			violations = append(violations, answer{"field": broken.Field, "bound": broken.Bound})
		}
		plain["violations"] = violations
	}
	if settled := (*atlasqueue.SettledError)(nil); errors.As(err, &settled) {
		plain["job"] = plainJob(settled.Job)
	}
	return plain
}
