"""The process between the program and PostgreSQL, run by its path as a script and never imported.

It holds the read end of a pipe whose write end only the program has. When the program ends, however
it ends, the pipe reads end-of-file and PostgreSQL is shut down cleanly. One mechanism covers every
way of running: directly, as another user and in a user namespace.

Its one argument is a JSON object:
  action    "once": become the wanted user, then exec `command`.
            "guard": start `command`, print its process id, serve orders until it has ended.
  run_as    {"uid": int, "gid": int, "namespace": bool}, or null to stay as we are.
  command   list of strings.
  enter     ("once") a directory that must be enterable after the change of user, or null.
  parent    ("guard") process id of the program.
  socket_directory, temporary   ("guard") directories to delete at the end; `temporary` only when
            the program died, or null.
Orders are lines on standard input: "fast" or "immediate".
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
from typing import Any

CLONE_NEWUSER = 0x10000000
PR_SET_PDEATHSIG = 1
FAST_STOP_SECONDS = 60.0
IMMEDIATE_STOP_SECONDS = 10.0
PARENT_CHECK_SECONDS = 1.0
SIGNALS = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _enter_namespace(uid: int, gid: int) -> None:
    outside_uid, outside_gid = os.geteuid(), os.getegid()
    if _libc().unshare(CLONE_NEWUSER) != 0:
        raise OSError(ctypes.get_errno(), "cannot create a user namespace")
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{uid} {outside_uid} 1"),
        ("gid_map", f"{gid} {outside_gid} 1"),
    ):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)


def become(run_as: dict[str, Any] | None) -> None:
    """Change to the wanted user for good. Raises OSError when that is not allowed."""
    if run_as is None:
        return
    if run_as["namespace"]:
        _enter_namespace(run_as["uid"], run_as["gid"])
        return
    os.setgroups([])
    os.setgid(run_as["gid"])
    os.setuid(run_as["uid"])


def _become_child(run_as: dict[str, Any] | None, supervisor: int) -> None:
    become(run_as)
    if sys.platform == "linux":
        # A second line of defence for a supervisor that is itself killed. It must follow the change
        # of user, which clears it; this process has one thread, so "parent" means the process.
        _libc().prctl(PR_SET_PDEATHSIG, int(signal.SIGINT), 0, 0, 0)
        if os.getppid() != supervisor:
            os._exit(1)


def run_once(task: dict[str, Any]) -> None:
    """Replace this process by the command, run as the wanted user."""
    become(task["run_as"])
    if task["enter"] is not None:
        os.chdir(task["enter"])
        os.chdir("/")
    os.execv(task["command"][0], task["command"])


def _wake_on_signals() -> int:
    """Return a descriptor that gives a byte (the number) for each SIGCHLD and SIGTERM."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    # Handlers, not SIG_IGN: an ignored signal would stay ignored in PostgreSQL.
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda _number, _frame: None)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    return reader


def _next_order(child: subprocess.Popen[bytes], wake: int, parent: int) -> str | None:
    """Wait for "fast", "immediate", "orphaned", or None when PostgreSQL ended by itself."""
    while True:
        ready, _, _ = select.select([0, wake], [], [], PARENT_CHECK_SECONDS)
        if wake in ready and signal.SIGTERM in os.read(wake, 512):
            return "fast"
        if child.poll() is not None:
            return None
        if 0 in ready:
            line = os.read(0, 64)
            return line.decode().strip() if line else "orphaned"
        # A fork of the program may hold the pipe open, so its end alone is not trusted.
        if os.getppid() != parent:
            return "orphaned"


def _shut_down(child: subprocess.Popen[bytes], order: str) -> None:
    if order != "immediate":
        child.send_signal(SIGNALS["fast"])
        try:
            child.wait(FAST_STOP_SECONDS)
            return
        except subprocess.TimeoutExpired:
            pass
    child.send_signal(SIGNALS["immediate"])
    try:
        child.wait(IMMEDIATE_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def guard(task: dict[str, Any]) -> None:
    """Run PostgreSQL until it ends, an order comes or the program dies."""
    wake = _wake_on_signals()
    this = os.getpid()
    child = subprocess.Popen(
        task["command"],
        stdin=subprocess.DEVNULL,
        stdout=2,
        stderr=2,
        cwd="/",
        preexec_fn=lambda: _become_child(task["run_as"], this),
    )
    order: str | None = "orphaned"
    try:
        os.write(1, f"{child.pid}\n".encode())
        order = _next_order(child, wake, task["parent"])
    except BrokenPipeError:
        pass
    if order is not None:
        _shut_down(child, order)
    shutil.rmtree(task["socket_directory"], ignore_errors=True)
    if order == "orphaned" and task["temporary"] is not None:
        shutil.rmtree(task["temporary"], ignore_errors=True)


if __name__ == "__main__":
    arguments = json.loads(sys.argv[1])
    if arguments["action"] == "once":
        run_once(arguments)
    else:
        guard(arguments)
