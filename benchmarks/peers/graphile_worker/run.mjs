// Runner for Graphile Worker (https://worker.graphile.org): see benchmarks/harness/runner.py for the
// protocol. The batching is that of the project's own performance page: a local queue of 500 jobs,
// completions batched with no delay, 24 concurrent jobs.
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";

import { Logger, makeWorkerUtils, run, WorkerPreset } from "graphile-worker";
import pg from "pg";

const quiet = new Logger(() => (level, message) => {
  if (level === "error" || level === "warning") console.error(message);
});

const options = isMainThread
  ? parseArgs({
      options: {
        action: { type: "string" },
        jobs: { type: "string", default: "0" },
        rate: { type: "string", default: "20" },
        batch: { type: "string", default: "5000" },
        "in-flight": { type: "string", default: "2" },
        concurrency: { type: "string", default: "24" },
        threads: { type: "string", default: "1" },
        latency: { type: "boolean", default: false },
      },
    }).values
  : workerData.options;
const jobs = Number(options.jobs);
const url = process.env.BENCH_DATABASE_URL;
const now = () => Math.round((performance.timeOrigin + performance.now()) * 1000);

const lines = isMainThread ? createInterface({ input: process.stdin })[Symbol.asyncIterator]() : null;
async function ready() {
  process.stdout.write("ready\n");
  await lines.next();
}
async function report(result) {
  process.stdout.write(JSON.stringify(result) + "\n");
  await lines.next();
}

function start(counts, index, ages) {
  return run({
    preset: {
      extends: [WorkerPreset],
      worker: {
        connectionString: url,
        concurrentJobs: Number(options.concurrency),
        maxPoolSize: 10,
        localQueue: { size: 500 },
        completeJobBatchDelay: 0,
        failJobBatchDelay: 0,
        logger: quiet,
      },
    },
    noHandleSignals: true,
    taskList: {
      bench: options.latency
        ? async (payload) => {
            ages.push(now() - payload.t);
            Atomics.add(counts, index, 1);
          }
        : async () => {
            Atomics.add(counts, index, 1);
          },
    },
  });
}

async function work() {
  const threads = Number(options.threads);
  const counts = new Int32Array(new SharedArrayBuffer(4 * threads));
  const ages = [];
  const others = [];
  for (let index = 1; index < threads; index++) {
    others.push(new Worker(new URL(import.meta.url), { workerData: { options, counts, index } }));
  }
  await Promise.all(others.map((each) => new Promise((resolve) => each.once("message", resolve))));
  await ready();
  const began = performance.now();
  for (const each of others) each.postMessage("go");
  const runner = await start(counts, 0, ages);
  while (counts.reduce((sum, each) => sum + each, 0) < jobs) {
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  const result = { seconds: (performance.now() - began) / 1000, handled: jobs };
  if (options.latency) result.latencies_us = ages;
  await report(result);
  await runner.stop();
  await Promise.all(others.map((each) => each.terminate()));
}

async function enqueue(utils) {
  const batch = Number(options.batch);
  await ready();
  const began = performance.now();
  let next = 0;
  const caller = async () => {
    while (next < jobs) {
      const start = next;
      next += batch;
      const count = Math.min(batch, jobs - start);
      await utils.addJobs(
        Array.from({ length: count }, (_, n) => ({ identifier: "bench", payload: { n: start + n } })),
      );
    }
  };
  await Promise.all(Array.from({ length: Number(options["in-flight"]) }, caller));
  await report({ seconds: (performance.now() - began) / 1000 });
}

async function produce(utils) {
  const rate = Number(options.rate);
  const each = rate > 100 ? Math.max(1, Math.round(rate * 0.01)) : 1;
  await ready();
  const began = performance.now();
  const calls = [];
  for (let sent = 0; sent < jobs; sent += each) {
    const wait = began + (sent / rate) * 1000 - performance.now();
    if (wait > 0) await new Promise((resolve) => setTimeout(resolve, wait));
    const count = Math.min(each, jobs - sent);
    calls.push(
      count === 1
        ? utils.addJob("bench", { t: now() })
        : utils.addJobs(
            Array.from({ length: count }, () => ({ identifier: "bench", payload: { t: now() } })),
          ),
    );
  }
  await Promise.all(calls);
  await report({ seconds: (performance.now() - began) / 1000, batch: each });
}

async function main() {
  if (options.action === "work") return work();
  const pgPool = new pg.Pool({ connectionString: url, max: 10 });
  const utils = await makeWorkerUtils({ pgPool, preset: { worker: { logger: quiet } } });
  if (options.action === "setup") await utils.migrate();
  else if (options.action === "enqueue") await enqueue(utils);
  else if (options.action === "produce") await produce(utils);
  else throw new Error(`unknown action ${options.action}`);
  await utils.release();
  await pgPool.end();
}

if (isMainThread) {
  await main();
  process.exit(0);
} else {
  parentPort.once("message", () => start(workerData.counts, workerData.index, []));
  parentPort.postMessage("ready");
}
