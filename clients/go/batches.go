package atlasqueue

// Of 4 MiB and 10 000; smaller batches share the server's work better than the largest would.
const (
	batchBytes = 3 << 20
	batchItems = 2000
)

// What a job takes in a message beside its texts and its payload, at most: their tags and lengths, and all other fields.
const (
	jobBytesMax    = 160
	headerBytesMax = 18
)

// nextBatch cuts the first run of jobs that one message carries, in whichever form: at most batchItems and, unless it
// is a single job, batchBytes.
func nextBatch(jobs []NewJob) int {
	size := 0
	for i := range jobs {
		size += bytesMaxOf(&jobs[i])
		if i == batchItems || (i > 0 && size > batchBytes) {
			return i
		}
	}
	return len(jobs)
}

// bytesMaxOf bounds what a job takes in a message; what it takes exactly costs far more to tell.
func bytesMaxOf(job *NewJob) int {
	size := jobBytesMax + len(job.Queue) + len(job.JobID) + len(job.Kind) + len(job.Payload)
	for key, value := range job.Headers {
		size += headerBytesMax + len(key) + len(value)
	}
	return size
}
