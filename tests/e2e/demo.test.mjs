// The demo tells its story to the end, stays up, and leaves nothing when it is stopped.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';

// A folder of its own leaves a demo alone that somebody is looking at.
const folder = mkdtempSync(join(tmpdir(), 'supabase_pat-demo-'));
const script = fileURLToPath(new URL('../../examples/demo.mjs', import.meta.url));
const demo = (...args) => spawnSync(process.execPath, [script, ...args], {
  encoding: 'utf8', env: { ...process.env, DEMO_FOLDER: folder },
});
after(() => {
  demo('stop');
  rmSync(folder, { recursive: true });
});

/** A process that has ended stays in /proc as a zombie until its parent, here init, asks for it. */
function isAlive(pid) {
  try {
    return !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    return false;
  }
}

/** The processes of the demo that the state file tells of. */
function processes() {
  const { cluster, rest, console: page } = JSON.parse(readFileSync(join(folder, 'demo.json'), 'utf8'));
  const [postmaster] = readFileSync(join(cluster.data, 'postmaster.pid'), 'utf8').split('\n');
  return { folder: cluster.folder, pids: [rest, Number(postmaster), page.pid] };
}

/** Postgres removes its pid file, which pg_ctl waits for, a moment before its process ends. */
async function assertEnded({ folder: place, pids }) {
  for (let i = 0; i < 100 && pids.some(isAlive); i += 1) {
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  assert.deepEqual(pids.map(isAlive), [false, false, false]);
  assert.ok(!existsSync(place), `${place} is gone`);
}

test('the demo plays, stays up, plays again, and stops', async () => {
  const first = demo();
  assert.equal(first.status, 0, first.stderr);
  const answers = first.stdout.match(/^ {2}\d{3} .*$/gm).map((line) => line.trim());
  assert.match(answers[0], /^200 .*"name":"my script","token":"eyJ/);
  const count = (beginning) => answers.filter((answer) => answer.startsWith(beginning)).length;
  assert.equal(count('401 {"code":"PT401"'), 2, 'the revoked token neither reads nor writes');
  assert.equal(count('401 {"code":"42501"'), 1, 'no child token');
  assert.equal(count('403 {"code":"PT403"'), 1, 'the dashboard does not write');
  assert.equal(count('429 {"code":"PT429"'), 1, 'nor reads more than twice');
  assert.match(answers.at(-1), /call mum/, 'Bob goes on');
  const [api] = first.stdout.match(/http:\/\/127\.0\.0\.1:\d+\/api/);
  assert.equal((await fetch(`${api}/rpc/is_valid_api_token`)).status, 200);

  const [console] = first.stdout.match(/http:\/\/127\.0\.0\.1:\d+\/$/m);
  const page = await fetch(console);
  assert.match(page.headers.get('content-security-policy'), /default-src 'none'/);
  assert.match(await page.text(), /<pat-console>/);

  const before = processes();
  const second = demo();
  assert.equal(second.status, 0, second.stderr);
  await assertEnded(before);

  const running = processes();
  assert.deepEqual(running.pids.map(isAlive), [true, true, true]);
  assert.equal(demo('stop').stdout, 'the demo was stopped\n');
  await assertEnded(running);
  assert.equal(demo('stop').stdout, 'no demo is running\n');
});
