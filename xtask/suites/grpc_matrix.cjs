// grpc-js as a client, through Weft before `grpc_echo.py`.
//
// usage: grpc_matrix.cjs HOST:PORT; the last line is `PASSED n/m`. Messages are written as bytes, so that
// nothing need be generated: field 1 is a text, field 2 a number, field 3 bytes.
'use strict'
const assert = require('node:assert')
const { once } = require('node:events')
const grpc = require('@grpc/grpc-js')

const client = new grpc.Client(process.argv[2], grpc.credentials.createInsecure(), {
  'grpc.max_receive_message_length': 64 << 20,
})
const same = (bytes) => bytes
const path = (method) => `/weft.suite.Echo/${method}`
const soon = (ms = 10_000) => ({ deadline: Date.now() + ms })

function varint(n) {
  const out = []
  for (; n > 127; n = Math.floor(n / 128)) out.push((n % 128) | 128)
  return Buffer.from([...out, n])
}
const sized = (field, bytes) => Buffer.concat([Buffer.from([field * 8 + 2]), varint(bytes.length), bytes])
const text = (words) => sized(1, Buffer.from(words))
const number = (n) => Buffer.concat([Buffer.from([16]), varint(n)])
function readNumber(bytes) {
  let n = 0
  for (let at = 1, by = 1; at < bytes.length; at += 1, by *= 128) {
    n += (bytes[at] & 127) * by
    if (bytes[at] < 128) break
  }
  return bytes.length && bytes[0] === 16 ? n : 0
}

function unary(method, note, options = soon(), metadata = new grpc.Metadata()) {
  return new Promise((resolve) => {
    const seen = {}
    const call = client.makeUnaryRequest(path(method), same, same, note, metadata, options, (error, answer) =>
      resolve({ ...seen, error, answer, call }))
    call.on('metadata', (metadata) => { seen.begin = metadata })
    call.on('status', (status) => { seen.status = status })
    seen.call = call
  })
}
async function all(stream) {
  const notes = []
  for await (const note of stream) notes.push(note)
  return notes
}

const cases = {
  async two_hundred_calls_at_once() {
    const calls = await Promise.all(Array.from({ length: 200 }, (_, n) => unary('Unary', number(n), soon(15_000))))
    calls.forEach(({ error, answer }, n) => {
      assert.ifError(error)
      assert.strictEqual(readNumber(answer), n)
    })
  },
  async metadata_passes_both_ways() {
    const metadata = new grpc.Metadata()
    metadata.set('x-begin', 'one')
    metadata.set('x-end', 'two')
    const { error, answer, begin, status } = await unary('Unary', text('déjà ☃'), soon(), metadata)
    assert.ifError(error)
    assert.deepStrictEqual(answer, text('déjà ☃'))
    assert.deepStrictEqual(begin.get('x-begin'), ['one'])
    // Trailing metadata comes with the status, which may be told after the answer.
    if (status) assert.deepStrictEqual(status.metadata.get('x-raw-bin'), [Buffer.from([0, 255, 128])])
  },
  async a_large_message() {
    const note = sized(3, Buffer.alloc(4 << 20, 'x'))
    const { error, answer } = await unary('Unary', note, soon(30_000))
    assert.ifError(error)
    assert.ok(answer.equals(note))
  },
  async five_hundred_messages_down() {
    const notes = await all(client.makeServerStreamRequest(path('Down'), same, same, number(500), new grpc.Metadata(), soon()))
    assert.deepStrictEqual(notes.map(readNumber), Array.from({ length: 500 }, (_, n) => n))
  },
  async five_hundred_messages_up() {
    const sum = await new Promise((resolve, reject) => {
      const call = client.makeClientStreamRequest(path('Up'), same, same, new grpc.Metadata(), soon(), (error, answer) =>
        (error ? reject(error) : resolve(readNumber(answer))))
      for (let n = 0; n < 500; n += 1) call.write(number(n))
      call.end()
    })
    assert.strictEqual(sum, 124_750)
  },
  async fifty_turns_of_a_conversation() {
    const call = client.makeBidiStreamRequest(path('Both'), same, same, new grpc.Metadata(), soon())
    for (let n = 1; n <= 50; n += 1) {
      call.write(number(n))
      const [note] = await once(call, 'data')
      assert.strictEqual(readNumber(note), n)
    }
    call.end()
    const [status] = await once(call, 'status')
    assert.strictEqual(status.code, 0)
  },
  async a_status_with_its_message_and_trailers() {
    const { error } = await unary('Fail', Buffer.concat([text('détail "x"'), number(5)]))
    assert.strictEqual(error.code, grpc.status.NOT_FOUND)
    assert.strictEqual(error.details, 'détail "x"')
    assert.deepStrictEqual(error.metadata.get('x-why'), ['because'])
  },
  async a_deadline_is_kept_and_told_to_the_service() {
    const { error } = await unary('Wait', number(8), soon(400))
    assert.strictEqual(error.code, grpc.status.DEADLINE_EXCEEDED)
    const { answer } = await unary('Left', Buffer.alloc(0))
    assert.strictEqual(readNumber(answer), 1)
  },
  async a_stream_that_is_given_up_leaves_the_channel_usable() {
    const call = client.makeServerStreamRequest(path('Down'), same, same, number(1_000_000), new grpc.Metadata(), soon())
    await once(call, 'data')
    call.on('error', () => {})
    call.cancel()
    assert.ifError((await unary('Unary', number(1))).error)
  },
}

async function main() {
  let passed = 0
  for (const [name, run] of Object.entries(cases)) {
    try {
      await run()
      passed += 1
      console.log('ok    ', name)
    } catch (error) { // every failure is shown, none ends the others
      console.log('FAILED', name, error.message)
    }
  }
  const count = Object.keys(cases).length
  console.log(`PASSED ${passed}/${count}`)
  process.exit(passed === count ? 0 : 1)
}
main()
