"""The OpenAPI document of a node, held to the specification, and the node's answers held to the document.

usage: openapi.py ADMIN, HOST:PORT of the admin API of a node that keeps messages and has the service `orders`, and
the listener and route `web`; the last line is `PASSED n/m`.
"""

import json
import sys
import urllib.error
import urllib.request

from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

ADMIN = sys.argv[1]
passed = count = 0


def check(what, good, seen=""):
    global passed, count
    count += 1
    passed += bool(good)
    if not good:
        print("FAILED", what, seen, flush=True)


def ask(method, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://{ADMIN}{path}", data, {"content-type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.headers.get_content_type(), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers.get_content_type(), error.read()


DOCUMENT = json.loads(ask("GET", "/v1/openapi.json")[2])
ASKED = set()


def operation(wanted):
    for path, item in DOCUMENT["paths"].items():
        for method, described in item.items():
            if described["operationId"] == wanted:
                return method.upper(), path, described
    raise KeyError(wanted)


def conforms(wanted, expected, body=None, query="", **places):
    """Asks for an operation, and holds its answer to the schema of its status; gives the answer."""
    ASKED.add(wanted)
    method, path, described = operation(wanted)
    for place, value in places.items():
        path = path.replace("{" + place + "}", value)
    status, media, raw = ask(method, path + query, body)
    check(f"{wanted}: status", status == expected, f"{status} {raw[:300]}")
    responses = described["responses"]
    check(f"{wanted}: {status} is described", str(status) in responses)
    if not raw or str(status) not in responses:
        return None
    content = responses[str(status)].get("content", {})
    check(f"{wanted}: {media} is described", media in content, list(content))
    value = json.loads(raw)
    schema = {"$ref": f"#/x/{wanted}", "x": {wanted: content.get(media, {}).get("schema", {})},
              "components": DOCUMENT["components"]}
    errors = [f"{error.json_path}: {error.message[:200]}" for error in Draft202012Validator(schema).iter_errors(value)]
    check(f"{wanted}: {status} conforms", not errors, errors[:3])
    # What is shown is described: no answer has members that its schema does not name.
    strict(wanted, value, content.get(media, {}).get("schema", {}))
    return value


def strict(place, value, schema):
    while "$ref" in schema:
        found = DOCUMENT
        for step in schema["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        schema = found
    if "items" in schema and isinstance(value, list):
        for item in value:
            strict(place, item, schema["items"])
    known = schema.get("properties")
    if known and isinstance(value, dict):
        unknown = [name for name in value if name not in known]
        check(f"{place}: every member is described", not unknown, unknown)
        for name in value.keys() & known.keys():
            strict(f"{place}.{name}", value[name], known[name])


errors = [error.message for error in OpenAPIV31SpecValidator(DOCUMENT).iter_errors()]
check("the document is OpenAPI 3.1", not errors, errors[:3])

for name in ["status", "config", "listeners", "routes", "services", "openapi"]:
    conforms(name, 200)
for name, thing in [("listener", "web"), ("route", "web"), ("service", "orders")]:
    conforms(name, 200, name=thing)
    conforms(name, 404, name="none")
conforms("explain_route", 200, {"method": "GET", "url": "/x"})
conforms("explain_route", 400, {"method": "GET"})
conforms("breaker", 200, {"mode": "enforce"}, name="orders")
for hand in ["drain", "undrain", "isolate", "restore"]:
    conforms(hand, 200, name="orders", endpoint="127.0.0.1:9")
conforms("reload", 200)

conforms("put_topic", 201, {"retention": "1d"}, topic="t")
conforms("put_topic", 200, {"retention": "1d"}, topic="t")
conforms("put_topic", 409, {"retention": "2d"}, topic="t")
conforms("put_subscription", 201, {"topic": "t", "filter": "true"}, name="s")
conforms("put_queue", 201, {"retry": {"failures_max": 1}, "priorities": True}, queue="q")
conforms("put_schedule", 201, {"cron": "@daily", "to": {"queue": "q"}, "data": {"a": 1}}, id="daily")
conforms("put_schedule", 201, {"at": "2100-01-01T00:00:00Z", "to": {"topic": "t"}}, id="once")
for name in ["topics", "queues", "subscriptions", "schedules", "engines"]:
    conforms(name, 200)
conforms("schedules", 200, query="?max=1")
for name, places in [("topic", {"topic": "t"}), ("queue", {"queue": "q"}), ("subscription", {"name": "s"}),
                     ("schedule", {"id": "daily"}), ("schedule", {"id": "once"}), ("engine", {"name": "embedded"})]:
    conforms(name, 200, **places)
    conforms(name, 404, **{place: "none" for place in places})
conforms("topic", 400, query="?surprise=1", topic="t")
conforms("publish", 200, {"a": 1}, "?key=k", topic="t")
conforms("browse", 200, query="?from=first", topic="t")
conforms("last", 200, topic="t")
conforms("enqueue", 200, {"a": 1}, "?priority=3", queue="q")
conforms("enqueue", 200, {"a": 2}, "?delay=1h&ttl=2h", queue="q")
conforms("peek", 200, queue="q")
taken = conforms("receive_queue", 200, {}, queue="q")
failed = [{"id": one["id"], "how": "reject", "reason": "it must"} for one in taken["deliveries"]]
conforms("settle_queue", 200, {"settle": failed}, queue="q")
dead = conforms("peek", 200, queue="q.dead")
check("there is a dead letter", len(dead["messages"]) == 1, dead)
conforms("message", 200, queue="q.dead", position=str(dead["messages"][0]["position"]))
conforms("redrive", 200, {"dry_run": True}, queue="q.dead")
conforms("purge", 200, query="?confirm=q.dead", queue="q.dead")
taken = conforms("receive_subscription", 200, {}, name="s")
conforms("settle_subscription", 200, {"settle": [{"id": one["id"], "how": "accept"} for one in taken["deliveries"]]}, name="s")
for steer, body in [("pause", None), ("resume", None), ("seek", {"to": "first"}), ("skip", {"messages": 1})]:
    conforms(steer, 200, body, name="s")
conforms("ledger", 200)
conforms("checkpoint", 204)
for name, places in [("delete_subscription", {"name": "s"}), ("delete_topic", {"topic": "t"}),
                     ("delete_queue", {"queue": "q"}), ("delete_schedule", {"id": "daily"})]:
    conforms(name, 204, **places)
    conforms(name, 404, **places)

print(f"{len(ASKED)} operations were asked for")
print(f"PASSED {passed}/{count}")
sys.exit(passed != count)
