package atlasqueue

import (
	"bytes"
	"hash/maphash"
	"maps"
	"math"
	"slices"
	"time"

	pb "github.com/atlasqueue/atlasqueue/clients/go/gen/atlasqueue/v1"
	"github.com/atlasqueue/atlasqueue/clients/go/internal/jobid"
)

// uniformMin jobs must have everything but id and payload in common to go as uniform jobs: a few gain nothing by it.
const uniformMin = 32

// message is what one call carries of a batch, and what became of it. Jobs are named by their positions in it, which
// ascend in each list.
type message struct {
	jobs []NewJob
	// Those that go one by one.
	alone []int
	// Those that go as uniform jobs.
	groups [][]int
	// The ids of all that could be uniform.
	uuids [][jobid.Bytes]byte

	ids     []string
	refused map[int]error
}

// newMessage is of jobs that have their ids. A server that is older than the uniform form wants all of them one by one.
func newMessage(jobs []NewJob, oneByOne bool) *message {
	m := &message{jobs: jobs, ids: make([]string, len(jobs)), refused: map[int]error{}}
	if oneByOne || len(jobs) < uniformMin {
		m.alone = make([]int, len(jobs))
		for i := range jobs {
			m.alone[i] = i
		}
		return m
	}
	m.uuids = uniformIDs(jobs)
	grouped := grouping{jobs: jobs, known: map[common]int{}}
	for i, id := range m.uuids {
		if id == ([jobid.Bytes]byte{}) || !grouped.add(i) {
			m.alone = append(m.alone, i)
		}
	}
	for _, members := range grouped.groups {
		if len(members) < uniformMin {
			m.alone = append(m.alone, members...)
		} else {
			m.groups = append(m.groups, members)
		}
	}
	slices.Sort(m.alone)
	return m
}

// uniformIDs gives the ids of jobs that may be uniform, the nil UUID for all others. Malformed ones are for the server
// to refuse. Of jobs with the same id the first one counts, and only those that go one by one keep their order.
func uniformIDs(jobs []NewJob) [][jobid.Bytes]byte {
	ids := make([][jobid.Bytes]byte, len(jobs))
	ascend := true
	for i := range jobs {
		ids[i] = jobid.Parse(jobs[i].JobID)
		ascend = ascend && (i == 0 || bytes.Compare(ids[i-1][:], ids[i][:]) < 0)
	}
	if ascend {
		return ids
	}
	firsts := make(map[[jobid.Bytes]byte]int, len(ids))
	for i, id := range ids {
		if first, seen := firsts[id]; seen {
			ids[first], ids[i] = [jobid.Bytes]byte{}, [jobid.Bytes]byte{}
		} else {
			firsts[id] = i
		}
	}
	return ids
}

// grouping sorts jobs by what they have in common.
type grouping struct {
	jobs   []NewJob
	groups [][]int
	known  map[common]int
	// The last one, for like jobs mostly stand in a row.
	last common
	at   int
}

// add puts a job into its group; not one whose headers have only their hash in common with the group's.
func (g *grouping) add(i int) bool {
	this := commonOf(&g.jobs[i])
	if len(g.groups) == 0 || this != g.last {
		at, seen := g.known[this]
		if !seen {
			at = len(g.groups)
			g.known[this] = at
			g.groups = append(g.groups, nil)
		}
		g.last, g.at = this, at
	}
	members := g.groups[g.at]
	if len(members) > 0 && !maps.Equal(g.jobs[members[0]].Headers, g.jobs[i].Headers) {
		return false
	}
	g.groups[g.at] = append(members, i)
	return true
}

// common is all of a job but id and payload, to be compared; of the headers their hash.
type common struct {
	queue, kind string
	headers     uint64
	priority    int
	seconds     int64
	nanoseconds int
	deadline    time.Duration
	retries     retries
}

type retries struct {
	maxAttempts                optional[int32]
	initialBackoff, maxBackoff optional[time.Duration]
	multiplier                 optional[uint64]
	set                        bool
}

type optional[T any] struct {
	value T
	set   bool
}

func optionalOf[T any](from *T) optional[T] {
	if from == nil {
		return optional[T]{}
	}
	return optional[T]{*from, true}
}

func commonOf(job *NewJob) common {
	made := common{
		queue: job.Queue, kind: job.Kind, headers: hashOf(job.Headers), priority: job.Priority,
		seconds: job.RunAt.Unix(), nanoseconds: job.RunAt.Nanosecond(), deadline: job.Deadline,
	}
	if policy := job.RetryPolicy; policy != nil {
		made.retries = retries{
			set: true, maxAttempts: optionalOf(policy.MaxAttempts),
			initialBackoff: optionalOf(policy.InitialBackoff), maxBackoff: optionalOf(policy.MaxBackoff),
		}
		if policy.Multiplier != nil {
			// Not a number equals itself here.
			made.retries.multiplier = optional[uint64]{math.Float64bits(*policy.Multiplier), true}
		}
	}
	return made
}

var headersSeed = maphash.MakeSeed()

// hashOf does not depend on an order, which a map has not.
func hashOf(headers map[string]string) uint64 {
	var sum uint64
	for key, value := range headers {
		sum += maphash.Comparable(headersSeed, [2]string{key, value})
	}
	return sum
}

func (m *message) request() *pb.EnqueueBatchRequest {
	request := &pb.EnqueueBatchRequest{}
	if len(m.alone) > 0 {
		request.Jobs = make([]*pb.NewJob, len(m.alone))
	}
	for i, at := range m.alone {
		request.Jobs[i] = newJobToProto(m.jobs[at])
	}
	for _, members := range m.groups {
		request.Uniform = append(request.Uniform, m.uniformJobs(members))
	}
	return request
}

func (m *message) uniformJobs(members []int) *pb.UniformJobs {
	shared := newJobToProto(m.jobs[members[0]])
	shared.JobId, shared.Payload = "", nil
	ids, payloads := make([]byte, 0, jobid.Bytes*len(members)), make([][]byte, len(members))
	for i, at := range members {
		ids = append(ids, m.uuids[at][:]...)
		payloads[i] = m.jobs[at].Payload
	}
	return &pb.UniformJobs{Shared: shared, JobIds: ids, Payloads: payloads}
}

// settle notes what an answer says of the jobs, and tells whether it says it of all. An older server leaves out those
// that are uniform, and has stored none of them: then they are to go one by one.
func (m *message) settle(response *pb.EnqueueBatchResponse) bool {
	for i, result := range response.GetResults()[:min(len(response.GetResults()), len(m.alone))] {
		m.ids[m.alone[i]] = result.GetJobId()
		if result.GetError() != nil {
			m.refused[m.alone[i]] = fromStatus(result.GetError())
		}
	}
	if len(response.GetUniform()) != len(m.groups) {
		m.alone, m.groups = slices.Sorted(slices.Values(slices.Concat(m.groups...))), nil
		return false
	}
	for i, result := range response.GetUniform() {
		m.settleGroup(m.groups[i], result)
	}
	return true
}

func (m *message) settleGroup(members []int, result *pb.UniformResult) {
	var all error
	if result.GetError() != nil {
		all = fromStatus(result.GetError())
	}
	for _, at := range members {
		m.ids[at] = lowerJobID(m.jobs[at].JobID)
		if all != nil {
			m.refused[at] = all
		}
	}
	for _, refusal := range result.GetRefused() {
		if index := int(refusal.GetIndex()); index >= 0 && index < len(members) {
			m.refused[members[index]] = fromStatus(refusal.GetError())
		}
	}
}
