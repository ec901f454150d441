"""The history checker: what the clients saw, held against what the database keeps.

    producers ─ enqueued, cancelled, redriven, seen ─┐
    workers ─── delivered, reported, alive ──────────┼─▶ *.jsonl ─▶ History ─┐
    the test ── process, outage, clock, statement ───┘                       ├─▶ check ─▶ Verdict
    PostgreSQL ─ final rows, and the journal of moves ─────────▶ Final ──────┘

Every process appends to a file of its own, one JSON object a line, written before it acts on what it
records: a killed process loses nothing that it has acted on. The journal (journal.sql) is a table that
triggers fill inside of the moving transactions; it knows the moves that no client can see.

The checker knows nothing of how AtlasQueue works inside. It knows the promise, I1 to I9 of
docs/chaos.md, and names the one that fell, the job and the lines that show it.
By hand: python -m tests.history HISTORY --database-url URL
"""
