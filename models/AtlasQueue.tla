----------------------------- MODULE AtlasQueue -----------------------------
(***************************************************************************)
(* One job, its leases, the workers that hold them, and the servers that   *)
(* lead in turn: what may happen in any order, and what must hold anyway.  *)
(*                                                                         *)
(*        lease (new fence)            report (under the fence)            *)
(*  ready ───────────────────▶ leased ───────────────────────▶ finished    *)
(*    ▲                          │ │                                       *)
(*    └───── fail, release ──────┘ │                                       *)
(*    └── expire: the session is lost, then its lease is recycled          *)
(*                                                                         *)
(* An action is one SQL statement, or one thing that the world does. Every *)
(* statement is atomic here, as its WHERE guards it in the database.       *)
(* "SQL:" names the file in atlasqueue_server/store/sql. A message that is *)
(* late, a process that is stopped and a request that is sent twice need   *)
(* no action of their own: any action may be taken late, and some twice.   *)
(*                                                                         *)
(* Time is the database's and passes in Ticks. A session's expires_at and  *)
(* the leader's are kept as the ticks that are left of them.               *)
(***************************************************************************)
EXTENDS Integers, FiniteSets, TLC

CONSTANTS
  Workers,      \* one session each; a lost session is never opened again
  Servers,      \* each may lead
  None,         \* nobody
  MaxFence,     \* bounds: leases granted,
  MaxTerm,      \* leaderships,
  MaxOutage,    \* and ticks that the one outage may last
  Visibility,   \* ticks that a session lives without a heartbeat
  LeaderLease,  \* ticks that a leader leads without renewing
  Recent,       \* so many ticks without a sign of the scheduler are none yet (2 s)
  Threshold,    \* under a new term so many are no outage (leader lease + 5 s)
  FenceCheck,   \* the guards of the design: FALSE takes one away
  TermCheck,
  TwoSteps,
  RecentCheck,
  Grace

\* A leader whose lease is over cannot have signed recently, so the grace comes before its successor
\* expires anything.
ASSUME LeaderLease <= Threshold /\ Recent <= Threshold

VARIABLES
  job,      \* the small row: [state, fence, session]; SQL tables ready, leased, finished
  result,   \* of the finished job: the lease whose outcome was stored, 0 for none
  told,     \* by fence: what its worker was last told of its outcome
  holds,    \* by worker: the fence under which it runs the job, 0 for none
  session,  \* by worker: [left, lost]; table sessions
  prompt,   \* by worker: it lives and sends heartbeats as it should
  leader,   \* [term, left]; table leader
  mine,     \* by server: the term that it believes to lead
  ticked,   \* by server: in that term it has signed that the scheduler works
  gap,      \* ticks since the last such sign; column leader.ticked_at
  outage,   \* ticks that the servers or the database have been down; -1 before, -2 after
  seen,     \* only without TwoSteps: sessions that a statement has seen overdue
  broken    \* names of the invariants that an action has broken

vars == <<job, result, told, holds, session, prompt, leader, mine, ticked,
          gap, outage, seen, broken>>

Up == outage < 0
Longest == Visibility + MaxOutage

(* ------------------------------- workers -------------------------------- *)

\* SQL: lease_jobs_if_ready. The fence is new, the delivery counted.
Lease(w) ==
  /\ Up /\ job.state = "ready" /\ holds[w] = 0 /\ prompt[w] /\ ~session[w].lost
  /\ job.fence < MaxFence
  /\ job' = [state |-> "leased", fence |-> job.fence + 1, session |-> w]
  /\ holds' = [holds EXCEPT ![w] = job.fence + 1]
  /\ UNCHANGED <<result, told, session, prompt, leader, mine, ticked, gap, outage, seen, broken>>

\* SQL: extend_session_if_live, classify_held_jobs. What it holds and has no longer is LOST to it.
Heartbeat(w) ==
  /\ Up /\ ~session[w].lost
  /\ session' = [session EXCEPT ![w].left = Visibility]
  /\ holds' = IF job.state = "leased" /\ job.fence = holds[w] THEN holds
              ELSE [holds EXCEPT ![w] = 0]
  /\ UNCHANGED <<job, result, told, prompt, leader, mine, ticked, gap, outage, seen, broken>>

\* The guard of every report.
Fenced(f) == job.state = "leased" /\ (FenceCheck => job.fence = f)

\* SQL: complete_jobs_if_fenced; what did not move is judged by classify_reports. The answer may be
\* lost on its way: then the worker holds the job still, and reports again.
Complete(w) ==
  LET f == holds[w] IN
  /\ Up /\ f /= 0
  /\ IF Fenced(f)
     THEN /\ job' = [job EXCEPT !.state = "finished", !.session = None]
          /\ result' = f
          /\ told' = [told EXCEPT ![f] = "stored"]
     ELSE /\ told' = [told EXCEPT ![f] = IF job.state = "finished" /\ job.fence = f
                                         THEN "stored" ELSE "stale"]
          /\ UNCHANGED <<job, result>>
  /\ \E answered \in BOOLEAN : holds' = IF answered THEN [holds EXCEPT ![w] = 0] ELSE holds
  /\ UNCHANGED <<session, prompt, leader, mine, ticked, gap, outage, seen, broken>>

\* SQL: fail_jobs_if_fenced. Backoff and promote are left out: the job is ready at once.
Fail(w) ==
  /\ Up /\ holds[w] /= 0 /\ Fenced(holds[w])
  /\ job' = [job EXCEPT !.state = "ready", !.session = None]
  /\ holds' = [holds EXCEPT ![w] = 0]
  /\ UNCHANGED <<result, told, session, prompt, leader, mine, ticked, gap, outage, seen, broken>>

\* The worker is killed, stopped or cut off. From now on it sends late what it sends, or nothing.
FallSilent(w) ==
  /\ prompt[w]
  /\ prompt' = [prompt EXCEPT ![w] = FALSE]
  /\ UNCHANGED <<job, result, told, holds, session, leader, mine, ticked, gap, outage, seen,
                 broken>>

(* ------------------------------- servers -------------------------------- *)

\* SQL: take_leadership_if_free.
TakeLeadership(s) ==
  /\ Up /\ leader.left <= 0 /\ leader.term < MaxTerm
  /\ leader' = [term |-> leader.term + 1, left |-> LeaderLease]
  /\ mine' = [mine EXCEPT ![s] = leader.term + 1]
  /\ ticked' = [ticked EXCEPT ![s] = FALSE]
  /\ UNCHANGED <<job, result, told, holds, session, prompt, gap, outage, seen, broken>>

\* The guard of every statement of the scheduler: some leader's lease runs, and it is the caller's.
Leads(s) == Up /\ mine[s] /= 0 /\ leader.left > 0 /\ (TermCheck => mine[s] = leader.term)

\* Whether a row that such a statement changes breaks I8.
OldTerm(s) == IF mine[s] < leader.term THEN {"I8"} ELSE {}

\* SQL: renew_leadership_if_leader. Also when its lease is over and nobody took its place.
Renew(s) ==
  /\ Up /\ mine[s] /= 0 /\ mine[s] = leader.term
  /\ leader' = [leader EXCEPT !.left = LeaderLease]
  /\ UNCHANGED <<job, result, told, holds, session, prompt, mine, ticked, gap, outage, seen,
                 broken>>

\* The gap from which on a server takes it that nobody could be heard (scheduler/tick.py): a change of
\* leader leaves a gap too, which explains nothing under a term that has signed before.
OutageFrom(s) == IF ticked[s] THEN Recent ELSE Threshold

\* SQL: tick_if_leader. The sign that the scheduler works, and the leader's lease starts again.
Tick(s) ==
  /\ Leads(s) /\ gap <= OutageFrom(s)
  /\ leader' = [leader EXCEPT !.left = LeaderLease]
  /\ ticked' = [ticked EXCEPT ![s] = TRUE]
  /\ gap' = 0
  /\ broken' = broken \union OldTerm(s)
  /\ UNCHANGED <<job, result, told, holds, session, prompt, mine, outage, seen>>

Min(a, b) == IF a < b THEN a ELSE b
Max(a, b) == IF a > b THEN a ELSE b

\* SQL: extend_by_outage_if_leader. The outage grace: every live session gets the gap back, though no
\* more than a whole visibility timeout; and the sign is given.
ExtendByOutage(s) ==
  /\ Leads(s) /\ gap > OutageFrom(s)
  /\ session' = IF ~Grace THEN session
                ELSE [w \in Workers |->
                       IF session[w].lost THEN session[w]
                       ELSE [session[w] EXCEPT !.left = Max(@, Min(@ + gap, Visibility))]]
  /\ ticked' = [ticked EXCEPT ![s] = TRUE]
  /\ gap' = 0
  /\ broken' = broken \union OldTerm(s)
  /\ UNCHANGED <<job, result, told, holds, prompt, leader, mine, outage, seen>>

\* What the end of a lease breaks: I9 when its worker lives and does all it should; and LIVE, the
\* answer to a heartbeat, is a promise of a whole visibility timeout.
Taken(w) == (IF prompt[w] THEN {"I9"} ELSE {}) \union
            (IF ~session[w].lost /\ session[w].left > 0 THEN {"LIVE"} ELSE {})

\* SQL: lose_sessions_if_leader. First step of expire: expires_at is read under the row's lock, and the
\* last sign of the scheduler must be recent, so that nothing is lost before the grace.
LoseSession(s, w) ==
  /\ TwoSteps /\ Leads(s) /\ (RecentCheck => gap <= Recent)
  /\ ~session[w].lost /\ session[w].left <= 0
  /\ session' = [session EXCEPT ![w] = [left |-> 0, lost |-> TRUE]]
  /\ broken' = broken \union OldTerm(s)
  /\ UNCHANGED <<job, result, told, holds, prompt, leader, mine, ticked, gap, outage, seen>>

\* SQL: expire_leases_if_leader. Second step: the leases of lost sessions.
RecycleLease(s) ==
  /\ TwoSteps /\ Leads(s)
  /\ job.state = "leased" /\ session[job.session].lost
  /\ job' = [job EXCEPT !.state = "ready", !.session = None]
  /\ broken' = broken \union OldTerm(s) \union Taken(job.session)
  /\ UNCHANGED <<result, told, holds, session, prompt, leader, mine, ticked, gap, outage, seen>>

\* Not in the product: expire as one statement, which sees overdue sessions in its snapshot and has
\* taken their leases when it ends. A heartbeat may commit between the two.
SeeOverdue(s) ==
  /\ ~TwoSteps /\ Leads(s) /\ gap <= Recent
  /\ seen' = {w \in Workers : ~session[w].lost /\ session[w].left <= 0}
  /\ seen' /= seen
  /\ UNCHANGED <<job, result, told, holds, session, prompt, leader, mine, ticked, gap, outage,
                 broken>>
RecycleSeen(s) ==
  /\ ~TwoSteps /\ Leads(s)
  /\ job.state = "leased" /\ job.session \in seen
  /\ job' = [job EXCEPT !.state = "ready", !.session = None]
  /\ broken' = broken \union OldTerm(s) \union Taken(job.session)
  /\ UNCHANGED <<result, told, holds, session, prompt, leader, mine, ticked, gap, outage, seen>>

(* --------------------------- time and weather --------------------------- *)

\* The servers or the database go down, and come back. Time passes meanwhile; nothing else does.
GoDown ==
  /\ outage = -1 /\ MaxOutage > 0
  /\ outage' = 0
  /\ UNCHANGED <<job, result, told, holds, session, prompt, leader, mine, ticked, gap, seen,
                 broken>>
ComeBack ==
  /\ ~Up
  /\ outage' = -2
  /\ UNCHANGED <<job, result, told, holds, session, prompt, leader, mine, ticked, gap, seen,
                 broken>>

Less(left) == IF left > -Longest THEN left - 1 ELSE left

\* A tick of the clock. While all is up, no prompt worker lets one pass without a heartbeat.
PassTime ==
  /\ job.state /= "finished"  \* time can do no more to it
  /\ Up => \A w \in Workers : prompt[w] /\ ~session[w].lost => session[w].left >= Visibility
  /\ ~Up => outage < MaxOutage
  /\ session' = [w \in Workers |-> IF session[w].lost THEN session[w]
                              ELSE [session[w] EXCEPT !.left = Less(@)]]
  /\ leader' = [leader EXCEPT !.left = IF @ > 0 THEN @ - 1 ELSE 0]
  /\ gap' = IF gap < Longest THEN gap + 1 ELSE gap
  /\ outage' = IF Up THEN outage ELSE outage + 1
  /\ UNCHANGED <<job, result, told, holds, prompt, mine, ticked, seen, broken>>

(* ----------------------------- the whole -------------------------------- *)

Init ==
  /\ job = [state |-> "ready", fence |-> 0, session |-> None]
  /\ result = 0 /\ seen = {} /\ broken = {}
  /\ told = [f \in 1..MaxFence |-> "nothing"]
  /\ holds = [w \in Workers |-> 0]
  /\ session = [w \in Workers |-> [left |-> Visibility, lost |-> FALSE]]
  /\ prompt = [w \in Workers |-> TRUE]
  /\ leader = [term |-> 0, left |-> 0]
  /\ mine = [s \in Servers |-> 0] /\ ticked = [s \in Servers |-> FALSE]
  /\ gap = 0 /\ outage = -1

Next ==
  \/ \E w \in Workers : Lease(w) \/ Heartbeat(w) \/ Complete(w) \/ Fail(w) \/ FallSilent(w)
  \/ \E s \in Servers : TakeLeadership(s) \/ Renew(s) \/ Tick(s) \/ ExtendByOutage(s)
                        \/ RecycleLease(s) \/ SeeOverdue(s) \/ RecycleSeen(s)
                        \/ \E w \in Workers : LoseSession(s, w)
  \/ GoDown \/ ComeBack \/ PassTime

Spec == Init /\ [][Next]_vars

Symmetry == Permutations(Workers) \union Permutations(Servers)

(* ---------------------------- the invariants ---------------------------- *)

\* I2: at most one accepted terminal outcome: of all leases, one at most was told that it is stored.
I2 == Cardinality({f \in 1..MaxFence : told[f] = "stored"}) <= 1

\* I3: the fences of the job only grow: none that a worker holds or was answered for is above the row's.
I3 == /\ \A w \in Workers : holds[w] <= job.fence
      /\ \A f \in 1..MaxFence : told[f] /= "nothing" => f <= job.fence

\* I4: who was told that its outcome is stored finds it stored.
I4 == \A f \in 1..MaxFence : told[f] = "stored" => result = f

\* I8: a statement with an old term changes no row once a newer term exists.
I8 == "I8" \notin broken

\* I9: a lease whose worker lives is never expired because the server or the database was down.
I9 == "I9" \notin broken

\* A heartbeat that was answered LIVE keeps its leases for the visibility timeout.
LIVE == "LIVE" \notin broken

\* Not an invariant: that TLC breaks it shows that stale reports happen here, and are refused.
NothingStale == \A f \in 1..MaxFence : told[f] /= "stale"

\* Final is final (a property of steps): I2 and I4 speak of what is told, this of what is stored.
Final == [][job.state = "finished" => job' = job /\ result' = result]_vars
=============================================================================
