"""What the dashboards show. docs/metrics.md says what each metric means.

What the database knows is exposed by every server, so it is aggregated by max; what a process counts, by sum.
"""

from __future__ import annotations

from deploy.grafana.panels import INTERVAL, Board, Panel, Query, Row

YES_NO = (("0", "no"), ("1", "yes"))


def rate(counter: str, by: str = "queue", where: str = "") -> Query:
    """A counter of jobs as jobs a second."""
    selected = f"{counter}{{{where}}}" if where else counter
    return Query(f"sum by ({by}) (rate({selected}[{INTERVAL}]))", f"{{{{{by}}}}}")


def total(name: str, legend: str) -> Query:
    """A counter as a rate over everything."""
    return Query(f"sum(rate({name}[{INTERVAL}]))", legend)


def quantile(q: float, histogram: str, by: str = "", where: str = "") -> Query:
    """A quantile of a histogram, over all instances."""
    selected = f"{histogram}_bucket{{{where}}}" if where else f"{histogram}_bucket"
    labels = f"{by}, le" if by else "le"
    name = f"{{{{{by}}}}} " if by else ""
    expr = f"histogram_quantile({q:g}, sum by ({labels}) (rate({selected}[{INTERVAL}])))"
    return Query(expr, f"{name}p{q * 100:g}")


def highest(gauge: str, by: str = "", where: str = "") -> Query:
    """A gauge that is the same on every server."""
    selected = f"{gauge}{{{where}}}" if where else gauge
    return (
        Query(f"max by ({by}) ({selected})", f"{{{{{by}}}}}") if by else Query(f"max({selected})")
    )


def within(counter: str, span: str) -> Query:
    """By how much a counter grew, over all series; 0 when it has none.

    A series that begins within the span counts whole: increase() leaves its first value out, so that jobs
    which all died between two scrapes would be none.
    """
    grown = f"({counter} unless {counter} offset {span}) or increase({counter}[{span}])"
    return Query(f"sum({grown}) or vector(0)")


def stat(title: str, query: Query, *steps: tuple[float, str], **rest: object) -> Panel:
    """A number that changes its colour."""
    return Panel(title, [query], form="stat", width=4, steps=steps, **rest)  # type: ignore[arg-type]


# Paused queues are meant to wait. Where all are paused it is 0, where nothing is known it is nothing.
OLDEST = Query(
    "max(max by (queue) (atlasqueue_queue_oldest_ready_age_seconds) "
    'unless on (queue) max by (queue) (atlasqueue_queue_paused{queue!="_other"}) > 0) '
    "or 0 * max(atlasqueue_queue_oldest_ready_age_seconds)"
)

HEALTH = Row(
    "Is it healthy?",
    [
        stat(
            "Servers healthy",
            Query("sum(atlasqueue_healthy) or vector(0)"),
            (1, "green"),
            base="red",
        ),
        stat(
            "Somebody leads",
            highest("atlasqueue_cluster_leader"),
            (1, "green"),
            base="red",
            words=YES_NO,
        ),
        stat(
            "Oldest ready job",
            OLDEST,
            *((60, "orange"), (300, "red")),
            unit="s",
        ),
        stat(
            "Died in the last hour",
            within("atlasqueue_jobs_dead_lettered_total", "1h"),
            *((1, "orange"), (100, "red")),
        ),
        stat(
            "Leases expired, last hour",
            within("atlasqueue_jobs_expired_total", "1h"),
            *((1, "orange"), (100, "red")),
        ),
        stat(
            "Alerts that fire",
            Query('count(ALERTS{alertname=~"AtlasQueue.+", alertstate="firing"}) or vector(0)'),
            (1, "red"),
        ),
    ],
)

OVERVIEW = Board(
    "atlasqueue-overview",
    "Overview",
    "Is it healthy? Green above: go back to bed. Else the links lead to the place.",
    [
        HEALTH,
        Row(
            "Flow",
            [
                Panel(
                    "Jobs a second, by verb",
                    [
                        total("atlasqueue_jobs_enqueued_total", "enqueued"),
                        total("atlasqueue_jobs_completed_total", "completed"),
                        total("atlasqueue_jobs_retried_total", "retried"),
                        total("atlasqueue_jobs_dead_lettered_total", "dead-lettered"),
                        total("atlasqueue_jobs_cancelled_total", "cancelled"),
                    ],
                    "ops",
                    width=12,
                ),
                Panel(
                    "Unfinished jobs by state",
                    [
                        Query(
                            "sum by (state) (max by (queue, state) "
                            '(atlasqueue_queue_jobs{state=~"scheduled|ready|leased|dead"}))',
                            "{{state}}",
                        )
                    ],
                    width=12,
                    stacked=True,
                ),
                Panel(
                    "Time in queue",
                    [quantile(q, "atlasqueue_job_wait_seconds") for q in (0.5, 0.95, 0.99)],
                    "s",
                    width=12,
                ),
                Panel(
                    "Slots and leases",
                    [
                        Query("max(atlasqueue_cluster_slots)", "slots"),
                        Query(
                            'sum(max by (queue) (atlasqueue_queue_jobs{state="leased"}))', "leased"
                        ),
                    ],
                    width=12,
                ),
            ],
        ),
    ],
)

CHOSEN = 'queue=~"$queue"'
QUEUES = Board(
    "atlasqueue-queues",
    "Queues",
    "What waits, for how long, and what becomes of it.",
    [
        Row(
            "Backlog",
            [
                Panel(
                    "Ready", [highest("atlasqueue_queue_jobs", "queue", f'{CHOSEN}, state="ready"')]
                ),
                Panel(
                    "Scheduled: delayed, or waiting to be retried",
                    [highest("atlasqueue_queue_jobs", "queue", f'{CHOSEN}, state="scheduled"')],
                ),
                Panel(
                    "Dead", [highest("atlasqueue_queue_jobs", "queue", f'{CHOSEN}, state="dead"')]
                ),
                Panel(
                    "Age of the oldest ready job",
                    [highest("atlasqueue_queue_oldest_ready_age_seconds", "queue", CHOSEN)],
                    "s",
                ),
                Panel(
                    "Time in queue, p95",
                    [quantile(0.95, "atlasqueue_job_wait_seconds", "queue", CHOSEN)],
                    "s",
                    about="From when a job could first have been leased to its first lease.",
                ),
                Panel("Paused", [highest("atlasqueue_queue_paused", "queue", CHOSEN)]),
            ],
        ),
        Row(
            "What becomes of jobs",
            [
                Panel("Enqueued", [rate("atlasqueue_jobs_enqueued_total", where=CHOSEN)], "ops"),
                Panel("Completed", [rate("atlasqueue_jobs_completed_total", where=CHOSEN)], "ops"),
                Panel("Retried", [rate("atlasqueue_jobs_retried_total", "kind", CHOSEN)], "ops"),
                Panel(
                    "Dead-lettered, by reason",
                    [rate("atlasqueue_jobs_dead_lettered_total", "reason", CHOSEN)],
                    "ops",
                ),
                Panel("Cancelled", [rate("atlasqueue_jobs_cancelled_total", where=CHOSEN)], "ops"),
                Panel(
                    "Run time, p95, by kind",
                    [quantile(0.95, "atlasqueue_job_run_seconds", "kind", CHOSEN)],
                    "s",
                ),
            ],
        ),
    ],
    by_queue=True,
)

WORKERS = Board(
    "atlasqueue-workers",
    "Workers and leases",
    "Are there workers, are they busy, and do they keep what they lease?",
    [
        Row(
            "Workers",
            [
                Panel("Sessions", [highest("atlasqueue_cluster_sessions", "state")], stacked=True),
                Panel(
                    "Slots, leases and credits of the servers",
                    [
                        Query("sum(atlasqueue_slots)", "slots"),
                        Query("sum(atlasqueue_leases)", "leases"),
                        Query("sum(atlasqueue_credits)", "credits"),
                    ],
                ),
                Panel("Streams by server", [Query("atlasqueue_sessions", "{{instance}}")]),
                Panel(
                    "Jobs running in workers",
                    [Query("atlasqueue_worker_jobs_running", "{{instance}}")],
                ),
                Panel(
                    "Workers that are healthy",
                    [Query("atlasqueue_worker_healthy", "{{instance}}")],
                    about="1 while the stream lives and heartbeats are answered.",
                ),
                Panel(
                    "Handlers ended, by outcome",
                    [rate("atlasqueue_worker_jobs_ended_total", "outcome")],
                    "ops",
                ),
            ],
        ),
        Row(
            "Leases",
            [
                Panel("Leased", [rate("atlasqueue_jobs_leased_total")], "ops"),
                Panel("Expired", [rate("atlasqueue_jobs_expired_total")], "ops"),
                Panel(
                    "Given back",
                    [
                        total("atlasqueue_jobs_released_total", "released"),
                        total("atlasqueue_jobs_snoozed_total", "snoozed"),
                        total("atlasqueue_jobs_reconciled_total", "reconciled"),
                        total("atlasqueue_jobs_set_aside_total", "kind unknown"),
                    ],
                    "ops",
                ),
                Panel(
                    "Reports refused", [rate("atlasqueue_reports_refused_total", "status")], "ops"
                ),
                Panel(
                    "Jobs in a batch, p50",
                    [
                        Query(quantile(0.5, f"atlasqueue_{verb}_batch_jobs").expr, verb)
                        for verb in ("enqueue", "lease", "report")
                    ],
                ),
                Panel(
                    "Rows that share a commit, p50",
                    [quantile(0.5, "atlasqueue_commit_batch_jobs", "verb")],
                ),
            ],
        ),
    ],
)

SCHEDULER = Board(
    "atlasqueue-scheduler",
    "Scheduler and leader",
    "Who leads, and whether what time must do is done in time.",
    [
        Row(
            "Leader",
            [
                Panel("Leading", [Query("atlasqueue_scheduler_leading", "{{instance}}")]),
                Panel("Term", [Query("max(atlasqueue_cluster_term)", "term")]),
                Panel(
                    "Time since the last tick",
                    [highest("atlasqueue_cluster_tick_age_seconds")],
                    "s",
                ),
            ],
        ),
        Row(
            "Loops",
            [
                Panel("Overdue", [highest("atlasqueue_scheduler_loop_lag_seconds", "loop")], "s"),
                Panel(
                    "Ticks that failed",
                    [rate("atlasqueue_scheduler_loop_ticks_total", "loop", 'outcome="failed"')],
                    "ops",
                ),
                Panel(
                    "Moves",
                    [
                        total("atlasqueue_jobs_promoted_total", "promoted"),
                        total("atlasqueue_jobs_expired_total", "expired"),
                        total("atlasqueue_jobs_pruned_total", "pruned"),
                    ],
                    "ops",
                ),
                Panel(
                    "Event loop lag",
                    [Query("atlasqueue_event_loop_lag_seconds", "{{instance}}")],
                    "s",
                ),
                Panel(
                    "CPU", [Query(f"rate(process_cpu_seconds_total[{INTERVAL}])", "{{instance}}")]
                ),
                Panel("Memory", [Query("process_resident_memory_bytes", "{{instance}}")], "bytes"),
            ],
        ),
    ],
)

POSTGRES = Board(
    "atlasqueue-postgres",
    "Postgres",
    "What the queue does to PostgreSQL, and what others do to the queue.",
    [
        Row(
            "Dead rows and who keeps them",
            [
                Panel("Dead rows", [highest("atlasqueue_postgres_dead_rows", "table")]),
                Panel("Live rows", [highest("atlasqueue_postgres_live_rows", "table")]),
                Panel(
                    "Age of xmin",
                    [highest("atlasqueue_postgres_xmin_age_transactions")],
                    about="In transactions. It grows while something holds an old snapshot; "
                    "vacuum removes nothing younger.",
                ),
                Panel(
                    "Oldest open transaction",
                    [highest("atlasqueue_postgres_oldest_transaction_age_seconds")],
                    "s",
                ),
                Panel(
                    "WAL",
                    [Query(f"max(rate(atlasqueue_postgres_wal_bytes_total[{INTERVAL}]))", "WAL")],
                    "Bps",
                ),
                Panel(
                    "Commits",
                    [Query(f"max(rate(atlasqueue_postgres_commits_total[{INTERVAL}]))", "commits")],
                    "ops",
                ),
            ],
        ),
        Row(
            "Connections and size",
            [
                Panel(
                    "Connections",
                    [
                        Query("max(atlasqueue_postgres_connections)", "open"),
                        Query("max(atlasqueue_postgres_connections_max)", "at most"),
                    ],
                ),
                Panel(
                    "Pools of the servers",
                    [
                        Query('atlasqueue_pool_connections{state="used"}', "{{instance}} used"),
                        Query("atlasqueue_pool_waiting", "{{instance}} waiting"),
                    ],
                ),
                Panel(
                    "Waiting for a connection",
                    [
                        Query(
                            f"rate(atlasqueue_pool_wait_seconds_total[{INTERVAL}])", "{{instance}}"
                        )
                    ],
                    "s",
                    about="Seconds that statements waited, in each second.",
                ),
                Panel(
                    "Size of the database",
                    [highest("atlasqueue_postgres_database_size_bytes")],
                    "bytes",
                ),
                Panel(
                    "Deadlocks",
                    [
                        Query(
                            f"max(rate(atlasqueue_postgres_deadlocks_total[{INTERVAL}]))",
                            "deadlocks",
                        )
                    ],
                    "ops",
                ),
                Panel(
                    "Reading all this",
                    [highest("atlasqueue_observation_seconds")],
                    "s",
                    about="How long the statement took that these figures come from.",
                ),
            ],
        ),
    ],
)

UNHAPPY = 'code!~"OK|CANCELLED"'
RPCS = Board(
    "atlasqueue-rpcs",
    "RPCs",
    "What clients ask, how fast they are answered, and what is refused.",
    [
        Row(
            "Calls",
            [
                Panel("Calls", [rate("atlasqueue_rpc_calls_total", "rpc")], "reqps"),
                Panel("By code", [rate("atlasqueue_rpc_calls_total", "code")], "reqps"),
                Panel("Refused", [rate("atlasqueue_rpc_calls_total", "rpc", UNHAPPY)], "reqps"),
                Panel("Latency, p50", [quantile(0.5, "atlasqueue_rpc_seconds", "rpc")], "s"),
                Panel("Latency, p99", [quantile(0.99, "atlasqueue_rpc_seconds", "rpc")], "s"),
                Panel(
                    "Running now",
                    [Query("sum by (rpc) (atlasqueue_rpc_open)", "{{rpc}}")],
                    about="WorkerService/Lease: the open streams.",
                ),
            ],
        )
    ],
)

BOARDS = (OVERVIEW, QUEUES, WORKERS, SCHEDULER, POSTGRES, RPCS)
