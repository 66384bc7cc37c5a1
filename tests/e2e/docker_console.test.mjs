// How packaging/docker serves the console: with the script of its image, and a real nginx.
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { chmodSync, chownSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, beforeEach, test } from 'node:test';
import { freePort, owner, running } from '../cluster/cluster.mjs';
import { POLICY } from '../../examples/console/server.mjs';
import { root } from './releases.mjs';

const NGINX = '/usr/sbin/nginx';
const folder = mkdtempSync(join(tmpdir(), 'supabase_pat-console-'));
const at = (...parts) => join(folder, ...parts);
const script = join(root, 'packaging/docker/console.sh');
const dockerfile = readFileSync(join(root, 'packaging/docker/console.Dockerfile'), 'utf8');
const jwt = (role, more = '') => ['{"alg":"HS256","typ":"JWT"}', `{"iss":"supabase","role":"${role}","exp":2000000000${more}}`, 'signature']
  .map((part) => Buffer.from(part).toString('base64url')).join('.');
const GOOD = { API_URL: 'https://api.example.com/project', ANON_KEY: jwt('anon') };

beforeEach(() => {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(at('page/assets'), { recursive: true });
  chmodSync(folder, 0o755);
  writeFileSync(at('page/index.html'), '<!doctype html><title>the page</title>');
  writeFileSync(at('page/config.json'), '{"url": "/", "anonKey": ""}');
  writeFileSync(at('page/assets/index-abc.js'), 'export default 1;');
});
after(() => rmSync(folder, { recursive: true, force: true }));

/** Runs the script with the folders of the image in ours. */
function configured(env, port = 8080) {
  const done = spawnSync('sh', [script], {
    encoding: 'utf8',
    env: { PATH: process.env.PATH, CONSOLE_PAGE: at('page'), CONSOLE_CONFIG: at('config'), CONSOLE_SERVER: at('server.conf'), CONSOLE_LISTEN: `127.0.0.1:${port}`, ...env },
  });
  return { status: done.status, said: done.stderr.trim() };
}

const told = () => JSON.parse(readFileSync(at('config/config.json'), 'utf8'));

async function served(run) {
  const port = await freePort();
  const { status, said } = configured(GOOD, port);
  assert.equal(status, 0, said);
  const types = '/etc/nginx/mime.types';
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((kind) => `${kind}_temp_path ${at(kind)};`).join(' ');
  writeFileSync(at('nginx.conf'), `daemon off; worker_processes 1; pid ${at('pid')}; events {}
    http { access_log off; include ${types}; default_type application/octet-stream; ${temporary} include ${at('server.conf')}; }`);
  if (owner.uid !== undefined) chownSync(folder, owner.uid, owner.gid);
  const server = spawn(NGINX, ['-e', at('log'), '-p', folder, '-c', at('nginx.conf')], { cwd: '/', stdio: 'ignore', ...owner });
  const one = { stop: () => server.kill() };
  running.add(one);
  try {
    const url = `http://127.0.0.1:${port}`;
    for (let attempt = 0; ; attempt += 1) {
      if (await fetch(url).then(() => true, () => false)) break;
      if (attempt === 100) throw new Error(`nginx did not start: ${existsSync(at('log')) ? readFileSync(at('log'), 'utf8') : ''}`);
      await new Promise((resolve) => { setTimeout(resolve, 50); });
    }
    await run(url);
  } finally {
    running.delete(one);
    const ended = new Promise((resolve) => { server.once('exit', resolve); });
    one.stop();
    await ended;
  }
}

test('the page is served with the policy that the documentation names, and asks the API alone', async () => {
  await served(async (url) => {
    const answer = await fetch(`${url}/`);
    assert.equal(answer.status, 200);
    assert.match(await answer.text(), /the page/);
    assert.equal(answer.headers.get('content-type'), 'text/html; charset=utf-8');
    assert.equal(answer.headers.get('content-security-policy'), POLICY.replace("connect-src 'self'", "connect-src 'self' https://api.example.com"));
    assert.equal(answer.headers.get('x-content-type-options'), 'nosniff');
    assert.equal(answer.headers.get('referrer-policy'), 'no-referrer');
    assert.equal(answer.headers.get('cross-origin-opener-policy'), 'same-origin');
    assert.equal(answer.headers.get('cache-control'), 'no-cache');
    assert.equal(answer.headers.get('server'), 'nginx');
  });
});

test('what it is told comes from the environment, and not from the build', async () => {
  await served(async (url) => {
    const answer = await fetch(`${url}/config.json`);
    assert.equal(answer.headers.get('content-type'), 'application/json');
    assert.equal(answer.headers.get('cache-control'), 'no-cache');
    assert.match(answer.headers.get('content-security-policy'), /default-src 'none'/);
    assert.deepEqual(await answer.json(), { url: GOOD.API_URL, anonKey: GOOD.ANON_KEY, title: 'supabase_pat', hasOperator: false });
  });
});

test('files whose names change with their content are kept, and nothing else is there', async () => {
  await served(async (url) => {
    const script = await fetch(`${url}/assets/index-abc.js`);
    assert.match(script.headers.get('content-type'), /javascript/);
    assert.match(script.headers.get('cache-control'), /immutable/);
    for (const path of ['/nothing', '/assets/', '/../nginx.conf', '/%2e%2e/nginx.conf']) {
      const { status, headers } = await fetch(`${url}${path}`, { redirect: 'manual' });
      assert.ok([403, 404, 400].includes(status), `${path}: ${status}`);
      if (status !== 400) assert.match(headers.get('content-security-policy'), /default-src 'none'/);
    }
    // Another instance may have it already, or yet.
    const missing = await fetch(`${url}/assets/index-def.js`);
    assert.equal(missing.status, 404);
    assert.equal(missing.headers.get('cache-control'), 'no-cache');
    const folder = await fetch(`${url}/assets`, { redirect: 'manual' });
    assert.equal(folder.headers.get('location'), '/assets/', 'it names neither the port nor http');
    assert.equal(folder.headers.get('cache-control'), 'no-cache');
  });
});

test('a title and the operator\'s part are for the environment to say', () => {
  assert.equal(configured({ ...GOOD, TITLE: 'Señas & <b>llaves</b> $HOME', HAS_OPERATOR: 'true' }).status, 0);
  assert.deepEqual(told(), { url: GOOD.API_URL, anonKey: GOOD.ANON_KEY, title: 'Señas & <b>llaves</b> $HOME', hasOperator: true });
  assert.equal(configured({ API_URL: 'http://localhost:8000', ANON_KEY: 'sb_publishable_abc' }).status, 0);
  assert.match(readFileSync(at('server.conf'), 'utf8'), /connect-src 'self' http:\/\/localhost:8000;/);
});

test('what must not be published, or would be more than a value, stops it', () => {
  for (const [env, said] of [
    [{ ANON_KEY: jwt('service_role') }, /ANON_KEY is a key of the service role/],
    [{ ANON_KEY: jwt('service\\u005frole') }, /ANON_KEY is a key of the service role/],
    [{ ANON_KEY: jwt('supabase_admin') }, /ANON_KEY is a key of the service role/],
    [{ ANON_KEY: jwt('postgres') }, /ANON_KEY is a key of the service role/],
    [{ ANON_KEY: jwt('authenticated', ',"sub":"11111111-1111-1111-1111-111111111111"') }, /ANON_KEY is somebody's login or access token/],
    [{ ANON_KEY: 'sbpat_abc' }, /ANON_KEY is somebody's access token/],
    [{ ANON_KEY: 'sbp_abc' }, /ANON_KEY is somebody's access token/],
    [{ ANON_KEY: 'sb_secret_abc' }, /ANON_KEY is a secret key/],
    [{ ANON_KEY: '' }, /ANON_KEY is missing/],
    [{ ANON_KEY: 'a"b' }, /ANON_KEY is no key/],
    [{ API_URL: '' }, /API_URL has to be/],
    [{ API_URL: 'api.example.com' }, /API_URL has to be/],
    [{ API_URL: 'https://api.example.com; script-src *' }, /API_URL has to be/],
    [{ API_URL: 'https://user@api.example.com' }, /API_URL has to be/],
    [{ API_URL: 'https://api.example.com\n" }' }, /API_URL has to be/],
    [{ API_URL: 'javascript://api.example.com' }, /API_URL has to be/],
    [{ TITLE: 'a "b"' }, /TITLE has a quotation mark/],
    [{ TITLE: 'a\\' }, /TITLE has a quotation mark/],
    [{ TITLE: 'a\nb' }, /TITLE has a quotation mark/],
    [{ HAS_OPERATOR: 'yes' }, /HAS_OPERATOR has to be/],
  ]) {
    rmSync(at('server.conf'), { force: true });
    const done = configured({ ...GOOD, ...env });
    assert.equal(done.status, 1, JSON.stringify(env));
    assert.match(done.said, said);
    assert.ok(!done.said.includes('sb_secret_abc') && !done.said.includes(jwt('service_role')), done.said);
    assert.ok(!existsSync(at('server.conf')), 'nothing is written');
  }
});

test('the image has what it is built from, and tries its script', () => {
  for (const [, from] of dockerfile.matchAll(/^COPY (?!--from)(?:--\S+ )?(.*) \S+$/gm)) {
    for (const path of from.split(' ')) assert.ok(existsSync(join(root, path)), path);
  }
  const [, command] = dockerfile.match(/^RUN (set -eu;(?:.*\\\n)*.*)$/m);
  const here = command.replaceAll('\\\n', '').replaceAll('/tmp/', `${folder}/`).replaceAll('/docker-entrypoint.d/50-console.sh', script);
  const tried = (text) => spawnSync('sh', ['-c', text], {
    encoding: 'utf8', env: { PATH: process.env.PATH, CONSOLE_PAGE: at('page'), CONSOLE_CONFIG: at('console'), CONSOLE_LISTEN: '8080' },
  });
  const done = tried(here);
  assert.equal(done.status, 0, done.stderr);
  assert.ok(!existsSync(at('try.conf')));
  assert.notEqual(tried(here.replace('https://api.example.com ANON_KEY=try ', 'nothing ANON_KEY=try ')).status, 0);
  // Nor is a script taken that publishes a secret key.
  const lax = at('lax.sh');
  writeFileSync(lax, readFileSync(script, 'utf8').replace('sb_secret_*)', 'sb_other_*)'), { mode: 0o755 });
  const published = tried(here.replaceAll(script, lax));
  assert.notEqual(published.status, 0);
  assert.match(published.stderr, /a secret key is published/);
});
