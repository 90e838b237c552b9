// Deliveries by WebSocket and SSE, by `ws` and `eventsource`.
//
// usage: messages_node.cjs WEB SAFE ADMIN, each HOST:PORT; the last line is `PASSED n/m`.
"use strict";

const { EventSource } = require("eventsource");
const WebSocket = require("ws");
const [web, safe, admin] = process.argv.slice(2);
process.env.NODE_TLS_REJECT_UNAUTHORIZED = "0";
process.removeAllListeners("warning");
let passed = 0;
let count = 0;

function check(what, good, seen = "") {
  count += 1;
  if (good) passed += 1;
  else console.log("FAILED", what, seen);
}

async function ask(method, path, body) {
  const init = { method, headers: { "content-type": "application/json" } };
  if (body !== undefined) init.body = JSON.stringify(body);
  const answer = await fetch(`http://${web}${path}`, init);
  return { status: answer.status, body: await answer.json().catch(() => null) };
}

// A socket whose messages are waited for one by one.
function open(url, protocols) {
  const socket = new WebSocket(url, protocols, { rejectUnauthorized: false, perMessageDeflate: true });
  const texts = [];
  const waiting = [];
  const give = (text) => (waiting.length ? waiting.shift()(text) : texts.push(text));
  socket.on("message", (data) => give(JSON.parse(data)));
  const opened = new Promise((resolve, reject) => {
    socket.on("open", () => resolve());
    socket.on("error", reject);
  });
  const closed = new Promise((resolve) => socket.on("close", (code, reason) => resolve({ code, reason: `${reason}` })));
  const next = () =>
    Promise.race([
      new Promise((resolve) => (texts.length ? resolve(texts.shift()) : waiting.push(resolve))),
      new Promise((_, reject) => setTimeout(reject, 10000, new Error("nothing came")).unref()),
    ]);
  return { socket, opened, closed, next };
}

async function sockets() {
  for (const [place, base] of [["listener", `ws://${web}`], ["TLS", `wss://${safe}`], ["admin API", `ws://${admin}`]]) {
    for (const protocols of [[], ["weft.messages.v1"]]) {
      await ask("POST", "/v1/queues/jobs/messages", { to: place });
      const { socket, opened, closed, next } = open(`${base}/v1/queues/jobs/stream`, protocols);
      await opened;
      check(`${place}: subprotocol`, socket.protocol === (protocols[0] ?? ""), socket.protocol);
      check(`${place}: no extension`, socket.extensions === "", socket.extensions);
      const delivery = await next();
      check(`${place}: delivered`, delivery.event.data.to === place, delivery);
      socket.send(JSON.stringify({ settle: [{ id: delivery.id, how: "accept" }] }));
      check(`${place}: settled`, (await next()).settled[0].ok === true);
      const began = Date.now();
      socket.close(4000, "done");
      const end = await closed;
      check(`${place}: closed`, end.code === 4000 && Date.now() - began < 3000, JSON.stringify(end));
    }
  }
  const { socket, opened, closed } = open(`ws://${web}/v1/queues/jobs/stream`, []);
  await opened;
  socket.send("nonsense");
  const end = await closed;
  check("what is not understood", end.code === 1008, JSON.stringify(end));
}

async function events() {
  const news = (data) => ask("POST", "/v1/topics/news/messages?type=news", data);
  const source = new EventSource(`http://${web}/v1/topics/news/messages`);
  await new Promise((resolve) => source.addEventListener("open", resolve));
  const came = new Promise((resolve) => source.addEventListener("news", resolve));
  await news({ number: 1 });
  const event = await came;
  check("event", JSON.parse(event.data).data.number === 1 && /^\d+$/.test(event.lastEventId), event.data);
  source.close();
  // Who is ahead of the topic, as after a restore, is refused for good: the source gives up.
  const ahead = new EventSource(`http://${web}/v1/topics/news/messages`, {
    fetch: (url, init) => fetch(url, { ...init, headers: { ...init.headers, "last-event-id": "1000000" } }),
  });
  const refused = await new Promise((resolve) => ahead.addEventListener("error", resolve));
  check("ahead of the topic", refused.code === 409 && ahead.readyState === 2, `${refused.code} ${ahead.readyState}`);
}

(async () => {
  await sockets();
  await events();
  const queue = (await ask("GET", "/v1/queues/jobs")).body;
  check("nothing is left", queue.ready === 0 && queue.leased === 0 && queue.consumers === 0, JSON.stringify(queue));
  console.log(`PASSED ${passed}/${count}`);
  process.exit(passed === count && count > 30 ? 0 : 1);
})().catch((error) => {
  console.log(error);
  process.exit(1);
});
