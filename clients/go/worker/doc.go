// Package worker runs handlers for leased jobs.
//
//	app := worker.NewApp()
//	app.Handle("resize", "media", func(ctx context.Context, job *worker.Job) ([]byte, error) {
//		return shrink(ctx, job.Payload)
//	})
//	w, err := worker.New(app, worker.WithServers("127.0.0.1:7420"), worker.WithSlots(20))
//	if err != nil {
//		return err
//	}
//	return w.Run(ctx) // until ctx ends; then it drains
//
// Words and file names are those of the Python worker. How its parts hang together:
//
//	stream ──jobs──▶ held ──▶ executor ──outcomes──▶ reporter ──answers──▶ held
//	heartbeater ◀──what is held── held ◀──lost, cancel── heartbeater
package worker
