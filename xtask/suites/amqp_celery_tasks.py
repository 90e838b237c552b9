"""What the workers of the Celery suite do; started by `amqp_celery.py`, which says where and under what name."""

import os
import time

from celery import Celery

app = Celery("tasks", broker=os.environ["AMQP_URL"], backend="rpc://")
app.conf.update(
    task_default_queue=os.environ["SUITE_QUEUE"],
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    worker_send_task_events=True,
    task_send_sent_event=True,
    broker_connection_retry_on_startup=True,
    result_expires=600,
    task_queue_max_priority=5,
    task_default_priority=1,
)


@app.task
def add(a, b):
    return a + b


@app.task
def total(numbers):
    return sum(numbers)


@app.task(bind=True, max_retries=3)
def unsteady(self, failures):
    if self.request.retries < failures:
        raise self.retry(countdown=0.2)
    return self.request.retries


@app.task(bind=True, max_retries=2)
def hopeless(self):
    raise self.retry(countdown=0.1, exc=ValueError("never"))


@app.task
def stumble():
    raise KeyError("stumbled")


@app.task
def note(path, line, pause=0.0):
    """Leaves a line that outlives the worker, then takes its time."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(f"{line}\n")
    time.sleep(pause)
    with open(path, encoding="utf-8") as file:
        return len(file.readlines())
