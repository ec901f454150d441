"""Plays one case.

    call: NAME            calls the executor. expect: what the answer must be; refused: what the error must be;
                          until: asked again until the answer is so; background: x, with `join: x` later;
                          as: x keeps the answer as $x
    event: {…}            waits for an event that fits; as, expect
    events: {…}, count    so many events that fit have come so far
    open: gate            lets the handlers go on that wait for it
    server: kill | stop | start
    link: reset | silence | mute (only what the server says is held up) | heal
    executor: freeze | thaw
    rival: patience | lease | complete | supersede | session

Each case has queues of its own: $queue and $other. Names of workers, clients and gates are its own as well.
"""

from __future__ import annotations

import asyncio
import signal
from typing import Any

from tests.conformance.cases import ACTIONS, Case
from tests.conformance.executor import Executor, Refused
from tests.conformance.notation import Unknown, mismatches, substitute, to_bytes, to_wire
from tests.conformance.stage import Rival, Stage

STEP_S = 60.0
AGAIN_S = 0.05
# What a case names, and what others must not meet.
OWN = ("worker", "client", "gate")


class Failed(AssertionError):
    """A step did not bring what the case expects."""


class Player:
    """One case on one executor.

    Args:
        run: tells this play of the case from others on the same server.
        step_s: how long a step may take, seconds.
    """

    def __init__(
        self, case: Case, executor: Executor, stage: Stage, run: str, step_s: float = STEP_S
    ) -> None:
        self._case = case
        self._executor = executor
        self._stage = stage
        self._step_s = step_s
        self._own = f"{case.name}.{run}"
        self._variables: dict[str, Any] = {"queue": self._own, "other": f"{self._own}.other"}
        self._background: dict[str, asyncio.Task[Any]] = {}
        self._workers: set[str] = set()
        self._gates = _gates(case.steps)
        self._rival = Rival(stage.address)

    async def play(self) -> None:
        """Raises Failed, or ExecutorDied."""
        try:
            for number, step in enumerate(self._case.steps, 1):
                action = next(action for action in ACTIONS if action in step)
                where = f"step {number} ({action} {step[action]})"
                try:
                    async with asyncio.timeout(self._step_s):
                        await getattr(self, f"_do_{action}")(substitute(step, self._variables))
                except TimeoutError:
                    raise Failed(f"{where}: not within {self._step_s:g} s") from None
                except (Failed, Unknown) as failure:
                    raise Failed(f"{where}: {failure}") from None
        finally:
            await self._leave()

    async def _leave(self) -> None:
        """Nothing of the case goes on, and the link carries what comes after it."""
        if any("link" in step for step in self._case.steps):
            self._stage.link.heal()
        for task in self._background.values():
            task.cancel()
        await asyncio.gather(*self._background.values(), return_exceptions=True)
        await self._rival.close()
        if not self._executor.alive:
            return
        for gate in self._gates:
            await self._executor.call("open", {"gate": f"{self._own}/{gate}"})
        ends = [self._executor.call("stop_worker", {"worker": w}) for w in self._workers]
        await asyncio.gather(*ends, return_exceptions=True)

    def _keep(self, step: dict[str, Any], value: Any) -> None:
        if "as" in step:
            self._variables[step["as"]] = value

    def _take(self, step: dict[str, Any], answer: Any) -> None:
        if "expect" in step:
            self._compare(step["expect"], answer)
        self._keep(step, answer)

    def _compare(self, expected: Any, found: Any) -> None:
        if lines := mismatches(expected, found):
            raise Failed("; ".join(lines))

    # --- calls ---

    async def _do_call(self, step: dict[str, Any]) -> None:
        if "background" in step:
            task = asyncio.create_task(self._ask(step))
            self._background[step["background"]] = task
            return
        if "until" in step:
            await self._ask_until(step)
            return
        await self._judge(step, self._ask(step))

    async def _do_join(self, step: dict[str, Any]) -> None:
        await self._judge(step, self._background.pop(step["join"]))

    async def _ask(self, step: dict[str, Any]) -> dict[str, Any]:
        name, arguments = step["call"], self._arguments(step)
        if name == "start_worker":
            self._workers.add(arguments["worker"])
        elif name == "stop_worker":
            self._workers.discard(arguments["worker"])
        return await self._executor.call(name, arguments)

    def _arguments(self, step: dict[str, Any]) -> dict[str, Any]:
        no_arguments = {"call", "as", "expect", "refused", "until", "background"}
        arguments = {key: value for key, value in step.items() if key not in no_arguments}
        if step["call"] in ("start_worker", "stop_worker"):
            arguments.setdefault("worker", "worker")
        if step["call"] == "start_worker":
            arguments = {"queues": [self._own], "slots": 10, "grace_s": 0} | arguments
            arguments["name"] = self._worker_name(arguments["worker"])
            arguments["kinds"] = {k: _runs(v) for k, v in arguments["kinds"].items()}
            self._own_gates(arguments["kinds"])
        for job in [arguments.get("job"), *arguments.get("jobs", ())]:
            if job is not None:
                job.setdefault("queue", self._own)
        for name in OWN:
            if name in arguments:
                arguments[name] = f"{self._own}/{arguments[name]}"
        return dict(to_wire(arguments))

    def _worker_name(self, worker: str) -> str:
        return f"{self._own}.{worker}"

    def _own_gates(self, kinds: dict[str, list[list[dict[str, Any]]]]) -> None:
        for actions in (actions for runs in kinds.values() for actions in runs):
            for action in actions:
                if "wait" in action:
                    action["wait"] = f"{self._own}/{action['wait']}"

    async def _judge(self, step: dict[str, Any], answering: Any) -> None:
        try:
            answer = await answering
        except Refused as refused:
            if "refused" not in step:
                raise Failed(f"refused with {refused.error}") from None
            self._compare(step["refused"], refused.error)
            self._keep(step, refused.error)
            return
        if "refused" in step:
            raise Failed(f"answered with {answer}, expected an error {step['refused']}")
        self._take(step, answer)

    async def _ask_until(self, step: dict[str, Any]) -> None:
        lines: list[str] = []
        try:
            while True:
                answer = await self._ask(step)
                if not (lines := mismatches(step["until"], answer)):
                    self._keep(step, answer)
                    return
                await asyncio.sleep(AGAIN_S)
        except Refused as refused:
            raise Failed(f"refused with {refused.error}") from None
        except asyncio.CancelledError:
            if lines:
                raise Failed(f"not within {self._step_s:g} s: {'; '.join(lines)}") from None
            raise

    # --- events and handlers ---

    def _fits(self, wanted: dict[str, Any]) -> Any:
        wanted = {"worker": "worker"} | wanted
        wanted["worker"] = f"{self._own}/{wanted['worker']}"
        return lambda event: not mismatches(wanted, event)

    async def _do_event(self, step: dict[str, Any]) -> None:
        event = await self._executor.event(self._fits(step["event"]))
        self._take(step, event)

    async def _do_events(self, step: dict[str, Any]) -> None:
        fits = self._fits(step["events"])
        self._compare({"count": step["count"]}, {"count": sum(map(fits, self._executor.events))})

    async def _do_open(self, step: dict[str, Any]) -> None:
        await self._executor.call("open", {"gate": f"{self._own}/{step['open']}"})

    # --- what happens around the executor ---

    async def _do_server(self, step: dict[str, Any]) -> None:
        match step["server"]:
            case "start":
                await self._stage.start_server()
            case "kill" | "stop" as how:
                await self._stage.stop_server(kill=how == "kill")
            case other:
                raise Failed(f"a server cannot {other}")

    async def _do_link(self, step: dict[str, Any]) -> None:
        match step["link"]:
            case "reset":
                self._stage.link.reset()
            case "silence":
                self._stage.link.silence()
            case "mute":
                self._stage.link.silence(answers_only=True)
            case "heal":
                self._stage.link.heal()
            case other:
                raise Failed(f"a link cannot {other}")

    async def _do_executor(self, step: dict[str, Any]) -> None:
        freeze = step["executor"] == "freeze"
        self._executor.signal(signal.SIGSTOP if freeze else signal.SIGCONT)

    async def _do_rival(self, step: dict[str, Any]) -> None:
        answer: dict[str, Any] = {}
        match step["rival"]:
            case "patience":
                answer = await self._rival.patience(self._own)
            case "lease":
                answer = await self._rival.lease(self._own)
            case "complete":
                answer = await self._rival.complete(step["job"], to_bytes(step["result"]))
            case "supersede":
                name = self._worker_name(step.get("worker", "worker"))
                answer = await self._rival.supersede(name)
            case "session":
                name = self._worker_name(step.get("worker", "worker"))
                answer = await self._session_until(name, step.get("until"))
            case other:
                raise Failed(f"a rival cannot {other}")
        self._take(step, answer)

    async def _session_until(self, name: str, wanted: Any) -> dict[str, Any]:
        while True:
            found = await self._rival.session(name)
            if wanted is None or not mismatches(wanted, found):
                return found
            await asyncio.sleep(AGAIN_S)


def _runs(given: Any) -> list[list[dict[str, Any]]]:
    """The runs of a kind, the last of which repeats. One action may stand for a list of one."""
    runs = [given] if isinstance(given, dict) else given
    return [[dict(one) for one in ([run] if isinstance(run, dict) else run)] for run in runs]


def _gates(steps: list[dict[str, Any]]) -> set[str]:
    return {
        action["wait"]
        for step in steps
        for given in step.get("kinds", {}).values()
        for run in _runs(given)
        for action in run
        if "wait" in action
    }
