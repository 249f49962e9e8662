// Node's `ws` against ringrelay's echo.
//
//   node echo.mjs URL [CA_FILE]       URL: ws://HOST:PORT or wss://HOST:PORT, without a path
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import WebSocket from 'ws';
import { check, finish } from './tally.mjs';

const [url, caFile] = process.argv.slice(2);
const ca = caFile && readFileSync(caFile);
const MIB = 1 << 20;
const PIPELINED = 2_000;
const CHECK_MS = 60_000;

async function open(query = '', options = {}) {
  const ws = new WebSocket(`${url}/echo${query}`, { ca, handshakeTimeout: CHECK_MS, maxPayload: 64 * MIB, ...options });
  ws.signal = AbortSignal.timeout(CHECK_MS);
  await once(ws, 'open', { signal: ws.signal });
  return ws;
}

async function closed(ws) {
  const [code, reason] = await once(ws, 'close', { signal: ws.signal });
  return [code, reason.toString()];
}

async function message(ws) {
  const [data, isBinary] = await once(ws, 'message', { signal: ws.signal });
  return isBinary ? data : data.toString();
}

async function end(ws) {
  ws.close(1000);
  assert.deepEqual((await closed(ws))[0], 1000);
}

for (const [name, sent] of Object.entries({
  'text': 'Grüße, 你好 🫖', 'empty text': '', 'binary': Buffer.from([...Array(256).keys()]), 'empty binary': Buffer.alloc(0),
  '1 MiB binary': randomBytes(MIB), '1 MiB text': 'ü'.repeat(MIB / 2),
})) {
  await check(`ws: ${name}`, async () => {
    const ws = await open();
    assert.equal(ws.extensions, '', 'compression is declined');
    ws.send(sent);
    assert.deepEqual(await message(ws), sent);
    await end(ws);
  });
}

await check('ws: fragments of a character', async () => {
  const ws = await open();
  const bytes = Buffer.from('één 🫖');
  for (const byte of bytes) ws.send(Buffer.from([byte]), { fin: false, binary: false });
  ws.send('', { fin: true });
  assert.equal(await message(ws), 'één 🫖');
  await end(ws);
});

await check('ws: ping and pong between fragments', async () => {
  const ws = await open();
  ws.send('be', { fin: false });
  ws.ping('still there?');
  ws.pong('unasked');
  assert.equal((await once(ws, 'pong', { signal: ws.signal }))[0].toString(), 'still there?');
  ws.send('hind', { fin: true });
  assert.equal(await message(ws), 'behind');
  await end(ws);
});

await check(`ws: ${PIPELINED} messages in flight come back in order`, async () => {
  const ws = await open();
  const heard = [];
  const all = new Promise(resolve => ws.on('message', data => { if (heard.push(data.toString()) === PIPELINED) resolve(); }));
  const sent = Array.from({ length: PIPELINED }, (_, n) => `${n}:${'x'.repeat(n % 300)}`);
  for (const text of sent) ws.send(text);
  await Promise.race([all, closed(ws).then(end => { throw new Error(`closed early: ${end}`); })]);
  assert.deepEqual(heard, sent);
  await end(ws);
});

await check('ws: close codes come back', async () => {
  for (const code of [1000, 1001, 1008, 1011, 3000, 4999]) {
    const ws = await open();
    ws.close(code, 'bye');
    assert.equal((await closed(ws))[0], code);
  }
});

await check('ws: a Close without a code is answered', async () => {
  const ws = await open();
  ws.close();
  assert.ok([1000, 1005].includes((await closed(ws))[0]));
});

await check('ws: close_after with its code', async () => {
  const ws = await open('?close_after=1&code=3456');
  ws.send('last');
  assert.equal(await message(ws), 'last');
  assert.equal((await closed(ws))[0], 3456);
});

await check('ws: a message above 16 MiB is closed with 1009', async () => {
  const ws = await open();
  ws.on('error', () => {}); // what is still being sent may meet a closed socket
  ws.send(Buffer.alloc(16 * MIB + 1));
  assert.equal((await closed(ws))[0], 1009);
});

await check('ws: a bad option is refused with 400', async () => {
  await assert.rejects(open('?delay_ms=60001'), /400/);
  await assert.rejects(open('?close_after=one'), /400/);
});

finish();
