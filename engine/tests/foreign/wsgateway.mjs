// A wsgateway application against ringrelay, on the configuration file that wsgateway ships (but for the ports): events
// are read from Redis by a consumer group, answers go out by HTTP, as wsgateway's Node demo does both.
//
//   node wsgateway.mjs BIN DRIVER       needs redis-server
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parse, stringify } from 'node:querystring';
import { createInterface } from 'node:readline';
import Redis from 'ioredis';
import WebSocket from 'ws';
import { check, finish } from './tally.mjs';

const [bin, driver] = process.argv.slice(2);
const CLIENTS = 200;
const MESSAGES = 20;
const PATIENCE_MS = 60_000;
const patience = () => AbortSignal.timeout(PATIENCE_MS);

const configuration = redisPort => `listen_addr: 127.0.0.1:0
internal_endpoint_access_whitelist:
  - 127.0.0.1/8
  - 192.168.0.0/16
  - 10.0.0.0/8
  - 172.16.0.0/12
  - ::1/128
  - fc00::/7
connection_redis_sync:
  # Connection state and tags updated here to the hash key connection:<id>
  addr: redis://localhost:${redisPort}/0?client_name=wsgateway
stream_redis:
  # open/close/message events streamed here
  addr: redis://localhost:${redisPort}/0?client_name=wsgatewaystream&pool_size=1000
  stream_name: connectionevents
max_message_size_kb: 1024
endpoints:
  - path: /connect
    set_tags:
      foo: bar
      other: tag
    stream_include_tags:
      - foo
      - group
    max_message_size_kb: 1024
    json_extract_vars:
      # Parse the websocket message as JSON and extract these paths as variables.
      command: "command"
      other: "data.actionRef"

  - path: /connect/v2
    set_tags:
      version: 2
    stream_include_tags:
      - version
      - group
prometheus:
  enabled: true
`;

async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

const work = mkdtempSync(join(tmpdir(), 'wsgateway-'));
const children = [];
process.on('exit', () => {
  for (const child of children) child.kill('SIGKILL');
  rmSync(work, { recursive: true, force: true });
});

function start(command, args, env = {}) {
  const child = spawn(command, args, { cwd: work, stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...env } });
  children.push(child);
  return child;
}

/** The first line of a child's output that the pattern matches. */
async function line(stream, pattern) {
  for await (const text of createInterface({ input: stream })) {
    const found = pattern.exec(text);
    if (found) {
      stream.resume();
      return found;
    }
  }
  throw new Error(`ended without ${pattern}`);
}

const redisPort = await freePort();
const redisServer = start('redis-server', ['--port', redisPort, '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no']);
await line(redisServer.stdout, /Ready to accept connections/);
writeFileSync(join(work, 'config.yml'), configuration(redisPort));
const gateway = start(bin, ['--config', 'config.yml', '--driver', driver, '--metrics-port', '0', '--shards', '2']);
const [, port] = await line(gateway.stderr, /Listening on .*:(\d+)/);
const http = `http://127.0.0.1:${port}`;

/** What wsgateway's demo does: reads events, knows connections by id, answers by HTTP. */
class Application {
  #redis = new Redis(redisPort, '127.0.0.1');
  events = [];

  async listen(onMessage) {
    await this.#redis.xgroup('CREATE', 'connectionevents', 'ws_consumers', '0', 'MKSTREAM');
    for (;;) {
      const read = await this.#redis.xreadgroup(
        'GROUP', 'ws_consumers', 'main_consumer', 'COUNT', 100, 'BLOCK', 0, 'STREAMS', 'connectionevents', '>');
      for (const [id, fields] of read[0][1]) {
        const event = {};
        for (let i = 0; i < fields.length; i += 2) event[fields[i]] = fields[i + 1];
        this.events.push(event);
        if (event.action === 'message') onMessage(event);
        this.#redis.xack('connectionevents', 'ws_consumers', id);
      }
    }
  }

  async post(route, selector, body) {
    const answer = await fetch(`${http}/${route}?${stringify(selector)}`, { method: 'POST', body });
    assert.equal(answer.status, 200);
    return answer.text();
  }
}

async function eventually(what, look) {
  const deadline = Date.now() + PATIENCE_MS;
  for (;;) {
    const found = await look();
    if (found) return found;
    if (Date.now() > deadline) throw new Error(`not within ${PATIENCE_MS} ms: ${what}`);
    await new Promise(resolve => setImmediate(resolve));
  }
}

async function open(path) {
  const ws = new WebSocket(`ws://127.0.0.1:${port}${path}`);
  ws.heard = [];
  ws.on('message', data => ws.heard.push(data.toString()));
  await once(ws, 'open', { signal: patience() });
  return ws;
}

const application = new Application();
application.listen(({ connection, message }) => application.post('send', { id: connection }, `re: ${message}`))
  .catch(error => { console.log(error); process.exit(1); });
const state = new Redis(redisPort, '127.0.0.1');
let clients = [];

await check(`wsgateway: every message of ${CLIENTS} clients is answered, none twice`, async () => {
  clients = await Promise.all(Array.from({ length: CLIENTS }, (_, n) => open(n % 2 ? '/connect' : '/connect/v2')));
  clients.forEach((ws, n) => { for (let i = 0; i < MESSAGES; i++) ws.send(`${n}/${i}`); });
  await eventually('all are answered', () => clients.every(ws => ws.heard.length >= MESSAGES));
  clients.forEach((ws, n) => {
    const expected = Array.from({ length: MESSAGES }, (_, i) => `re: ${n}/${i}`);
    // Answers to one connection are requests of their own and may overtake each other.
    assert.deepEqual(ws.heard.sort(), expected.sort());
  });
});

await check('wsgateway: events have their fields, and those of a connection their order', async () => {
  const opened = application.events.filter(event => event.action === 'open');
  assert.equal(opened.length, CLIENTS);
  assert.equal(new Set(opened.map(event => event.connection)).size, CLIENTS);
  for (const { connection, tags } of opened) {
    assert.deepEqual(Object.keys(parse(tags)).every(tag => ['foo', 'version'].includes(tag)), true, tags);
    const said = application.events.filter(event => event.connection === connection && event.action === 'message');
    assert.deepEqual(said.map(event => event.message.split('/')[1]), Array.from({ length: MESSAGES }, (_, i) => `${i}`));
    assert.ok(said.every(event => event.type === 'text' && event.tags === tags));
  }
});

await check('wsgateway: tags, selectors and state', async () => {
  const { connection } = application.events.find(event => event.action === 'open' && event.tags === 'foo=bar');
  assert.equal(await application.post('settags', { id: connection }, stringify({ group: 'a b&c=ü', other: '' })), '1');
  assert.equal(await application.post('send', { group: 'a b&c=ü' }, 'to the group'), '1');
  assert.equal(await application.post('send', { version: 2 }, 'to half'), `${CLIENTS / 2}`);
  await eventually('the group hears it', () => clients.filter(ws => ws.heard.includes('to the group')).length === 1);
  await eventually('half of them hear it', () => clients.filter(ws => ws.heard.includes('to half')).length === CLIENTS / 2);
  await eventually('the state has the tags', async () => {
    const tags = await state.hgetall(`connection:${connection}:tags`);
    return tags.group === 'a b&c=ü' && tags.foo === 'bar' && !('other' in tags);
  });
  assert.match((await state.hgetall(`connection:${connection}`)).addr, /^127\.0\.0\.1:\d+$/);
  const status = await (await fetch(`${http}/status`)).text();
  assert.ok(status.includes(`id=${connection} foo=bar group=a b&c=ü \n`), 'status shows its tags');
  const metrics = await (await fetch(`${http}/metrics`)).text();
  assert.match(metrics, new RegExp(`^active_connections_gauge ${CLIENTS}$`, 'm'));
  assert.match(metrics, new RegExp(`^messages_recieved_counter ${CLIENTS * MESSAGES}$`, 'm'));
});

await check('wsgateway: a close is an event, and the state goes with it', async () => {
  const before = (await state.keys('connection:*')).length;
  assert.equal(before, 2 * CLIENTS);
  const closed = count => () => application.events.filter(event => event.action === 'close').length === count;
  clients[0].terminate();
  clients[1].close(1000);
  await eventually('the close events of the two that went', closed(2));
  assert.equal(await application.post('close', { version: 2 }, 'bye'), `${CLIENTS / 2 - 1}`);
  await eventually('close events', closed(CLIENTS / 2 + 1));
  await eventually('less state', async () => (await state.keys('connection:*')).length === 2 * (CLIENTS / 2 - 1));
});

await check('wsgateway: at the end everybody has a close event and no state', async () => {
  gateway.kill('SIGTERM');
  assert.deepEqual((await once(gateway, 'exit', { signal: patience() }))[0], 0);
  await eventually('close events', () => application.events.filter(event => event.action === 'close').length === CLIENTS);
  assert.deepEqual(await state.keys('connection:*'), []);
});

finish();
