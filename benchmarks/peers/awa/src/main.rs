//! Runner for Awa (https://github.com/hardbyte/awa): see benchmarks/harness/runner.py for the protocol.
//!
//! Its Rust worker on its queue storage, with the short path that jobs without a deadline take, and
//! COPY for enqueues: what its own benchmarks use.

use std::collections::HashMap;
use std::io::{BufRead, Write};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use awa::model::{insert::params_with, migrations};
use awa::{Client, InsertOpts, InsertParams, JobArgs, JobResult, QueueConfig, QueueStorage, QueueStorageConfig};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgPoolOptions;
use sqlx::PgPool;
use tokio::sync::Notify;

const QUEUE: &str = "bench";

#[derive(Debug, Serialize, Deserialize, JobArgs)]
struct BenchJob {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    n: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    t: Option<i64>,
}

fn now_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as i64
}

fn read_line() {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).unwrap();
}

fn say(line: &str) {
    println!("{line}");
    std::io::stdout().flush().unwrap();
}

async fn ready() {
    say("ready");
    tokio::task::spawn_blocking(read_line).await.unwrap();
}

async fn report(result: serde_json::Value) {
    say(&result.to_string());
    tokio::task::spawn_blocking(read_line).await.unwrap();
}

#[derive(Default)]
struct Handled {
    count: AtomicI64,
    done: Notify,
    ages: Mutex<Vec<i64>>,
}

fn client(pool: &PgPool, handled: Arc<Handled>, jobs: i64, latency: bool, options: &HashMap<String, String>) -> Client {
    let number = |name: &str, default: u32| options.get(name).map_or(default, |v| v.parse().unwrap());
    Client::builder(pool.clone())
        .queue(
            QUEUE,
            QueueConfig {
                max_workers: number("max-workers", 1024),
                claimers: number("claimers", 1) as u16,
                poll_interval: Duration::from_millis(50),
                deadline_duration: Duration::ZERO,
                ..QueueConfig::default()
            },
        )
        .register::<BenchJob, _, _>(move |args, _context| {
            let handled = handled.clone();
            async move {
                if latency {
                    handled.ages.lock().unwrap().push(now_us() - args.t.unwrap_or(0));
                }
                if handled.count.fetch_add(1, Ordering::Relaxed) + 1 == jobs {
                    handled.done.notify_one();
                }
                Ok(JobResult::Completed)
            }
        })
        .build()
        .expect("client")
}

fn params(job: BenchJob) -> InsertParams {
    params_with(&job, InsertOpts { queue: QUEUE.into(), ..Default::default() }).expect("params")
}

fn store() -> Arc<QueueStorage> {
    Arc::new(QueueStorage::new(QueueStorageConfig::default()).expect("store"))
}

async fn setup(pool: &PgPool, options: &HashMap<String, String>) {
    migrations::run(pool).await.expect("migrate");
    // The first worker of a fresh database switches it to queue storage.
    let first = client(pool, Arc::default(), 0, false, options);
    first.start().await.expect("start");
    first.shutdown(Duration::from_secs(10)).await;
}

async fn enqueue(pool: PgPool, jobs: i64, batch: i64, in_flight: usize) {
    let store = store();
    let next = Arc::new(AtomicI64::new(0));
    ready().await;
    let began = Instant::now();
    let mut callers = Vec::new();
    for _ in 0..in_flight {
        let (pool, store, next) = (pool.clone(), store.clone(), next.clone());
        callers.push(tokio::spawn(async move {
            loop {
                let start = next.fetch_add(batch, Ordering::Relaxed);
                if start >= jobs {
                    return;
                }
                let rows: Vec<_> = (start..(start + batch).min(jobs))
                    .map(|n| params(BenchJob { n: Some(n), t: None }))
                    .collect();
                store.enqueue_params_copy(&pool, &rows).await.expect("enqueue");
            }
        }));
    }
    for caller in callers {
        caller.await.unwrap();
    }
    report(serde_json::json!({"seconds": began.elapsed().as_secs_f64()})).await;
}

async fn produce(pool: PgPool, jobs: i64, rate: f64) {
    let store = store();
    let each = if rate > 100.0 { ((rate * 0.01).round() as i64).max(1) } else { 1 };
    ready().await;
    let began = Instant::now();
    let mut calls = Vec::new();
    let mut sent = 0;
    while sent < jobs {
        tokio::time::sleep_until((began + Duration::from_secs_f64(sent as f64 / rate)).into()).await;
        let count = each.min(jobs - sent);
        let (pool, store) = (pool.clone(), store.clone());
        calls.push(tokio::spawn(async move {
            let rows: Vec<_> = (0..count).map(|_| params(BenchJob { n: None, t: Some(now_us()) })).collect();
            if count == 1 {
                store.enqueue_params_batch(&pool, &rows).await.expect("enqueue");
            } else {
                store.enqueue_params_copy(&pool, &rows).await.expect("enqueue");
            }
        }));
        sent += count;
    }
    for call in calls {
        call.await.unwrap();
    }
    report(serde_json::json!({"seconds": began.elapsed().as_secs_f64(), "batch": each})).await;
}

async fn work(pool: PgPool, jobs: i64, latency: bool, options: &HashMap<String, String>) {
    let handled = Arc::new(Handled::default());
    let worker = client(&pool, handled.clone(), jobs, latency, options);
    ready().await;
    let began = Instant::now();
    worker.start().await.expect("start");
    handled.done.notified().await;
    let mut result = serde_json::json!({
        "seconds": began.elapsed().as_secs_f64(),
        "handled": handled.count.load(Ordering::Relaxed),
    });
    if latency {
        result["latencies_us"] = serde_json::json!(*handled.ages.lock().unwrap());
    }
    report(result).await;
}

#[tokio::main]
async fn main() {
    // --name value, or --name alone.
    let mut options = HashMap::new();
    let mut arguments = std::env::args().skip(1).peekable();
    while let Some(name) = arguments.next() {
        let value = arguments.next_if(|word| !word.starts_with("--")).unwrap_or_else(|| "true".into());
        options.insert(name.trim_start_matches('-').to_string(), value);
    }
    let number = |name: &str, default: f64| options.get(name).map_or(default, |v| v.parse().expect("a number"));
    let jobs = number("jobs", 0.0) as i64;
    let url = std::env::var("BENCH_DATABASE_URL").expect("BENCH_DATABASE_URL");
    let pool = PgPoolOptions::new().max_connections(20).connect(&url).await.expect("connect");
    match options.get("action").map(String::as_str) {
        Some("setup") => setup(&pool, &options).await,
        Some("enqueue") => enqueue(pool, jobs, number("batch", 5000.0) as i64, number("in-flight", 2.0) as usize).await,
        Some("produce") => produce(pool, jobs, number("rate", 20.0)).await,
        Some("work") => work(pool, jobs, options.contains_key("latency"), &options).await,
        other => panic!("unknown action {other:?}"),
    }
    // The database is dropped next: nothing is left that a graceful end could save.
    std::process::exit(0);
}
