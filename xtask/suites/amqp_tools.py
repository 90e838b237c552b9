"""AMQP 0-9-1 by the command-line tools of rabbitmq-c: declare, publish, get, consume, delete.

usage: AMQP_URL=amqp://guest:guest@127.0.0.1:5672/%2F amqp_tools.py; the last line is `PASSED n/m`.
"""

import subprocess

from amqp_report import URL, begins, case, main, name, same


def tool(program, *arguments, given=b"", fails=False):
    done = subprocess.run(
        [f"amqp-{program}", f"--url={URL}", *arguments], input=given, capture_output=True, timeout=20, check=False
    )
    same(done.returncode != 0, fails, f"{program} {arguments}: {done.stderr.decode()}")
    return done.stderr.decode() if fails else done.stdout


def queue(*options):
    title = name()
    same(tool("declare-queue", f"--queue={title}", *options).decode().strip(), title)
    return title


@case("declare, publish, get, delete")
def round_trip():
    q = queue("--durable")
    for body in (b"one", b"two", b""):
        tool("publish", f"--routing-key={q}", "--persistent", given=body)
    same([tool("get", f"--queue={q}") for _ in range(3)], [b"one", b"two", b""])
    tool("get", f"--queue={q}", fails=True)  # empty
    tool("publish", f"--routing-key={q}", "--body=left")
    same(tool("delete-queue", f"--queue={q}").strip(), b"1")


@case("a command for each message, in order")
def consume():
    q = queue()
    for number in range(20):
        tool("publish", f"--routing-key={q}", f"--body=m{number}")
    out = tool("consume", f"--queue={q}", "--count=20", "--prefetch-count=5", "--", "sh", "-c", "cat; echo")
    same(out.decode().split(), [f"m{number}" for number in range(20)])
    same(tool("delete-queue", f"--queue={q}").strip(), b"0")


@case("what a failed command had is not taken")
def consume_failed():
    q = queue()
    tool("publish", f"--routing-key={q}", "--body=kept")
    subprocess.run(
        ["timeout", "-s", "KILL", "1", "amqp-consume", f"--url={URL}", f"--queue={q}", "sleep", "5"], check=False
    )
    same(tool("get", f"--queue={q}"), b"kept")
    tool("delete-queue", f"--queue={q}")


@case("a queue that the server names, bound to an exchange by a pattern")
def bound():
    consumer = subprocess.Popen(
        ["amqp-consume", f"--url={URL}", "--exchange=amq.topic", "--routing-key=suite.#", "--count=2", "cat"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        heard = b""
        # It says nothing of when it has bound: what comes before is not for it.
        for _ in range(100):
            tool("publish", "--exchange=amq.topic", "--routing-key=suite.a.b", "--body=x")
            try:
                heard, told = consumer.communicate(timeout=0.1)
                begins(told.decode(), "Server provided queue name: amq.gen-")
                break
            except subprocess.TimeoutExpired:
                pass
        same(heard, b"xx")
    finally:
        consumer.kill()


@case("a large body by lines and whole")
def large():
    q = queue()
    body = bytes(range(256)) * 4000
    tool("publish", f"--routing-key={q}", "--content-type=application/octet-stream", given=body)
    same(tool("get", f"--queue={q}") == body, True, "the same body")
    tool("publish", f"--routing-key={q}", "--line-buffered", given=b"a\nb\nc\n")
    same([tool("get", f"--queue={q}") for _ in range(3)], [b"a\n", b"b\n", b"c\n"])
    tool("delete-queue", f"--queue={q}")


@case("errors are the broker's own words")
def errors():
    q = queue()
    assert "NOT_FOUND - no queue 'nope' in vhost '/'" in tool("get", "--queue=nope", fails=True)
    said = tool("declare-queue", f"--queue={q}", "--durable", fails=True)
    assert f"PRECONDITION_FAILED - inequivalent arg 'durable' for queue '{q}'" in said, said
    tool("delete-queue", f"--queue={q}")


main()
