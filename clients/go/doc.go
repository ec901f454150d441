// Package atlasqueue is the Go SDK of AtlasQueue: enqueue jobs, read them, wait for results, operate queues.
//
//	client, err := atlasqueue.NewClient(atlasqueue.WithServers("127.0.0.1:7420"))
//	if err != nil {
//		return err
//	}
//	defer client.Close()
//	id, err := client.Enqueue(ctx, atlasqueue.NewJob{Queue: "media", Kind: "resize", Payload: cat})
//	if err != nil {
//		return err
//	}
//	job, err := client.Wait(ctx, id)
//
// Words and file names are those of the Python SDK. Workers are written with package worker, tests
// without a server with package atlasqueuetest.
package atlasqueue
