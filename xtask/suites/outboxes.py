"""Outboxes of a real PostgreSQL, published by a node of Weft.

usage: outboxes.py WEFT FOLDER

Starts servers of its own, as a user that is not root, over TLS. Services write into the outbox while the node and the
server are killed in turn; in the end every row that was committed must stand in its topic once, in the order of the
commits. Then the server is replaced by older copies of itself and by others, and its slot is taken away: each time the
outbox must stand still and say so. Ends with a line `PASSED n/m`.
"""

import contextlib
import pathlib
import random
import shutil
import sys
import tempfile
import threading
import time
import uuid

import psycopg
from outboxes_tools import PASSWORD, TABLE, Postgres, Weft, certificates, free_ports, page, until

passed, failed = [], []
ORDERS = "outbox.event.order"


def case(name, held, why=""):
    (passed if held else failed).append(name)
    print(f"{'ok  ' if held else 'FAIL'} {name} {why}", flush=True)


def insert(conn, one, kind="placed", payload="{}", aggregate="order", **more):
    columns = ["id", "aggregatetype", "aggregateid", "type", "payload", *more]
    values = [one, aggregate, "o-1", kind, payload, *more.values()]
    marks = ", ".join(["%s"] * len(columns))
    conn.execute(f"INSERT INTO outbox ({', '.join(columns)}) VALUES ({marks})", values)


def new():
    return str(uuid.uuid4())


def rows_become_events(postgres, weft):
    one, two, three = new(), new(), new()
    big = "".join(random.choice("abcdefghij") for _ in range(300_000))
    postgres.ask("ALTER TABLE outbox ADD tenant text, ADD tags text[], ADD traceparent text")
    with postgres.connect() as conn:
        insert(conn, one, payload='{"total": 9.5, "name": "Zoë"}', tenant="nörd", tags=["a", "b,c"],
               traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
        insert(conn, two, payload=f'{{"big": "{big}"}}')
        insert(conn, three, payload=None)
    if not until("three events", lambda: {one, two, three} <= set(weft.ids())):
        return False
    found = {message["event"]["id"]: message for message in weft.read()}
    event, headers = found[one]["event"], found[one].get("headers", {})
    return (
        event["type"] == "placed" and event["subject"] == "o-1" and found[one]["key"] == "o-1"
        and event["data"] == {"total": 9.5, "name": "Zoë"} and event["source"] == "/weft/outboxes/shop"
        and headers == {"tenant": "nörd", "tags": '["a","b,c"]'} and event["traceparent"].startswith("00-0af")
        and event["time"].startswith("20") and found[two]["event"]["data"] == {"big": big}
        and "data" not in found[three]["event"]
    )


def commits_have_an_order(postgres, weft):
    a1, a2, b1, b2 = new(), new(), new(), new()
    with postgres.connect() as a, postgres.connect() as b:
        insert(a, a1)
        insert(b, b1)
        insert(b, b2)
        b.commit()
        insert(a, a2)
        a.commit()
    until("four events", lambda: a2 in weft.ids())
    return weft.ids()[-4:] == [b1, b2, a1, a2]


def what_is_rolled_back_is_not_there(postgres, weft):
    gone, part, kept, last = new(), new(), new(), new()
    with postgres.connect() as conn:
        insert(conn, gone)
        conn.rollback()
        insert(conn, kept)
        with contextlib.suppress(ZeroDivisionError), conn.transaction():
            insert(conn, part)
            raise ZeroDivisionError
        conn.commit()
        # What is deleted in the transaction that inserts it was an event all the same.
        insert(conn, last)
        conn.execute("DELETE FROM outbox WHERE id = %s", [last])
        conn.commit()
        conn.execute("UPDATE outbox SET type = 'changed'")
        conn.execute("DELETE FROM outbox")
        conn.commit()
        conn.execute("TRUNCATE outbox")
        conn.commit()
    fence = new()
    with postgres.connect() as conn:
        insert(conn, fence)
    until("the fence", lambda: fence in weft.ids())
    return weft.ids()[-3:] == [kept, last, fence]


def a_copy_keeps_its_order(postgres, weft):
    ids = [new() for _ in range(20_000)]
    with postgres.connect() as conn, conn.cursor() as cursor:
        with cursor.copy("COPY outbox (id, aggregatetype, aggregateid, type, payload) FROM STDIN") as copy:
            for one in ids:
                copy.write_row((one, "order", "o-2", "copied", '{"a": 1}'))
        conn.commit()
    until("all of the copy", lambda: ids[-1] in weft.ids())
    return weft.ids()[-len(ids):] == ids


def messages_of_the_log_are_events(postgres, weft):
    def emit(conn, one, transactional=True):
        event = f'{{"specversion":"1.0","id":"{one}","source":"/s","type":"log","subject":"é","data":{{"n":1}}}}'
        conn.execute("SELECT pg_logical_emit_message(%s, 'weft', %s)", [transactional, event])

    one, gone, loose, row, last = new(), new(), new(), new(), new()
    with postgres.connect() as conn:
        emit(conn, one)
        conn.execute("SELECT pg_logical_emit_message(true, 'other', 'x')")
        conn.commit()
        emit(conn, gone)
        conn.rollback()
        emit(conn, loose, False)
        conn.commit()
        insert(conn, row)
        emit(conn, last)
        conn.commit()
    until("the last message", lambda: last in weft.ids("log") and row in weft.ids())
    found = weft.read("log")
    return [of["event"]["id"] for of in found] == [one, last] and found[0]["key"] == "é" \
        and found[0]["event"]["data"] == {"n": 1}


def what_topics_refuse_goes_to_a_queue(postgres, weft):
    nowhere, fence = new(), new()
    with postgres.connect() as conn:
        insert(conn, nowhere, aggregate="nowhere")
        insert(conn, fence)
    until("the fence", lambda: fence in weft.ids())
    body = weft.send("POST", "/v1/queues/refused/receive", {"max": 10, "wait": "10s"})[1].decode()
    return nowhere in body and "outbox.event.nowhere" in body and weft.outbox()["refused"] == 1


def an_idle_slot_moves_on(postgres, weft):
    def kept():
        return postgres.ask("SELECT pg_current_wal_lsn() - confirmed_flush_lsn FROM pg_replication_slots "
                            "WHERE slot_name = 'weft_shop'")[0][0]

    postgres.ask("CREATE TABLE IF NOT EXISTS other (a text)")
    for _ in range(5):
        postgres.ask("INSERT INTO other SELECT repeat('x', 1000) FROM generate_series(1, 2000)")
    return until("the slot moves on", lambda: kept() < 1 << 20)


def an_inbox_takes_an_event_once(postgres, weft):
    """Ten consumers that are handed the same events at once: each event has its effect once."""
    postgres.ask(page("CREATE TABLE inbox"))
    postgres.ask("CREATE TABLE stock (reserved int)")
    postgres.ask("INSERT INTO stock VALUES (0)")
    take = page("INSERT INTO inbox").replace("'7f0c…'", "%s")

    def consumer():
        with postgres.connect() as conn:
            for number in range(20):
                if conn.execute(take, [str(number)]).rowcount:
                    conn.execute("UPDATE stock SET reserved = reserved + 1")
                    conn.commit()
                else:
                    conn.rollback()

    consumers = [threading.Thread(target=consumer) for _ in range(10)]
    for one in consumers:
        one.start()
    for one in consumers:
        one.join()
    postgres.ask(page("DELETE FROM inbox"))
    return postgres.ask("SELECT reserved FROM stock") == [(20,)]


class Writer(threading.Thread):
    """A service: inserts, in transactions of some rows, of which some are rolled back; goes on whatever happens."""

    def __init__(self, postgres, name, stop):
        super().__init__()
        self.postgres, self.name, self.stop, self.number = postgres, name, stop, 0
        self.chance = random.Random(name)

    def run(self):
        while not self.stop.is_set():
            with contextlib.suppress(psycopg.Error), self.postgres.connect() as conn:
                while not self.stop.is_set():
                    self.transaction(conn)

    def transaction(self, conn):
        size = 2_000 if self.chance.random() < 0.01 else self.chance.randint(1, 5)
        for _ in range(size):
            # A number is used once, whether its transaction comes through or not.
            self.number += 1
            insert(conn, new(), kind=self.name, payload=f'{{"n": {self.number}}}')
        conn.rollback() if self.chance.random() < 0.1 else conn.commit()


def nothing_is_lost_and_nothing_is_twice(postgres, weft, rounds):
    """Kills the node and the server in turn, and both at once, under load."""
    chance, before = random.Random(rounds), len(weft.ids())
    stop = threading.Event()
    writers = [Writer(postgres, f"w{number}", stop) for number in range(4)]
    for writer in writers:
        writer.start()
    for number in range(rounds):
        time.sleep(chance.uniform(0.2, 1.5))
        if number % 3 != 1:
            weft.kill()
        if number % 3 != 0:
            postgres.kill()
            time.sleep(chance.uniform(0, 0.3))
            postgres.start()
        if number % 3 != 1:
            weft.start()
    time.sleep(1)
    stop.set()
    for writer in writers:
        writer.join()
    fence = new()
    with postgres.connect() as conn:
        insert(conn, fence, kind="fence")
    reached = until("the fence", lambda: weft.ids()[-1:] == [fence], 120)
    if not reached:
        print("    ", weft.outbox(), flush=True)
    committed = {str(one): (kind, payload.get("n")) for one, kind, payload in
                 postgres.ask("SELECT id, type, payload FROM outbox WHERE type LIKE 'w%' OR type = 'fence'")}
    found = [of["event"]["id"] for of in weft.read()[before:]]
    twice, missing = len(found) - len(set(found)), set(committed) - set(found)
    extra = set(found) - set(committed)
    order = True
    for writer in writers:
        numbers = [committed[one][1] for one in found if one in committed and committed[one][0] == writer.name]
        order &= numbers == sorted(numbers)
    print(f"     {len(committed)} committed, {len(found)} published: {len(missing)} missing, {twice} twice, "
          f"{len(extra)} never committed", flush=True)
    return reached and len(committed) > 100 and not twice and not missing and not extra and order


def a_server_stops_in_order(postgres, weft):
    """A server waits until everything was confirmed: an outbox that holds that off would hold off every upgrade."""
    took = postgres.stop()
    one = new()
    postgres.start()
    with postgres.connect() as conn:
        insert(conn, one)
    until("one more event", lambda: one in weft.ids())
    return took < 15 and weft.ids().count(one) == 1 and weft.state() == "reading"


def a_slot_that_is_dropped_is_told(postgres, weft):
    weft.kill()
    lost = new()
    until("the slot is free", lambda: not postgres.ask(
        "SELECT 1 FROM pg_replication_slots WHERE slot_name = 'weft_shop' AND active"))
    postgres.ask("SELECT pg_drop_replication_slot('weft_shop')")
    with postgres.connect() as conn:
        insert(conn, lost)
    weft.start()
    told = weft.stands("slot_missing")
    status, _ = weft.reset("now")
    one = new()
    until("it reads", lambda: weft.state() == "reading")
    with postgres.connect() as conn:
        insert(conn, one)
    until("one more event", lambda: one in weft.ids())
    return told and status == 200 and one in weft.ids() and lost not in weft.ids()


def a_slot_that_is_made_anew_is_told(postgres, weft):
    weft.kill()
    until("the slot is free", lambda: not postgres.ask(
        "SELECT 1 FROM pg_replication_slots WHERE slot_name = 'weft_shop' AND active"))
    postgres.ask("SELECT pg_drop_replication_slot('weft_shop')")
    postgres.ask("SELECT pg_create_logical_replication_slot('weft_shop', 'pgoutput')")
    weft.start()
    told = weft.stands("slot_moved")
    one = new()
    with postgres.connect() as conn:
        insert(conn, one)
    status, _ = weft.reset("slot")
    until("one more event", lambda: one in weft.ids())
    return told and status == 200 and weft.ids().count(one) == 1


def an_older_copy_is_told(postgres, weft, folder, overtakes):
    """A cold copy has the same system identifier and timeline, and the slot as it was."""
    until("it has caught up", lambda: weft.outbox().get("lag_bytes") == 0 and weft.state() == "reading")
    postgres.stop()
    copy = folder / f"copy-{overtakes}"
    postgres.copy(copy)
    postgres.start()
    lost = [new() for _ in range(5)]
    for one in lost:
        with postgres.connect() as conn:
            insert(conn, one)
    until("five events", lambda: set(lost) <= set(weft.ids()))
    current = folder / f"current-{overtakes}"
    weft.kill()
    postgres.stop()
    postgres.copy(current)
    postgres.restore(copy)
    postgres.start()
    one = new()
    if overtakes:
        # The log of the copy goes beyond what was read of the other one, so that no position tells them apart.
        with postgres.connect() as conn:
            for _ in range(50):
                insert(conn, new(), kind="other history", payload=f'{{"x": "{"y" * 1000}"}}')
                conn.commit()
    before = weft.start() and weft.ids()
    told = weft.stands("other_history" if overtakes else "log_went_back")
    silent = weft.ids() == before
    postgres.stop()
    postgres.restore(current)
    postgres.start()
    with postgres.connect() as conn:
        insert(conn, one)
    # The right server is back: nothing has to be reset.
    until("one more event", lambda: one in weft.ids(), 60)
    return told and silent and weft.ids()[-1] == one


def another_server_is_told(postgres, weft, folder):
    postgres.stop()
    other = Postgres(folder, "other", postgres.port, folder)
    other.start()
    other.ask(TABLE)
    told = weft.stands("other_server")
    other.stop()
    postgres.start()
    return told and until("it reads again", lambda: weft.state() == "reading")


def log_that_is_removed_is_told(postgres, weft):
    weft.kill()
    postgres.ask("ALTER SYSTEM SET max_slot_wal_keep_size = '16MB'")
    postgres.ask("SELECT pg_reload_conf()")
    for _ in range(6):
        postgres.ask("INSERT INTO other SELECT repeat('x', 1000) FROM generate_series(1, 20000)")
        postgres.ask("SELECT pg_switch_wal()")
        postgres.ask("CHECKPOINT")
    lost = until("the slot is lost", lambda: postgres.ask(
        "SELECT wal_status FROM pg_replication_slots WHERE slot_name = 'weft_shop'") == [("lost",)])
    weft.start()
    told = weft.stands("slot_lost")
    postgres.ask("ALTER SYSTEM RESET max_slot_wal_keep_size")
    postgres.ask("SELECT pg_reload_conf()")
    weft.reset("now")
    one = new()
    until("it reads", lambda: weft.state() == "reading")
    with postgres.connect() as conn:
        insert(conn, one)
    return lost and told and until("one more event", lambda: weft.ids().count(one) == 1)


def a_role_that_may_not_is_told_what_to_run(postgres, weft):
    """The SQL that the outbox names is what makes it go."""
    postgres.ask(f"CREATE ROLE shipper LOGIN PASSWORD '{PASSWORD}'")
    weft.kill()
    text = weft.config.read_text()
    weft.config.write_text(text.replace("postgres://postgres:", "postgres://shipper:")
                           .replace("  shop:", "  small:").replace("table: outbox", "table: outbox, slot: small"))
    weft.start()
    first = weft.stands("setup", "small") and "ALTER ROLE" in weft.outbox("small")["detail"]
    postgres.ask("ALTER ROLE shipper REPLICATION")
    until("the next thing is missing", lambda: "CREATE PUBLICATION" in weft.outbox("small").get("detail", ""))
    detail = weft.outbox("small")["detail"]
    second = "CREATE PUBLICATION" in detail
    if second:
        postgres.ask(detail[detail.index("CREATE PUBLICATION"):])
    reads = until("it reads", lambda: weft.state("small") == "reading")
    one = new()
    with postgres.connect() as conn:
        insert(conn, one)
    return first and second and reads and until("one more event", lambda: weft.ids().count(one) == 1)


def main():
    binary = str(pathlib.Path(sys.argv[1]).absolute())
    # The server's user must get there.
    folder = pathlib.Path(tempfile.mkdtemp(prefix="weft-outboxes-"))
    folder.chmod(0o755)
    rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 9
    certificates(folder)
    (port,) = free_ports(1)
    postgres, weft = Postgres(folder, "data", port, folder), Weft(binary, folder, port)
    try:
        postgres.start()
        postgres.ask(TABLE)
        old = new()
        with postgres.connect() as conn:
            insert(conn, old)
        weft.write({"shop": "table: outbox, messages: { prefix: weft }, refused_to: refused"}, ["log"])
        weft.start()
        case("it begins", until("it reads", lambda: weft.state() == "reading") and weft.ids() == [])
        for check in (rows_become_events, commits_have_an_order, what_is_rolled_back_is_not_there,
                      a_copy_keeps_its_order, messages_of_the_log_are_events,
                      what_topics_refuse_goes_to_a_queue, an_idle_slot_moves_on,
                      an_inbox_takes_an_event_once):
            case(check.__name__.replace("_", " "), check(postgres, weft))
        case("nothing is lost and nothing is twice", nothing_is_lost_and_nothing_is_twice(postgres, weft, rounds))
        for check in (a_server_stops_in_order, a_slot_that_is_dropped_is_told, a_slot_that_is_made_anew_is_told):
            case(check.__name__.replace("_", " "), check(postgres, weft))
        for overtakes in (False, True):
            name = f"an older copy {'with more in it ' if overtakes else ''}is told"
            case(name, an_older_copy_is_told(postgres, weft, folder, overtakes))
        case("another server is told", another_server_is_told(postgres, weft, folder))
        case("log that is removed is told", log_that_is_removed_is_told(postgres, weft))
        case("a role that may not is told what to run", a_role_that_may_not_is_told_what_to_run(postgres, weft))
    finally:
        for one in (weft, postgres):
            if one.process and one.process.poll() is None:
                one.kill()
        if failed:
            shutil.copytree(folder, sys.argv[2], dirs_exist_ok=True, ignore=shutil.ignore_patterns("data", "copy*", "current*", "other"))
        shutil.rmtree(folder, ignore_errors=True)
    print(f"PASSED {len(passed)}/{len(passed) + len(failed)}")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
