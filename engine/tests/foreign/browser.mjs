// Two real browser pages talk through the demo page that ringrelay serves.
//
//   RINGRELAY_BIN=target/debug/ringrelay node browser.mjs [SCREENSHOT_DIR]
//
// Chromium is Debian's (`CHROMIUM` names another). Screenshots of both widths and colour schemes are kept in SCREENSHOT_DIR.
import assert from 'node:assert/strict';
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { chromium } from 'playwright-core';
import { startServer } from './server.mjs';
import { check, finish } from './tally.mjs';

const WAIT_MS = 15_000;
const RECONNECT_MS = 30_000; // above the page's longest pause between two tries
const shots = process.argv[2];
const executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium';
if (!existsSync(executablePath)) {
  console.error(`no browser at ${executablePath}: install Debian's package chromium, or set CHROMIUM`);
  process.exit(2);
}

let server = await startServer();
const home = `http://127.0.0.1:${server.port}/`;
const browser = await chromium.launch({
  executablePath,
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync'],
});
const foreignRequests = [];
const complaints = [];

async function open(name, { width = 1100, height = 720, address = '', colorScheme = 'light' } = {}) {
  const context = await browser.newContext({ viewport: { width, height }, colorScheme });
  context.setDefaultTimeout(WAIT_MS);
  const page = await context.newPage();
  page.on('request', request => { if (!request.url().startsWith(home)) foreignRequests.push(request.url()); });
  page.on('pageerror', error => complaints.push(`${name}: ${error}`));
  page.on('dialog', dialog => { complaints.push(`${name}: dialog ${dialog.message()}`); dialog.dismiss(); });
  // A chat is joined under the name that the page remembers; elsewhere the name may be typed at any time.
  if (address === '#/chat') await page.addInitScript(name => localStorage.setItem('name', name), name);
  const response = await page.goto(home + address);
  assert.equal(response.status(), 200);
  if (address !== '#/chat') await page.getByLabel('Name').fill(name);
  await connected(page);
  return page;
}

const connected = (page, timeout = WAIT_MS) => page.locator('#state[data-state=open]').waitFor({ timeout });
const disconnected = page => page.locator('#state[data-state=waiting]').waitFor();

async function say(page, text) {
  await page.getByLabel('Message', { exact: true }).fill(text);
  await page.keyboard.press('Enter');
}

/** Waits for the newest message and returns who wrote it, as shown (a run of one author's messages names it once). */
async function heard(page, text) {
  const line = page.locator('#log li', { has: page.locator('.text', { hasText: text }) }).last();
  await line.waitFor();
  assert.equal(await line.locator('.text').textContent(), text);
  return line.locator('.by b').textContent();
}

async function shoot(page, file) {
  if (!shots) return;
  mkdirSync(shots, { recursive: true });
  await page.screenshot({ path: join(shots, file) });
}

const hostile = { name: '<b onmouseover=alert(1)>Eve</b>', text: '<img src=x onerror=alert(2)><script>alert(3)</script> & <br> done' };
let ada, ben;

await check('two pages connect to the server that served them', async () => {
  ada = await open('Ada');
  ben = await open('Ben');
});

await check('each hears the other and itself', async () => {
  await say(ada, 'Hello Ben, is the kettle on?');
  for (const page of [ada, ben]) assert.equal(await heard(page, 'Hello Ben, is the kettle on?'), 'Ada');
  await say(ben, 'It is. Grüße, 你好 🫖');
  for (const page of [ada, ben]) assert.equal(await heard(page, 'It is. Grüße, 你好 🫖'), 'Ben');
  assert.equal(await ada.locator('#log li.own').count(), 1, 'own messages are marked on the author\'s page only');
});

await check('markup in names and messages is shown, never obeyed', async () => {
  const eve = await open(hostile.name);
  await say(eve, hostile.text);
  for (const page of [eve, ada, ben]) {
    assert.equal(await heard(page, hostile.text), hostile.name);
    assert.equal(await page.locator('#log img, #log script, #log b b').count(), 0, 'no element was made of a message');
  }
  await eve.context().close();
});

await check('a message of several lines and one of 100 KB arrive whole', async () => {
  await say(ada, 'first line\nsecond line');
  await heard(ben, 'first line\nsecond line');
  const long = 'x'.repeat(100_000);
  await say(ada, long);
  await heard(ben, long);
});

await check('a room hears itself only', async () => {
  const cat = await open('Cat', { address: '#/rooms/te%C3%A1%20room' });
  const dan = await open('Dan', { address: '#/rooms/te%C3%A1%20room' });
  await say(cat, 'only in the room');
  assert.equal(await heard(dan, 'only in the room'), 'Cat');
  await say(ada, 'outside again');
  await heard(ben, 'outside again');
  assert.equal(await dan.getByText('outside again').count(), 0);
  assert.equal(await ben.getByText('only in the room').count(), 0);
  for (const page of [cat, dan]) await page.context().close();
});

/** Waits for a notice of the chat's server. */
const noticed = (page, text) => page.locator('#log li.note', { hasText: text }).waitFor();

await check('in the chat the server gives names, tells who comes and goes, and says who spoke', async () => {
  const first = await open('Eli', { address: '#/chat' });
  await noticed(first, /^Eli has joined the chat$/);
  const second = await open('Eli', { address: '#/chat' });
  for (const page of [first, second]) await noticed(page, /^Eli_2 has joined the chat$/);
  assert.equal(await second.locator('#log li').count(), 1, 'its own join notice is the first that a newcomer hears');
  await say(second, 'two of us: <b>Eli</b> & Grüße 🫖');
  for (const page of [first, second]) assert.equal(await heard(page, 'two of us: <b>Eli</b> & Grüße 🫖'), 'Eli_2');
  assert.equal(await second.locator('#log li.own').count(), 1);
  assert.equal(await first.locator('#log li.own').count(), 0);
  await say(first, '你'.repeat(171));
  await noticed(first, /^Not sent: a chat message has at most 512 bytes\.$/);
  await say(first, '你'.repeat(170));
  assert.equal(await heard(second, '你'.repeat(170)), 'Eli');
  await second.context().close();
  await noticed(first, /^Eli_2 has left the chat$/);
  await shoot(first, 'chat.png');
  assert.equal(await first.locator('#state').getAttribute('data-state'), 'open');
  await first.context().close();
});

await check('both reconnect to a restarted server and talk again', async () => {
  const { port } = server;
  server.kill('SIGKILL');
  await server.ended;
  for (const page of [ada, ben]) await disconnected(page);
  assert.equal(await ada.getByRole('button', { name: 'Send' }).isDisabled(), true);
  server = await startServer({ port });
  assert.equal(server.port, port);
  await Promise.all([ada, ben].map(page => connected(page, RECONNECT_MS)));
  await say(ben, 'here again');
  for (const page of [ada, ben]) assert.equal(await heard(page, 'here again'), 'Ben');
  await say(ada, 'so am I');
  for (const page of [ada, ben]) assert.equal(await heard(page, 'so am I'), 'Ada');
});

await check('the page fits a desktop and a phone, light and dark', async () => {
  for (const [file, options] of [['desktop-light.png', {}], ['desktop-dark.png', { colorScheme: 'dark' }],
    ['phone-light.png', { width: 390, height: 760 }], ['phone-dark.png', { width: 390, height: 760, colorScheme: 'dark' }]]) {
    const page = await open('Zoë', options);
    await say(ada, 'The relay hands every message to everybody in the same order.');
    await say(ada, 'Even this one with a word that is far too long for a phone: ' + 'ring'.repeat(40));
    await heard(page, 'The relay hands every message to everybody in the same order.');
    await say(page, 'So it does.');
    await heard(page, 'So it does.');
    await shoot(page, file);
    const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    assert.equal(overflow, 0, `${file}: nothing is wider than the window`);
    for (const control of ['#message', '#send', '#name', '#state']) {
      const box = await page.locator(control).boundingBox();
      assert.ok(box.x >= 0 && box.y >= 0 && box.x + box.width <= (options.width ?? 1100) + 0.5, `${file}: ${control} is on the page`);
    }
    await page.context().close();
  }
});

await check('nothing was loaded from elsewhere, and no page complained', async () => {
  assert.deepEqual(foreignRequests, []);
  assert.deepEqual(complaints, []);
});

await check('a chat server\'s own page finds its chat, and offers nothing else', async () => {
  const chat = await startServer({ args: ['start'] });
  const context = await browser.newContext();
  const page = await context.newPage();
  await page.goto(`http://127.0.0.1:${chat.port}/`);
  await connected(page);
  assert.deepEqual(await page.locator('[name=mode]:visible').evaluateAll(radios => radios.map(radio => radio.value)), ['chat']);
  await say(page, 'the kettle is on');
  await heard(page, 'the kettle is on');
  await context.close();
  chat.kill('SIGTERM');
  assert.equal(await chat.ended, 0, chat.log());
});

await check('SIGTERM ends the server with 0 while pages are open', async () => {
  server.kill('SIGTERM');
  assert.equal(await server.ended, 0, server.log());
});

await browser.close();
server.kill('SIGKILL');
finish();
