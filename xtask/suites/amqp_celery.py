"""A real application over AMQP 0-9-1: Celery with workers that retry, wait, are called off and are killed.

usage: AMQP_URL=amqp://guest:guest@127.0.0.1:5672/%2F amqp_celery.py; the last line is `PASSED n/m`.
"""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

from amqp_report import URL, case, main, name, same, until

os.environ["AMQP_URL"] = URL
os.environ["SUITE_QUEUE"] = name("celery")

import celery  # noqa: E402
from celery.exceptions import TaskRevokedError  # noqa: E402

from amqp_celery_tasks import add, app, hopeless, note, stumble, total, unsteady  # noqa: E402

FOLDER = pathlib.Path(tempfile.mkdtemp(prefix="weft-celery-"))


class Worker:
    """A worker with two processes of its own, ended as a group."""

    def __init__(self):
        self.host = f"{name('worker')}@suite"
        self.log = open(FOLDER / "worker.log", "a", encoding="utf-8")
        command = [sys.executable, "-m", "celery", "-A", "amqp_celery_tasks", "worker"]
        command += ["--concurrency=2", "--loglevel=ERROR", "--without-gossip", "--without-mingle", "-n", self.host]
        here = pathlib.Path(__file__).parent
        self.process = subprocess.Popen(
            command, cwd=here, stdout=self.log, stderr=self.log, start_new_session=True
        )

    def end(self, how=signal.SIGTERM):
        if self.process.poll() is None:
            # Asked, the worker ends its own processes; killed, all go at once.
            if how == signal.SIGTERM:
                self.process.terminate()
            else:
                os.killpg(self.process.pid, how)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait(5)


WORKER = [Worker()]


def lines(path):
    return path.read_text().splitlines() if path.exists() else []


@case("a task and its result")
def simple():
    same(add.delay(2, 3).get(timeout=30), 5)


@case("500 tasks, every result its own")
def many():
    sent = [add.delay(number, number) for number in range(500)]
    same([result.get(timeout=35) for result in sent], [2 * number for number in range(500)])


@case("a task that fails is tried again after its countdown")
def retry():
    began = time.monotonic()
    same(unsteady.delay(3).get(timeout=20), 3)
    assert time.monotonic() - began >= 0.6


@case("a task that never succeeds fails with its own reason")
def gives_up():
    try:
        hopeless.delay().get(timeout=20)
    except ValueError as error:
        same(str(error), "never")
    else:
        raise AssertionError("it succeeded")


@case("an exception comes back as what it was")
def exception():
    try:
        stumble.delay().get(timeout=20)
    except KeyError as error:
        same(error.args, ("stumbled",))
    else:
        raise AssertionError("it succeeded")


@case("a chain hands each result on")
def chain():
    same(celery.chain(add.s(1, 1), add.s(10), add.s(100))().get(timeout=20), 112)


@case("a group runs side by side")
def group():
    same(celery.group(add.s(number, 1) for number in range(40))().get(timeout=30), list(range(1, 41)))


@case("a chain of groups' sums, by starmap and chunks")
def chunks():
    found = add.chunks(zip(range(20), range(20)), 5).apply_async().get(timeout=20)
    same(sum(found, []), [2 * number for number in range(20)])
    same(total.delay(list(range(10))).get(timeout=20), 45)


@case("countdown and ETA are waited for")
def eta():
    began = time.monotonic()
    same(add.apply_async((1, 1), countdown=2).get(timeout=20), 2)
    assert time.monotonic() - began >= 2


@case("a task past its expiry is not run")
def expires():
    path = FOLDER / "expired"
    result = note.apply_async((str(path), "late"), countdown=1.5, expires=0.5)
    try:
        result.get(timeout=10)
    except TaskRevokedError:
        pass
    else:
        raise AssertionError("it ran")
    same(lines(path), [])


@case("workers answer to a broadcast")
def ping():
    found = until("an answer", lambda: app.control.ping(timeout=1), 15)
    same(found[0][WORKER[0].host], {"ok": "pong"})
    assert WORKER[0].host in app.control.inspect(timeout=3).stats()


@case("a task that is called off is not run")
def revoke():
    path = FOLDER / "revoked"
    result = note.apply_async((str(path), "should not be"), countdown=3)
    time.sleep(0.7)
    result.revoke()
    time.sleep(4.5)
    same(lines(path), [])


@case("events of tasks are heard by a monitor")
def events():
    heard = []
    wanted = {"task-received", "task-started", "task-succeeded"}
    with app.connection() as connection:
        receiver = app.events.Receiver(connection, handlers={"*": lambda event: heard.append(event["type"])})

        def listen():
            try:
                for _ in receiver.itercapture(limit=None, timeout=6, wakeup=True):
                    if wanted <= set(heard):
                        return
            except Exception as error:  # told by what was heard
                heard.append(repr(error))

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        # It says nothing of when it has begun to hear.
        end = time.monotonic() + 15
        while not wanted <= set(heard) and time.monotonic() < end:
            add.delay(1, 2).get(timeout=10)
        thread.join(8)
    assert wanted <= set(heard), set(heard)


@case("a worker that is killed mid-task loses nothing: the next one runs it (acks_late)")
def killed():
    path = FOLDER / "killed"
    result = note.delay(str(path), "begun", 3)
    until("the task has begun", lambda: lines(path), 15)
    WORKER[0].end(signal.SIGKILL)
    WORKER[0] = Worker()
    same(result.get(timeout=30), 2)
    same(lines(path), ["begun", "begun"])


@case("a worker that is asked to end finishes its task first, and the rest waits for the next")
def warm():
    path, rest = FOLDER / "warm", FOLDER / "rest"
    first = note.delay(str(path), "begun", 2)
    until("the task has begun", lambda: lines(path), 15)
    WORKER[0].end()
    later = note.delay(str(rest), "begun")
    same(first.get(timeout=5), 1)
    same(lines(rest), [])
    WORKER[0] = Worker()
    same(later.get(timeout=30), 1)
    same(lines(path), ["begun"])


@case("purging a queue counts what was in it")
def purge():
    WORKER[0].end()
    for _ in range(7):
        add.delay(1, 1)
    until("seven are gone", lambda: app.control.purge() == 7, 5)
    same(app.control.purge(), 0)


@case("the suite leaves no queue behind")
def leaves():
    with app.connection() as connection:
        connection.default_channel.queue_delete(os.environ["SUITE_QUEUE"])


def finish():
    WORKER[0].end()
    shutil.rmtree(FOLDER, ignore_errors=True)


main(finish)
