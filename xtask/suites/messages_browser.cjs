// Deliveries by WebSocket and SSE as pages of a browser take them.
//
// usage: messages_browser.cjs WEB SAFE ADMIN, each HOST:PORT; the last line is `PASSED n/m`.
"use strict";

const { chromium } = require("playwright-core");
const [web, safe, admin] = process.argv.slice(2);
let passed = 0;
let count = 0;

function check(what, good, seen = "") {
  count += 1;
  if (good) passed += 1;
  else console.log("FAILED", what, seen);
}

function publish(path, data) {
  const init = { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(data) };
  return fetch(`http://${web}${path}`, init);
}

// In the page: opens a socket, settles one delivery, closes, and tells all that it saw.
async function converse({ url, protocols }) {
  const seen = { texts: [] };
  const socket = protocols ? new WebSocket(url, protocols) : new WebSocket(url);
  const ended = new Promise((resolve) => {
    socket.onclose = (event) => resolve({ code: event.code, clean: event.wasClean });
    setTimeout(resolve, 15000, "never");
  });
  socket.onopen = () => {
    seen.protocol = socket.protocol;
    seen.extensions = socket.extensions;
  };
  socket.onmessage = (event) => {
    const text = JSON.parse(event.data);
    seen.texts.push(text);
    if (text.settled) socket.close(4000, "done");
    else socket.send(JSON.stringify({ settle: [{ id: text.id, how: "accept" }] }));
  };
  seen.end = await ended;
  return seen;
}

async function sockets(page, place, base) {
  for (const protocols of [null, ["weft.messages.v1"]]) {
    await publish("/v1/queues/jobs/messages", { to: place });
    const seen = await page.evaluate(converse, { url: `${base}/v1/queues/jobs/stream`, protocols });
    const told = JSON.stringify(seen);
    check(`${place}: subprotocol`, seen.protocol === (protocols ? protocols[0] : ""), told);
    check(`${place}: no extension`, seen.extensions === "", told);
    check(`${place}: delivered`, seen.texts[0]?.event.data.to === place, told);
    check(`${place}: settled`, seen.texts[1]?.settled[0].ok === true, told);
    check(`${place}: closed`, seen.end.code === 4000 && seen.end.clean, told);
  }
}

async function main() {
  const browser = await chromium.launch({
    executablePath: "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
      "--disable-component-update", "--disable-sync"],
  });
  const context = await browser.newContext({ ignoreHTTPSErrors: true });
  const page = await context.newPage();

  await page.goto(`http://${web}/page`);
  await sockets(page, "listener", `ws://${web}`);
  // By TLS the page comes by HTTP/2, and its sockets with it (RFC 8441).
  await page.goto(`https://${safe}/page`);
  const version = await page.evaluate(() => performance.getEntriesByType("navigation")[0].nextHopProtocol);
  check("the page came by HTTP/2", version === "h2", version);
  await sockets(page, "TLS", `wss://${safe}`);

  await page.goto(`http://${web}/page`);
  const refused = await page.evaluate(converse, { url: `ws://${admin}/v1/queues/jobs/stream`, protocols: null });
  check("a page is kept out of the admin API", refused.end.code === 1006 && !refused.texts.length, JSON.stringify(refused));

  // A source of events, from another page's point of view: it begins, and a message comes.
  const events = page.evaluate(
    () =>
      new Promise((resolve) => {
        const source = new EventSource("/v1/topics/news/messages");
        source.onopen = () => (document.title = "open");
        source.addEventListener("browser", (event) => {
          source.close();
          resolve({ id: event.lastEventId, data: JSON.parse(event.data).data });
        });
        setTimeout(resolve, 15000, null);
      }),
  );
  await page.waitForFunction(() => document.title === "open");
  await publish("/v1/topics/news/messages?type=browser", { number: 7 });
  const event = await events;
  check("an event came", event?.data.number === 7, JSON.stringify(event));
  await browser.close();
}

main()
  .then(() => {
    console.log(`PASSED ${passed}/${count}`);
    process.exit(passed === count && count > 20 ? 0 : 1);
  })
  .catch((error) => {
    console.log(error);
    process.exit(1);
  });
