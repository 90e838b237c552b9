"""How the AMQP suites are told and counted: `ok name`, `FAIL name why`, `PASSED n/m`.

A case is a function; it is judged by itself, on names of its own, within a time of its own, so that one
that hangs costs a minute and not the run. `AMQP_URL` names the server, `AMQP_ONLY` picks cases by a part
of their name.
"""

import asyncio
import os
import signal
import sys
import time
import uuid

URL = os.environ.get("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2F")
ONLY = os.environ.get("AMQP_ONLY", "")
LONGEST = 40  # seconds a case may take

_cases = []


def case(title):
    """Marks a function, plain or async, as a case."""

    def keep(function):
        _cases.append((title, function))
        return function

    return keep


def name(what="q"):
    """A name that no other run uses."""
    return f"suite.{what}.{uuid.uuid4().hex[:12]}"


def same(found, expected, what=""):
    """Fails with both when they differ."""
    if found != expected:
        raise AssertionError(f"{what}{': ' if what else ''}found {found!r}, expected {expected!r}")


def begins(found, expected):
    """Fails unless a text begins as expected."""
    if not str(found).startswith(expected):
        raise AssertionError(f"found {found!r}, expected it to begin {expected!r}")


def until(what, ask, longest=10.0, step=0.02):
    """Asks until the answer is true, and fails once it has taken too long."""
    end = time.monotonic() + longest
    while True:
        found = ask()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {longest} s")
        time.sleep(step)


class TooLong(Exception):
    """A case took too long; no client library knows it, so none swallows it."""


def _alarm(_signal, _frame):
    raise TooLong(f"not over within {LONGEST} s")


def _judge(function):
    if asyncio.iscoroutinefunction(function):
        asyncio.run(asyncio.wait_for(function(), LONGEST))
        return
    signal.signal(signal.SIGALRM, _alarm)
    signal.alarm(LONGEST)
    try:
        function()
    finally:
        signal.alarm(0)


def main(finish=None):
    """Runs every case, prints the verdicts, cleans up by `finish`, and ends the process."""
    chosen = [entry for entry in _cases if ONLY in entry[0]]
    passed = 0
    for title, function in chosen:
        try:
            _judge(function)
        except BaseException as error:  # a case must never end the run
            if isinstance(error, KeyboardInterrupt):
                raise
            why = f"{type(error).__name__}: {error}".replace("\n", " ")
            print(f"FAIL {title} {why[:400]}", flush=True)
        else:
            passed += 1
            print(f"ok {title}", flush=True)
    print(f"PASSED {passed}/{len(chosen)}", flush=True)
    sys.stdout.flush()
    # Threads of a client would hold up the interpreter's own way out. Nothing asked is nothing passed.
    if finish:
        finish()
    os._exit(0 if chosen and passed == len(chosen) else 1)
