// Starts the ringrelay binary for a test and stops it: port and readiness are read from its log, never guessed.
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const START_MS = 20_000;

/** A running server: `port`, `log()`, `kill(signal)`; `ended` resolves to its exit code, or to the signal's name. */
export async function startServer({ port = 0, driver = 'auto', shards = 2, args = [] } = {}) {
  const bin = process.env.RINGRELAY_BIN;
  if (!bin) throw new Error('RINGRELAY_BIN is not set: give the path of the ringrelay binary');
  const home = mkdtempSync(join(tmpdir(), 'ringrelay-'));
  const config = join(home, 'config.yaml');
  writeFileSync(config, `server: {host: 127.0.0.1, port: ${port}, shards: ${shards}, driver: ${driver}}\nmetrics: {enabled: false}\n`);
  const child = spawn(bin, [...args, '--config', config], { stdio: ['ignore', 'ignore', 'pipe'] });
  let log = '';
  const ended = new Promise(resolve => child.once('close', (code, signal) => {
    rmSync(home, { recursive: true, force: true });
    resolve(code ?? signal);
  }));
  const listening = new Promise(resolve => child.stderr.setEncoding('utf8').on('data', text => {
    log += text;
    const found = /Listening on \S*:(\d+)/.exec(log);
    if (found) resolve(Number(found[1]));
  }));
  const tooLate = AbortSignal.timeout(START_MS);
  const failed = Promise.race([
    new Promise((_, reject) => child.once('error', reject)),
    ended.then(end => { throw new Error(`${bin} ended (${end}) before it listened:\n${log}`); }),
    new Promise((_, reject) => tooLate.addEventListener('abort', () => reject(new Error(`${bin} did not listen in time:\n${log}`)))),
  ]);
  failed.catch(() => {}); // decided by the race below; later ends are the caller's business
  try {
    return { port: await Promise.race([listening, failed]), kill: signal => child.kill(signal), ended, log: () => log };
  } catch (error) {
    child.kill('SIGKILL');
    throw error;
  }
}
