package worker

import (
	"math"
	"sync"
	"time"

	pb "github.com/atlasqueue/atlasqueue/clients/go/gen/atlasqueue/v1"
)

const (
	// Beside the list itself, which has at most 2 MiB, within the 4 MiB of a message.
	toldBytesMax = 2 << 20
	// Within so long a job of another queue with a lower fence may still arrive.
	settle = 2 * time.Second
	// Arrivals are noted once in so long.
	noteEvery = 100 * time.Millisecond
	// As last fence: nothing is on its way any more, and whatever is not held goes back.
	nothingOnItsWay = math.MaxInt64
)

// held is what the worker holds: from the event that brought a job until its report is answered. The stream
// adds, the reporter takes out, the heartbeats tell the server. The highest fence rises only after the jobs are
// in, so that a heartbeat can never make the server believe that a job has arrived and is not held.
type held struct {
	mutex     sync.Mutex
	jobs      map[int64]*Job
	lastFence int64
	// The highest fence by the end of each tenth of a second of late, and that from before.
	arrivals     []arrival
	settledFence int64
	ended        bool
	uncertain    bool
}

type arrival struct {
	at    time.Time
	fence int64
}

func newHeld() *held { return &held{jobs: map[int64]*Job{}} }

func (h *held) add(jobs []*Job) {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	for _, job := range jobs {
		h.jobs[job.Fence] = job
		h.lastFence = max(h.lastFence, job.Fence)
		if h.uncertain {
			job.lease.CompareAndSwap(int32(Certain), int32(Uncertain))
		}
	}
	h.noteArrival(time.Now())
}

func (h *held) noteArrival(now time.Time) {
	if last := len(h.arrivals) - 1; last >= 0 && now.Before(h.arrivals[last].at) {
		h.arrivals[last].fence = h.lastFence
		return
	}
	h.arrivals = append(h.arrivals, arrival{now.Add(noteEvery), h.lastFence})
	h.settleBefore(now)
}

// settleBefore keeps the list of arrivals short whether or not heartbeats ask for it.
func (h *held) settleBefore(now time.Time) {
	for len(h.arrivals) > 0 && now.Sub(h.arrivals[0].at) >= settle {
		h.settledFence = h.arrivals[0].fence
		h.arrivals = h.arrivals[1:]
	}
}

// remove takes out jobs whose reports were answered.
func (h *held) remove(outcomes []*pb.JobOutcome) {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	for _, outcome := range outcomes {
		delete(h.jobs, outcome.GetFence())
	}
}

func (h *held) get(fence int64) *Job {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	return h.jobs[fence]
}

// snapshot gives the jobs, and the highest fence below which nothing is on its way any more, as one. Jobs of
// several queues are leased side by side, so a higher fence may arrive a moment before a lower one; told at once,
// it would make the server take the lower one back.
func (h *held) snapshot() ([]*Job, int64) {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	h.settleBefore(time.Now())
	jobs := make([]*Job, 0, len(h.jobs))
	for _, job := range h.jobs {
		jobs = append(jobs, job)
	}
	if h.ended {
		return jobs, nothingOnItsWay
	}
	return jobs, h.settledFence
}

// noMoreArrive after the worker's last stream has ended: what the server has sent and is not here will not come.
func (h *held) noMoreArrive() {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	h.ended = true
}

// highest fence that has arrived in this session.
func (h *held) highest() int64 {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	return h.lastFence
}

func (h *held) setUncertain(uncertain bool) {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	if h.uncertain == uncertain {
		return
	}
	h.uncertain = uncertain
	from, to := Uncertain, Certain
	if uncertain {
		from, to = to, from
	}
	for _, job := range h.jobs {
		job.lease.CompareAndSwap(int32(from), int32(to))
	}
}

// lose takes the job out and tells its handler; nil when it is not held.
func (h *held) lose(fence int64) *Job {
	h.mutex.Lock()
	job := h.jobs[fence]
	delete(h.jobs, fence)
	h.mutex.Unlock()
	if job != nil {
		job.lose()
	}
	return job
}

// loseAll when the session is lost; the next session begins with no fence.
func (h *held) loseAll() {
	h.mutex.Lock()
	jobs := h.jobs
	h.jobs = map[int64]*Job{}
	h.lastFence, h.settledFence, h.arrivals = 0, 0, nil
	h.mutex.Unlock()
	for _, job := range jobs {
		job.lose()
	}
}

// listed gives the list for a heartbeat; what was told, to be told again if it fails; whether something is left
// for the next heartbeat because a message has its limit.
func listed(jobs []*Job) (list []*pb.HeldJob, taken map[*Job]*told, more bool) {
	list = make([]*pb.HeldJob, len(jobs))
	taken = map[*Job]*told{}
	size := 0
	for i, job := range jobs {
		entry := &pb.HeldJob{Queue: job.Queue, JobId: job.JobID, Fence: job.Fence}
		list[i] = entry
		waiting := job.takeTold()
		if waiting == nil {
			continue
		}
		if size += waiting.bytes(); size > toldBytesMax {
			job.giveBackTold(waiting)
			more = true
			continue
		}
		taken[job] = waiting
		entry.Progress = waiting.progress
		if waiting.checkpoint != nil {
			entry.Checkpoint = *waiting.checkpoint
		}
	}
	return list, taken, more
}
