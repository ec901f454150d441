"""The transition table makes sense as a whole, and the page of states says the same."""

from __future__ import annotations

import re
from pathlib import Path

from atlasqueue_server.model.jobs import OutcomeKind
from atlasqueue_server.model.states import FINAL, SETTLED, TRANSITIONS, Gone, State, Verb, allowed
from atlasqueue_server.rpc.codes import STATES

ROOT = Path(__file__).parents[2]


def test_every_verb_and_every_place_is_in_the_table() -> None:
    assert {verb for verb, _ in TRANSITIONS} == set(Verb)
    places = {Gone.GONE, *State}
    assert {place for _, place in TRANSITIONS} == places
    assert {place for results in TRANSITIONS.values() for place in results} == places
    assert all(TRANSITIONS.values())


def test_final_states_are_left_by_prune_only() -> None:
    for state in FINAL:
        assert [verb for verb in Verb if allowed(verb, state)] == [Verb.PRUNE]
    assert {verb for verb in Verb if allowed(verb, State.DEAD)} == {
        Verb.REDRIVE, Verb.PURGE, Verb.PRUNE,
    }  # fmt: skip
    assert SETTLED == FINAL | {State.DEAD}


def test_only_lease_leases_and_only_enqueue_begins() -> None:
    into_leased = {(verb, place) for (verb, place), to in TRANSITIONS.items() if State.LEASED in to}
    assert into_leased == {
        (Verb.LEASE, State.READY),
        (Verb.HEARTBEAT, State.LEASED),
        (Verb.CANCEL, State.LEASED),
    }
    assert [verb for verb in Verb if allowed(verb, Gone.GONE)] == [Verb.ENQUEUE]


def test_a_cancel_request_ends_every_lease_but_complete() -> None:
    ending = {verb for verb, place in TRANSITIONS if place is State.LEASED}
    ending -= {Verb.HEARTBEAT, Verb.COMPLETE}
    for verb in ending:
        assert State.CANCELLED in TRANSITIONS[verb, State.LEASED], verb


def test_every_state_is_a_state_of_the_contract() -> None:
    assert set(STATES) == set(State)
    text = (ROOT / "proto/atlasqueue/v1/job.proto").read_text("utf-8")
    assert set(re.findall(r"JOB_STATE_(\w+) = [1-9]", text)) == {state.name for state in State}


def test_every_outcome_is_a_verb_and_an_outcome_of_the_contract() -> None:
    assert {kind.name for kind in OutcomeKind} < {verb.name for verb in Verb}
    text = (ROOT / "proto/atlasqueue/v1/worker_service.proto").read_text("utf-8")
    message = text[text.index("message JobOutcome {") :]
    oneof = message[message.index("oneof outcome {") : message.index("\n  }")]
    names = set(re.findall(r"^    \w+ (\w+) = \d+;", oneof, re.MULTILINE))
    assert names == {kind.name.lower() for kind in OutcomeKind}
