// One member of fan_out.py's topic, on node's `ws`.
//
//   node member.mjs URL NAME COUNT TOTAL [CA_FILE]
//
// Prints `ready` when connected, publishes COUNT messages at the first line on stdin, and prints the SHA-256 of the
// TOTAL messages that it hears, kinds and lengths included, in their order.
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import WebSocket from 'ws';

const [url, name, count, total, caFile] = process.argv.slice(2);
const ws = new WebSocket(url, { ca: caFile && readFileSync(caFile) });
const digest = createHash('sha256');
let heard = 0;
ws.on('message', (data, isBinary) => {
  digest.update(`${isBinary ? 'b' : 't'}${data.length}:`).update(data);
  if (++heard === Number(total)) {
    console.log(digest.digest('hex'));
    ws.close(1000);
    process.stdin.destroy();
  }
});
ws.on('close', code => {
  if (heard === Number(total) && code === 1000) return;
  console.error(`${name} heard ${heard} of ${total}, closed with ${code}`);
  process.exit(1);
});
await once(ws, 'open');
console.log('ready');
await once(process.stdin, 'data');
for (let n = 0; n < Number(count); n++) {
  const body = `${name} ${n} ${'x'.repeat(n % 50 === 49 ? 70_000 : n * 3)}`;
  ws.send(n % 2 ? Buffer.from(body) : body);
}
