// AMQP 0-9-1 by amqplib for Node: the features of the protocol as that client uses them, many in flight.
//
// usage: AMQP_URL=amqp://guest:guest@127.0.0.1:5672/%2F node amqp_lib.cjs; the last line is `PASSED n/m`.
'use strict'

const amqp = require('amqplib')
const assert = require('node:assert/strict')
const crypto = require('node:crypto')

const URL_OF = process.env.AMQP_URL || 'amqp://guest:guest@127.0.0.1:5672/%2F'
const ONLY = process.env.AMQP_ONLY || ''
const LONGEST = 40_000

const cases = []
const test = (title, run) => cases.push([title, run])
const name = (what = 'q') => `suite.${what}.${crypto.randomUUID().slice(0, 13)}`
const sleep = ms => new Promise(done => setTimeout(done, ms))
const same = (found, expected, what) => assert.deepEqual(found, expected, what)

async function until(what, ask, longest = 10_000) {
  const end = Date.now() + longest
  for (;;) {
    const found = await ask()
    if (found) return found
    if (Date.now() > end) throw new Error(`${what}: not within ${longest} ms`)
    await sleep(20)
  }
}

// What a case opens is closed after it, however it went.
let opened = []
async function connect(options, url = URL_OF) {
  const connection = await amqp.connect(url, options)
  connection.on('error', () => {})
  opened.push(connection)
  return connection
}
async function channel(kind = 'createChannel') {
  const ch = await (await connect())[kind]()
  ch.on('error', () => {})
  return ch
}
async function queue(ch, options = {}) {
  return (await ch.assertQueue(name(), { exclusive: true, durable: false, ...options })).queue
}
async function get(ch, q, options = { noAck: true }) {
  return until(`a message in ${q}`, () => ch.get(q, options), 5000)
}
async function bodies(ch, q, count) {
  const found = []
  for (let n = 0; n < count; n++) found.push((await get(ch, q)).content.toString())
  same(await ch.get(q, { noAck: true }), false, 'one message too many')
  return found
}
async function holds(ch, q, count) {
  await until(`${count} messages`, async () => (await ch.checkQueue(q)).messageCount === count)
}
// The broker closes a channel with this code and this beginning of a text.
async function refused(code, text, act) {
  const ch = await (await connect()).createChannel()
  const closed = new Promise(done => ch.on('error', done))
  const failed = Promise.resolve()
    .then(() => act(ch))
    .then(() => sleep(5000))
    .then(() => new Error(`not refused with ${code}`), () => undefined)
  const error = await Promise.race([closed, failed.then(error => error || closed)])
  same(error.code, code, error.message)
  assert.ok(error.message.includes(`"${text}`), error.message)
}

test('connect, heartbeat, close', async () => {
  const connection = await connect({}, URL_OF + '?heartbeat=1')
  const capabilities = connection.connection.serverProperties.capabilities
  same(capabilities['publisher_confirms'], true)
  await sleep(3500)
  const ch = await connection.createChannel()
  await ch.assertQueue('', { exclusive: true })
  await ch.close()
  await connection.close()
})

test('a wrong password is refused with 403', async () => {
  const wrong = new URL(URL_OF)
  wrong.password = 'wrong'
  await assert.rejects(connect({}, wrong.href), /403.*ACCESS[-_]REFUSED/)
})

test('declare, declare again, and otherwise', async () => {
  const ch = await channel()
  const q = name()
  await ch.assertQueue(q, { durable: true, messageTtl: 5000 })
  await ch.assertQueue(q, { durable: true, messageTtl: 5000 })
  await refused(406, `PRECONDITION_FAILED - inequivalent arg 'durable' for queue '${q}' in vhost '/': received 'false' but current is 'true'`, ch =>
    ch.assertQueue(q, { durable: false, messageTtl: 5000 }))
  await refused(406, `PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue '${q}' in vhost '/': received '6000' but current is '5000'`, ch =>
    ch.assertQueue(q, { durable: true, messageTtl: 6000 }))
  same((await ch.deleteQueue(q)).messageCount, 0)
  await refused(404, `NOT_FOUND - no queue '${q}' in vhost '/'`, ch => ch.checkQueue(q))
  await refused(404, `NOT_FOUND - no exchange 'nope' in vhost '/'`, ch => ch.checkExchange('nope'))
  await refused(404, `NOT_FOUND - no exchange 'nope' in vhost '/'`, ch => ch.publish('nope', '', Buffer.from('x')))
  await refused(406, 'PRECONDITION_FAILED - unknown delivery tag 7', ch => ch.ack({ fields: { deliveryTag: 7 } }))
  await refused(403, `ACCESS_REFUSED - queue name 'amq.x' contains reserved prefix 'amq.*'`, ch => ch.assertQueue('amq.x'))
})

test('direct, fanout, topic, headers', async () => {
  const ch = await channel()
  const plans = [
    ['direct', ['a', {}], [['a', {}, true], ['b', {}, false]]],
    ['fanout', ['', {}], [['a', {}, true], ['', {}, true]]],
    ['topic', ['a.*.#', {}], [['a.b', {}, true], ['a.b.c.d', {}, true], ['a', {}, false]]],
    ['headers', ['', { 'x-match': 'any', n: 1.5, s: 'x' }], [['', { n: 1.5 }, true], ['', { s: 'x' }, true], ['', { s: 'y' }, false]]],
  ]
  for (const [kind, [pattern, args], trials] of plans) {
    const x = name('x')
    await ch.assertExchange(x, kind, { durable: false })
    for (const [key, headers, expected] of trials) {
      const q = await queue(ch)
      await ch.bindQueue(q, x, pattern, args)
      ch.publish(x, key, Buffer.from('m'), { headers })
      await ch.checkQueue(q)
      same(Boolean(await ch.get(q, { noAck: true })), expected, `${kind} ${key} ${JSON.stringify(headers)}`)
      await ch.unbindQueue(q, x, pattern, args)
    }
    await ch.deleteExchange(x)
  }
})

test('exchange to exchange, alternate exchange, unbind', async () => {
  const ch = await channel()
  const [top, low, rest] = [name('x'), name('x'), name('x')]
  await ch.assertExchange(rest, 'fanout', { durable: false })
  await ch.assertExchange(top, 'topic', { durable: false, alternateExchange: rest })
  await ch.assertExchange(low, 'fanout', { durable: false })
  const [q, lost] = [await queue(ch), await queue(ch)]
  await ch.bindExchange(low, top, 'eu.#')
  await ch.bindQueue(q, low, '')
  await ch.bindQueue(lost, rest, '')
  ch.publish(top, 'eu.de', Buffer.from('1'))
  ch.publish(top, 'us', Buffer.from('2'))
  same([await bodies(ch, q, 1), await bodies(ch, lost, 1)], [['1'], ['2']])
  await ch.unbindExchange(low, top, 'eu.#')
  ch.publish(top, 'eu.de', Buffer.from('3'))
  same([await bodies(ch, q, 0), await bodies(ch, lost, 1)], [[], ['3']])
  for (const x of [top, low, rest]) await ch.deleteExchange(x)
})

test('5,000 publishes in flight are all confirmed, and all there in order', async () => {
  const ch = await channel('createConfirmChannel')
  const q = await queue(ch, { exclusive: false, durable: true })
  let confirmed = 0
  for (let n = 0; n < 5000; n++) {
    ch.sendToQueue(q, Buffer.from(String(n)), { persistent: true }, error => { if (!error) confirmed++ })
  }
  await ch.waitForConfirms()
  same(confirmed, 5000)
  const got = []
  await ch.prefetch(500)
  await ch.consume(q, message => { got.push(Number(message.content)); ch.ack(message) })
  await until('all', () => got.length === 5000)
  same(got, Array.from({ length: 5000 }, (_, n) => n))
  await ch.deleteQueue(q)
})

test('mandatory comes back, and is confirmed all the same', async () => {
  const ch = await channel('createConfirmChannel')
  const back = []
  ch.on('return', message => back.push([message.fields.replyCode, message.fields.replyText, message.content.toString()]))
  await new Promise((done, fail) => ch.publish('amq.direct', name('key'), Buffer.from('lost'), { mandatory: true }, error => error ? fail(error) : done()))
  same(back, [[312, 'NO_ROUTE', 'lost']])
})

test('properties and headers of every type', async () => {
  const ch = await channel()
  const q = await queue(ch)
  const headers = {
    string: 'grüße', byte: 100, short: 1000, int: 100_000, long: 2 ** 40, negative: -5, double: 2.5, yes: true, no: false,
    nothing: null, list: [1, 'a', [true, null]], table: { deep: { er: 1 } }, bytes: Buffer.from([0, 255]),
    moment: { '!': 'timestamp', value: 1_700_000_000 }, float: { '!': 'float', value: 0.5 },
    decimal: { '!': 'decimal', value: { digits: 12345, places: 2 } },
  }
  const options = {
    contentType: 'a/b', contentEncoding: 'c', priority: 3, correlationId: 'd', replyTo: 'e', expiration: '60000',
    messageId: 'f', timestamp: 1_700_000_001, type: 'g', appId: 'h', deliveryMode: 2, headers,
  }
  ch.sendToQueue(q, Buffer.from('x'), options)
  const { properties } = await get(ch, q)
  for (const [key, value] of Object.entries(options)) {
    if (key !== 'headers') same(properties[key], value, key)
  }
  const expected = { ...headers, float: 0.5 }
  for (const [key, value] of Object.entries(expected)) same(properties.headers[key], value, key)
})

test('a body of 8 MiB', async () => {
  const ch = await channel('createConfirmChannel')
  const q = await queue(ch)
  const body = crypto.randomBytes(8 << 20)
  ch.sendToQueue(q, body)
  await ch.waitForConfirms()
  assert.ok((await get(ch, q)).content.equals(body))
})

test('ack of several, nack of all, reject, redelivered', async () => {
  const ch = await channel()
  const q = await queue(ch)
  for (let n = 0; n < 6; n++) ch.sendToQueue(q, Buffer.from(String(n)))
  await holds(ch, q, 6)
  const held = []
  for (let n = 0; n < 6; n++) held.push(await ch.get(q))
  ch.ack(held[2], true)
  ch.reject(held[3], false)
  ch.nackAll(true)
  const again = [await get(ch, q), await get(ch, q)]
  same(again.map(m => [m.content.toString(), m.fields.redelivered]), [['4', true], ['5', true]])
  same(await ch.get(q), false)
})

test('recover gives back what is out', async () => {
  const ch = await channel()
  const q = await queue(ch)
  ch.sendToQueue(q, Buffer.from('m'))
  await get(ch, q, {})
  await ch.recover()
  same((await get(ch, q)).fields.redelivered, true)
})

test('prefetch per consumer, and of the channel', async () => {
  for (const [whole, expected] of [[false, 6], [true, 3]]) {
    const ch = await channel()
    const q = await queue(ch)
    for (let n = 0; n < 20; n++) ch.sendToQueue(q, Buffer.from('m'))
    await holds(ch, q, 20)
    await ch.prefetch(3, whole)
    let got = 0
    for (let n = 0; n < 2; n++) await ch.consume(q, () => got++)
    await until('as many as allowed', () => got === expected)
    await sleep(400)
    same(got, expected)
  }
})

test('dead letters: rejected, expired, over the limit', async () => {
  const ch = await channel()
  const x = name('x')
  await ch.assertExchange(x, 'fanout', { durable: false })
  const dead = await queue(ch)
  await ch.bindQueue(dead, x, '')
  const options = { deadLetterExchange: x, deadLetterRoutingKey: 'k', maxLength: 1 }
  const q = await queue(ch, options)
  const reasons = []
  const next = async () => {
    const { properties: { headers }, fields } = await get(ch, dead)
    const [entry] = headers['x-death']
    reasons.push([entry.reason, entry.queue, entry.count, entry.exchange, entry['routing-keys'], fields.routingKey])
    same(headers['x-first-death-reason'], entry.reason)
  }
  ch.sendToQueue(q, Buffer.from('1'))
  ch.nack(await get(ch, q, {}), false, false)
  await next()
  ch.sendToQueue(q, Buffer.from('2'), { expiration: 100 })
  await next()
  ch.sendToQueue(q, Buffer.from('3'))
  ch.sendToQueue(q, Buffer.from('4'))
  await next()
  same(reasons, ['rejected', 'expired', 'maxlen'].map(reason => [reason, q, 1, '', [q], 'k']))
  same(await bodies(ch, q, 1), ['4'])
  await ch.deleteExchange(x)
})

test('a full queue that refuses nacks its publisher', async () => {
  const ch = await channel('createConfirmChannel')
  const q = await queue(ch, { maxLength: 1, arguments: { 'x-overflow': 'reject-publish' } })
  const send = () => new Promise(done => ch.sendToQueue(q, Buffer.from('m'), {}, error => done(!error)))
  same([await send(), await send(), await send()], [true, false, false])
  await bodies(ch, q, 1)
  same(await send(), true)
})

test('priorities of messages', async () => {
  const ch = await channel()
  const q = await queue(ch, { maxPriority: 10 })
  for (const [body, priority] of [['low', 1], ['high', 9], ['none', undefined], ['mid', 5]]) ch.sendToQueue(q, Buffer.from(body), { priority })
  await holds(ch, q, 4)
  same(await bodies(ch, q, 4), ['high', 'mid', 'low', 'none'])
})

test('exclusive queue, exclusive consumer, single active consumer', async () => {
  const ch = await channel()
  const mine = await queue(ch)
  await refused(405, `RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '${mine}' in vhost '/'`, ch => ch.checkQueue(mine))
  const q = await queue(ch, { exclusive: false, autoDelete: true })
  await ch.consume(q, () => {}, { exclusive: true })
  await refused(403, `ACCESS_REFUSED - queue '${q}' in vhost '/' in exclusive use`, ch => ch.consume(q, () => {}))
  const single = await queue(ch, { arguments: { 'x-single-active-consumer': true } })
  const got = []
  const { consumerTag } = await ch.consume(single, () => got.push(1), { noAck: true })
  await ch.consume(single, () => got.push(2), { noAck: true })
  for (let n = 0; n < 4; n++) ch.sendToQueue(single, Buffer.from('m'))
  await until('four', () => got.length === 4)
  await ch.cancel(consumerTag)
  ch.sendToQueue(single, Buffer.from('m'))
  await until('five', () => got.length === 5)
  same(got, [1, 1, 1, 1, 2])
})

test('a consumer learns that its queue is gone', async () => {
  const ch = await channel()
  const q = await queue(ch, { exclusive: false })
  const got = []
  await ch.consume(q, message => got.push(message))
  await (await channel()).deleteQueue(q)
  await until('the notice', () => got.length === 1)
  same(got, [null])
})

test('auto-delete and expiry of queues', async () => {
  const ch = await channel()
  const q = await queue(ch, { exclusive: false, autoDelete: true })
  const { consumerTag } = await ch.consume(q, () => {})
  await ch.cancel(consumerTag)
  await refused(404, 'NOT_FOUND', ch => ch.checkQueue(q))
  const brief = await queue(ch, { exclusive: false, expires: 300 })
  await sleep(1500)
  await refused(404, 'NOT_FOUND', ch => ch.checkQueue(brief))
})

test('time to live of a queue, the default exchange, a queue that the server names', async () => {
  const ch = await channel()
  const dead = (await ch.assertQueue('', { exclusive: true })).queue
  assert.match(dead, /^amq\.gen-/)
  const q = await queue(ch, { messageTtl: 200, deadLetterExchange: '', deadLetterRoutingKey: dead })
  for (const body of ['1', '2', '3']) ch.publish('', q, Buffer.from(body))
  same(await bodies(ch, dead, 3), ['1', '2', '3'])
  await refused(403, 'ACCESS_REFUSED - operation not permitted on the default exchange', ch => ch.bindQueue(dead, '', 'x'))
})

test('direct reply-to, a hundred calls at once', async () => {
  const server = await channel()
  const q = await queue(server, { exclusive: false, autoDelete: true })
  await server.consume(q, message => server.sendToQueue(message.properties.replyTo, Buffer.from(message.content.toString() + '!'), { correlationId: message.properties.correlationId }), { noAck: true })
  const client = await channel()
  const answers = new Map()
  await client.consume('amq.rabbitmq.reply-to', message => answers.set(message.properties.correlationId, message.content.toString()), { noAck: true })
  for (let n = 0; n < 100; n++) client.sendToQueue(q, Buffer.from(`call ${n}`), { replyTo: 'amq.rabbitmq.reply-to', correlationId: String(n) })
  await until('the answers', () => answers.size === 100)
  for (let n = 0; n < 100; n++) same(answers.get(String(n)), `call ${n}!`)
})

test('order survives many publishers: each of its own', async () => {
  const taker = await channel()
  const q = await queue(taker, { exclusive: false, durable: true })
  await Promise.all(Array.from({ length: 8 }, async (_, who) => {
    const ch = await channel('createConfirmChannel')
    for (let n = 0; n < 500; n++) ch.sendToQueue(q, Buffer.from(`${who} ${n}`), { persistent: true })
    await ch.waitForConfirms()
  }))
  const last = new Map()
  let got = 0
  await taker.consume(q, message => {
    const [who, n] = message.content.toString().split(' ').map(Number)
    same(n, (last.get(who) ?? -1) + 1, `publisher ${who}`)
    last.set(who, n)
    got++
  }, { noAck: true })
  await until('all', () => got === 4000)
  await taker.deleteQueue(q)
})

test('what a connection held returns when it is cut', async () => {
  const ch = await channel()
  const q = await queue(ch, { exclusive: false })
  for (let n = 0; n < 3; n++) ch.sendToQueue(q, Buffer.from(String(n)))
  await holds(ch, q, 3)
  const cut = await connect()
  const far = await cut.createChannel()
  far.on('error', () => {})
  for (let n = 0; n < 3; n++) await get(far, q, {})
  cut.connection.stream.destroy()
  await holds(ch, q, 3)
  same(await bodies(ch, q, 3), ['0', '1', '2'])
  await ch.deleteQueue(q)
})

async function main() {
  let passed = 0
  const chosen = cases.filter(([title]) => title.includes(ONLY))
  for (const [title, run] of chosen) {
    let timer
    const late = new Promise((_, fail) => { timer = setTimeout(() => fail(new Error('took too long')), LONGEST) })
    try {
      await Promise.race([run(), late])
      passed++
      console.log(`ok ${title}`)
    } catch (error) {
      console.log(`FAIL ${title} ${String(error && error.message || error).replace(/\s+/g, ' ').slice(0, 400)}`)
    }
    clearTimeout(timer)
    await Promise.allSettled(opened.map(connection => Promise.race([connection.close(), sleep(2000)])))
    opened = []
  }
  console.log(`PASSED ${passed}/${chosen.length}`)
  process.exit(chosen.length && passed === chosen.length ? 0 : 1)
}

// A rejection that nobody waits for is a case's own affair: its assertion tells.
process.on('unhandledRejection', () => {})
main()
