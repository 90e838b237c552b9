// KurrentDB's client for Node.js on Weft's event streams; it reads by a client of its own that is written in Rust.
//
// usage: kurrent_node.cjs WEB, HOST:PORT of KurrentDB's protocol; the last line is `PASSED n/m`.
const { randomUUID } = require("crypto");
const db = require("@kurrent/kurrentdb-client");

const [web] = process.argv.slice(2);
let passed = 0;
let count = 0;

function check(what, good, seen) {
  count += 1;
  passed += good ? 1 : 0;
  if (!good) console.log("FAILED", what, seen);
}

async function fails(what, kind, work) {
  try {
    const seen = await work();
    check(what, false, seen);
  } catch (error) {
    check(what, error.type === kind || error instanceof kind, error);
    return error;
  }
}

async function all(events) {
  const found = [];
  for await (const resolved of events) found.push(resolved.event);
  return found;
}

function taken(subscription, wanted) {
  return new Promise((resolve, reject) => {
    const found = [];
    const timer = setTimeout(() => reject(new Error(`only ${found.length} came`)), 15000);
    const over = () => {
      clearTimeout(timer);
      resolve(found);
    };
    subscription.on("error", reject);
    subscription.on("data", (resolved) => {
      found.push(resolved.event);
      if (found.length === wanted) over();
    });
  });
}

const placed = (n) => db.jsonEvent({ id: randomUUID(), type: "node.placed", data: { n }, metadata: { by: "node" } });

/** Calls something with each event of a persistent subscription, until so many have come. */
function worked(subscription, wanted, work) {
  return new Promise((resolve, reject) => {
    const found = [];
    const timer = setTimeout(() => reject(new Error(`only ${found.length} came`)), 15000);
    subscription.on("error", reject);
    subscription.on("data", async (resolved) => {
      found.push(resolved);
      await work(resolved, found.length);
      if (found.length === wanted) {
        clearTimeout(timer);
        resolve(found);
      }
    });
  });
}

async function persistent(client) {
  const settings = db.persistentSubscriptionToStreamSettingsFromDefaults({ startFrom: db.START, maxRetryCount: 1, resolveLinkTos: true });
  await client.appendToStream("nodejob-1", [0, 1, 2].map(placed));
  await client.createPersistentSubscriptionToStream("$ce-nodejob", "node", settings);
  await fails("created twice", db.PersistentSubscriptionExistsError, () =>
    client.createPersistentSubscriptionToStream("$ce-nodejob", "node", settings));
  await fails("nobody's", db.PersistentSubscriptionDoesNotExistError, () =>
    client.deletePersistentSubscriptionToStream("$ce-nodejob", "nobody"));
  const subscription = client.subscribeToPersistentSubscriptionToStream("$ce-nodejob", "node", { bufferSize: 5 });
  const found = await worked(subscription, 4, async (resolved, number) => {
    if (number === 1) await subscription.nack("retry", "once more", resolved);
    else await subscription.ack(resolved);
  });
  const numbers = found.map((one) => one.event.data.n);
  check("one came twice", numbers.sort().join() === "0,0,1,2", numbers);
  check("by links", found.every((one) => one.link.streamId === "$ce-nodejob"), found[0]);
  const retried = found.filter((one) => one.retryCount === 1).map((one) => one.event.data.n);
  check("and was counted", retried.join() === "0", retried);
  let info;
  for (let tries = 0; tries < 100; tries += 1) {
    info = await client.getPersistentSubscriptionToStreamInfo("$ce-nodejob", "node");
    if (info.stats.outstandingMessagesCount === 0) break;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  check("all are done", info.stats.outstandingMessagesCount === 0 && info.settings.maxRetryCount === 1, info);
  const updated = db.persistentSubscriptionToStreamSettingsFromDefaults({ startFrom: db.START, maxRetryCount: 7 });
  const dropped = new Promise((resolve) => subscription.on("error", resolve));
  await client.updatePersistentSubscriptionToStream("$ce-nodejob", "node", updated);
  check("dropped", (await dropped).type === db.ErrorType.PERSISTENT_SUBSCRIPTION_DROPPED);
  const ofAll = db.persistentSubscriptionToAllSettingsFromDefaults({ startFrom: db.END });
  await client.createPersistentSubscriptionToAll("node", ofAll, { filter: db.eventTypeFilter({ prefixes: ["node."] }) });
  const all = client.subscribeToPersistentSubscriptionToAll("node");
  const came = worked(all, 1, (resolved) => all.ack(resolved));
  await client.appendToStream("nodejob-2", placed(5));
  check("of all", (await came)[0].event.data.n === 5);
  await all.unsubscribe();
  const listed = (await client.listAllPersistentSubscriptions()).filter((one) => one.groupName === "node");
  check("listed", listed.map((one) => one.eventSource).join() === "$all,$ce-nodejob", listed);
  await client.replayParkedMessagesToStream("$ce-nodejob", "node");
  await client.restartPersistentSubscriptionSubsystem();
  await client.deletePersistentSubscriptionToAll("node");
  await client.deletePersistentSubscriptionToStream("$ce-nodejob", "node");
}

async function main() {
  const client = db.KurrentDBClient.connectionString(`kurrentdb://${web}?tls=false`);
  const events = [0, 1, 2].map(placed);
  const said = await client.appendToStream("node-1", events, { streamState: db.NO_STREAM });
  check("appended", said.success && said.nextExpectedRevision === 2n, said);
  const again = await client.appendToStream("node-1", events, { streamState: db.NO_STREAM });
  check("known again", again.position.commit === said.position.commit, again);
  const read = await all(client.readStream("node-1", { direction: db.FORWARDS, fromRevision: db.START }));
  check("read", read.map((e) => e.id).join() === events.map((e) => e.id).join(), read);
  check("as it was", read[1].data.n === 1 && read[1].metadata.by === "node" && read[1].isJson, read[1]);
  const bytes = db.binaryEvent({ type: "node.bytes", data: Buffer.from([0, 255]) });
  await client.appendToStream("node-1", bytes, { streamState: 2n });
  const [last] = await all(client.readStream("node-1", { direction: db.BACKWARDS, fromRevision: db.END, maxCount: 1 }));
  check("bytes", !last.isJson && Buffer.compare(Buffer.from(last.data), Buffer.from([0, 255])) === 0, last);
  const wrong = await fails("too late", db.WrongExpectedVersionError, () =>
    client.appendToStream("node-1", placed(9), { streamState: 1n }));
  check("what it is", wrong && wrong.actualState === 3n, wrong);
  // One by one on one call, many at once.
  const many = await Promise.all(
    Array.from({ length: 200 }, (_, n) => client.appendToStream(`node-many-${n % 20}`, placed(n))));
  check("many at once", many.every((one) => one.success), many.length);
  const counted = await all(client.readStream("node-many-7"));
  check("in their order", counted.map((e) => e.data.n).join() === Array.from({ length: 10 }, (_, n) => n * 20 + 7).join(),
    counted.map((e) => e.data.n));
  await fails("no such stream", db.StreamNotFoundError, () => all(client.readStream("node-nobody")));
  const filter = db.streamNameFilter({ prefixes: ["node-many-"] });
  const subscription = client.subscribeToAll({ fromPosition: db.START, filter });
  check("filtered", (await taken(subscription, 200)).length === 200);
  await subscription.unsubscribe();
  const following = client.subscribeToStream("node-1", { fromRevision: 2n });
  const came = taken(following, 2);
  await client.appendToStream("node-1", placed(4), { streamState: 3n });
  check("followed", (await came).map((e) => Number(e.revision)).join() === "3,4");
  await following.unsubscribe();
  const backwards = [];
  for await (const { event } of client.readAll({ direction: db.BACKWARDS, fromPosition: db.END, maxCount: 3 }))
    backwards.push(event.type);
  check("all backwards", backwards.length === 3 && backwards[0] === "node.placed", backwards);
  await client.setStreamMetadata("node-1", { maxCount: 2 });
  const metadata = await client.getStreamMetadata("node-1");
  check("metadata", metadata.metadata.maxCount === 2, metadata);
  check("the last two", (await all(client.readStream("node-1"))).length === 2);
  await fails("deleted too late", db.WrongExpectedVersionError, () =>
    client.deleteStream("node-1", { expectedRevision: 1n }));
  await client.deleteStream("node-1", { expectedRevision: 4n });
  await fails("deleted", db.StreamNotFoundError, () => all(client.readStream("node-1")));
  await client.tombstoneStream("node-1");
  await fails("ended", db.StreamDeletedError, () => all(client.readStream("node-1")));
  await fails("ended for good", db.StreamDeletedError, () => client.appendToStream("node-1", placed(1)));
  if (client.multiStreamAppend) {
    const record = () => db.jsonEvent({ id: randomUUID(), type: "moved", data: {}, metadata: { by: "node" } });
    const done = await client.multiStreamAppend([
      { streamName: "node-a", expectedState: db.NO_STREAM, events: [record()] },
      { streamName: "node-b", expectedState: db.ANY, events: [record(), record()] },
    ]);
    const revisions = new Map(done.responses.map((one) => [one.streamName, Number(one.revision)]));
    check("several streams", revisions.get("node-a") === 0 && revisions.get("node-b") === 1, done);
    await fails("several, too late", db.WrongExpectedVersionError, () => client.multiStreamAppend([
      { streamName: "node-b", expectedState: db.ANY, events: [record()] },
      { streamName: "node-a", expectedState: db.NO_STREAM, events: [record()] },
    ]));
  }
  await persistent(client);
  await client.dispose();
}

main()
  .catch((error) => check("to the end", false, error))
  .finally(() => {
    console.log(`PASSED ${passed}/${count}`);
    process.exit(passed === count && count > 20 ? 0 : 1);
  });
