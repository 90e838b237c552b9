"""Deliveries by WebSocket, by `websockets` and `websocket-client`.

usage: messages_python.py WEB SAFE ADMIN, each HOST:PORT; the last line is `PASSED n/m`.
"""

import asyncio
import json
import os
import ssl
import sys
import urllib.request

# A suite beside this one has the name of a package.
sys.path.remove(os.path.dirname(os.path.abspath(__file__)))

import websocket
import websockets
from websockets.asyncio.client import connect

WEB, SAFE, ADMIN = sys.argv[1:4]
UNCHECKED = ssl.create_default_context()
UNCHECKED.check_hostname = False
UNCHECKED.verify_mode = ssl.CERT_NONE
PLACES = [("listener", f"ws://{WEB}", None), ("TLS", f"wss://{SAFE}", UNCHECKED), ("admin API", f"ws://{ADMIN}", None)]
PROTOCOL = "weft.messages.v1"
passed = count = 0


def check(what, good, seen=""):
    global passed, count
    count += 1
    passed += bool(good)
    if not good:
        print("FAILED", what, seen, flush=True)


def ask(method, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://{WEB}{path}", data, {"content-type": "application/json"}, method=method)
    with urllib.request.urlopen(request) as answer:
        return json.loads(answer.read() or b"null")


async def async_client():
    for place, base, tls in PLACES:
        for protocols in (None, [PROTOCOL]):
            ask("POST", "/v1/queues/jobs/messages", {"to": place})
            async with connect(f"{base}/v1/queues/jobs/stream", ssl=tls, subprotocols=protocols) as socket:
                check(f"{place}: subprotocol", socket.subprotocol == (protocols and protocols[0]), socket.subprotocol)
                check(f"{place}: no extension", not socket.protocol.extensions, socket.protocol.extensions)
                delivery = json.loads(await asyncio.wait_for(socket.recv(), 10))
                check(f"{place}: delivered", delivery["event"]["data"] == {"to": place}, delivery)
                # In three fragments.
                text = json.dumps({"settle": [{"id": delivery["id"], "how": "accept"}]})
                await socket.send([text[:5], text[5:9], text[9:]])
                settled = json.loads(await asyncio.wait_for(socket.recv(), 10))
                check(f"{place}: settled", settled["settled"][0]["ok"] is True, settled)
                await asyncio.wait_for(await socket.ping(), 10)
                await asyncio.wait_for(socket.close(4000, "done"), 5)
                check(f"{place}: closed", (socket.close_code, socket.close_reason) == (4000, "done"), socket.close_code)
    async with connect(f"ws://{WEB}/v1/queues/jobs/stream") as socket:
        await socket.send("nonsense")
        told = json.loads(await socket.recv())
        await asyncio.wait_for(socket.wait_closed(), 4)
        check("what is not understood", told["error"]["status"] == 400 and socket.close_code == 1008, told)
    async with connect(f"ws://{WEB}/v1/queues/jobs/stream") as socket:
        await socket.send(json.dumps({"settle": "x" * (1 << 20)}))
        await asyncio.wait_for(socket.wait_closed(), 8)
        check("too large", socket.close_code == 1009, socket.close_code)
    try:
        async with connect(f"ws://{WEB}/v1/queues/jobs/stream", subprotocols=["chat"]):
            check("a foreign subprotocol is refused", False)
    except websockets.InvalidStatus as refused:
        check("a foreign subprotocol is refused", refused.response.status_code == 400, refused)


def sync_client():
    for place, base, tls in PLACES:
        options = {"cert_reqs": ssl.CERT_NONE, "check_hostname": False} if tls else None
        ask("POST", "/v1/queues/jobs/messages", {"to": place})
        socket = websocket.create_connection(
            f"{base}/v1/queues/jobs/stream?credit=1", timeout=10, sslopt=options, suppress_origin=place == "admin API"
        )
        delivery = json.loads(socket.recv())
        check(f"{place}: delivered", delivery["event"]["data"] == {"to": place}, delivery)
        socket.send(json.dumps({"settle": [{"id": delivery["id"], "how": "accept"}]}))
        check(f"{place}: settled", json.loads(socket.recv())["settled"][0]["ok"] is True)
        socket.close(timeout=3)
        check(f"{place}: closed", not socket.connected)


asyncio.run(async_client())
sync_client()
queue = ask("GET", "/v1/queues/jobs")
check("nothing is left", (queue["ready"], queue["leased"], queue["consumers"]) == (0, 0, 0), queue)
print(f"PASSED {passed}/{count}")
sys.exit(passed != count or count < 30)
