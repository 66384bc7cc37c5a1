// Another service is handed a token: the middlewares of examples/introspect, run as they stand, ask a real REST server. And
// tokens are exchanged through it, for servers that verify JWTs by themselves.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import express from 'express';
import { jwtVerify } from 'jose';
import { ALICE, BOB, SECRET, sign, start } from './fixture.mjs';
import { UNKNOWN_TOKEN, eventually } from './gate_world.mjs';

const SCOPE = 'reports:create';
const example = (name) => fileURLToPath(new URL(`../../examples/introspect/${name}`, import.meta.url));

let world;
let db;
let serviceKey;
before(async () => {
  world = await start({ settings: { 'supabase_pat.flush_interval': 1 } });
  db = await world.cluster.connect('postgres');
  serviceKey = await world.serviceKey();
  // What the examples read when a request comes.
  Object.assign(process.env, {
    SUPABASE_URL: await world.gateway(), SUPABASE_SERVICE_ROLE_KEY: serviceKey, REST_URL: `${await world.gateway()}/rest/v1`, SERVICE_KEY: serviceKey,
  });
});
after(async () => {
  await db.end();
  world.stop();
});

async function mint({ kind = 'jwt', scopes = null, limit = null, ips = null, user = ALICE } = {}) {
  const { rows: [row] } = await db.query(
    `select id, token from mint_pat($1, 'reporter', kind => $2, scopes => $3, rate_limit => $4, allowed_ips => $5::cidr[])`,
    [user, kind, scopes, limit, ips],
  );
  return row;
}
const ask = (path, body, options = {}) => world.request('POST', `/rpc/${path}`, { body, ...options });
const introspect = async (token, more) => (await ask('introspect_token', { token, ...more }, { token: serviceKey })).data;

/** Each service as `headers => { status, body, challenge }`, which is started once and ended by `stop`. */
const SERVICES = {
  'edge_function.mjs': async () => {
    const { default: handler } = await import(example('edge_function.mjs'));
    return {
      call: async (headers) => answered(await handler(new Request('http://localhost/functions/v1/reports', { method: 'POST', headers }))),
    };
  },
  'express.mjs': async () => {
    const { requireToken } = await import(example('express.mjs'));
    const app = express();
    app.post('/reports', requireToken(SCOPE), ({ who }, response) => response.json({ user: who.sub, token: who.name ?? null, kind: who.kind }));
    const server = app.listen(0, '127.0.0.1');
    await new Promise((resolve) => server.once('listening', resolve));
    const url = `http://127.0.0.1:${server.address().port}/reports`;
    return { call: async (headers) => answered(await fetch(url, { method: 'POST', headers })), stop: () => server.close() };
  },
  'fastapi.py': async () => {
    const child = spawn('python3', ['-c', ASGI, example('fastapi.py')], { stdio: ['pipe', 'pipe', 'inherit'] });
    const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
    return {
      call: async (headers, more = {}) => {
        child.stdin.write(`${JSON.stringify({ headers, ...more })}\n`);
        return JSON.parse((await lines.next()).value);
      },
      stop: () => child.kill(),
    };
  },
};
const answered = async (response) => ({
  status: response.status, body: await response.json(), challenge: response.headers.get('www-authenticate'),
});

/** An ASGI server of one line a request, with an application as FastAPI makes one. */
const ASGI = `
import asyncio, importlib.util, json, os, sys
spec = importlib.util.spec_from_file_location("introspection", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)

async def app(scope, receive, send):
    who = scope["state"]["who"] if scope["type"] == "http" else {}
    body = {"user": who.get("sub"), "token": who.get("name"), "kind": who.get("kind")}
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})

guarded = module.RequireToken(app, scope="${SCOPE}")

async def call(request):
    os.environ.update(request.get("env", {}))
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in request["headers"].items()]
    sent = []
    async def send(message): sent.append(message)
    async def receive(): return {"type": "http.request"}
    await guarded({"type": request.get("type", "http"), "method": "POST", "path": "/reports", "headers": headers}, receive, send)
    if sent[0]["type"] == "websocket.close":
        return {"closed": sent[0]["code"]}
    challenge = [value.decode() for name, value in sent[0]["headers"] if name == b"www-authenticate"]
    return {"status": sent[0]["status"], "body": json.loads(sent[1]["body"]), "challenge": challenge[0] if challenge else None}

for line in sys.stdin:
    print(json.dumps(asyncio.run(call(json.loads(line)))), flush=True)
`;

for (const [name, serve] of Object.entries(SERVICES)) {
  describe(`examples/introspect/${name}`, () => {
    let service;
    before(async () => { service = await serve(); });
    after(() => service.stop?.());

    const bearer = (token) => service.call({ authorization: `Bearer ${token}` });
    const xApiKey = (token) => service.call({ 'x-api-key': token });
    const INVALID = { status: 401, body: { error: 'invalid_token' }, challenge: 'Bearer error="invalid_token"' };
    const welcome = (kind, token = 'reporter', user = ALICE) => ({ status: 200, body: { user, token, kind }, challenge: null });

    test('knows whose token it was handed, whatever the kind and the header', async () => {
      const [jwt, opaque, wide] = [await mint({ scopes: [SCOPE] }), await mint({ kind: 'opaque', scopes: ['reports:*'] }), await mint({ user: BOB })];
      assert.deepEqual(await bearer(jwt.token), welcome('jwt'));
      assert.deepEqual(await xApiKey(jwt.token), welcome('jwt'));
      assert.deepEqual(await xApiKey(opaque.token), welcome('opaque'));
      assert.deepEqual(await service.call({ authorization: `bearer ${opaque.token}` }), welcome('opaque'));
      assert.deepEqual(await bearer(wide.token), welcome('jwt', 'reporter', BOB));
      assert.deepEqual(await bearer(await world.login(ALICE)), welcome('session', null));
      // As a request to Supabase's gateway carries both, and as the gate decides.
      assert.deepEqual(await service.call({ authorization: `Bearer ${await sign({ role: 'anon', iss: 'supabase' })}`, 'x-api-key': opaque.token }), welcome('opaque'));
    });

    test('answers 401 to whoever has no token, or none that is good', async () => {
      assert.deepEqual(await service.call({}), { status: 401, body: { error: 'missing_token' }, challenge: 'Bearer error="missing_token"' });
      const { token } = await mint();
      for (const headers of [
        { authorization: token }, { authorization: `Basic ${token}` }, { authorization: 'Bearer ' }, { authorization: `Bearer ${token} ${token}` },
      ]) assert.equal((await service.call(headers)).status, 401, JSON.stringify(headers));
      for (const bad of [
        'x', token.slice(0, -1), UNKNOWN_TOKEN, `sb_secret_${'0'.repeat(31)}`, await sign({ sub: ALICE, role: 'authenticated' }, { secret: 'of somebody else, and quite as long as ours' }),
        await sign({ role: 'anon', iss: 'supabase' }), serviceKey, await world.login('99999999-9999-9999-9999-999999999999'),
      ]) assert.deepEqual(await bearer(bad), INVALID, bad);
      // What nobody but the gate can hold to its limit and its addresses.
      assert.deepEqual(await xApiKey((await mint({ kind: 'opaque', limit: 1_000_000 })).token), INVALID);
      assert.deepEqual(await bearer((await mint({ ips: ['0.0.0.0/0', '::/0'] })).token), INVALID);
      // A good token does not help one that is not.
      assert.deepEqual(await service.call({ authorization: `Bearer ${token}`, 'x-api-key': UNKNOWN_TOKEN }), INVALID);
    });

    test('answers 403 to a token without the scope', async () => {
      const lacks = { status: 403, body: { error: 'insufficient_scope' }, challenge: 'Bearer error="insufficient_scope"' };
      assert.deepEqual(await bearer((await mint({ scopes: ['reports:read', 'todos:*'] })).token), lacks);
      assert.deepEqual(await xApiKey((await mint({ kind: 'opaque', scopes: ['todos:read'] })).token), lacks);
    });

    test('lets a token in no more from the request on that follows its end', async () => {
      for (const kind of ['jwt', 'opaque']) {
        const { id, token } = await mint({ kind });
        assert.equal((await xApiKey(token)).status, 200);
        await db.query('select revoke_pat($1)', [id]);
        assert.deepEqual(await xApiKey(token), INVALID);
      }
      const login = await world.login(BOB);
      assert.equal((await bearer(login)).status, 200);
      await db.query('update auth.users set banned_until = $2 where id = $1', [BOB, 'infinity']);
      assert.deepEqual(await bearer(login), INVALID);
      await db.query('update auth.users set banned_until = null where id = $1', [BOB]);
      assert.equal((await bearer(login)).status, 200);
    });

    test('lets nobody in while it cannot ask', async (t) => {
      t.mock.method(console, 'error', () => {});
      const { token } = await mint();
      const before = { ...process.env };
      const nowhere = { SUPABASE_URL: 'http://127.0.0.1:9', REST_URL: 'http://127.0.0.1:9' };
      const notTrusted = { SERVICE_KEY: 'x', SUPABASE_SERVICE_ROLE_KEY: 'x' };
      const wrong = { SERVICE_KEY: await sign({ role: 'anon' }), SUPABASE_SERVICE_ROLE_KEY: await sign({ role: 'anon' }) };
      for (const env of [nowhere, notTrusted, wrong]) {
        Object.assign(process.env, env);
        try {
          const { status, body } = await service.call({ 'x-api-key': token }, { env });
          assert.deepEqual([status, body], [503, { error: 'temporarily_unavailable' }]);
        } finally {
          for (const key of Object.keys(env)) process.env[key] = before[key];
        }
        const restored = Object.fromEntries(Object.keys(env).map((key) => [key, before[key]]));
        assert.equal((await service.call({ 'x-api-key': token }, { env: restored })).status, 200);
      }
    });

    if (name === 'fastapi.py') {
      test('lets nobody open a web socket without a token', async () => {
        assert.deepEqual(await service.call({}, { type: 'websocket' }), { closed: 1008 });
        assert.equal((await service.call({ 'x-api-key': (await mint()).token }, { type: 'websocket' })).status, 200);
      });
    }
  });
}

test('nobody but a trusted role asks what a token is worth, not even of its own', async () => {
  const { token } = await mint();
  for (const who of [undefined, token, await world.login(ALICE)]) {
    const { status, data } = await ask('introspect_token', { token }, { token: who });
    assert.deepEqual([status >= 401 && status <= 403, data.code], [true, '42501'], JSON.stringify(data));
  }
});

test('a token that is introspected counts as used, and one that is refused does not', async () => {
  const [used, refused] = [await mint({ kind: 'opaque' }), await mint({ scopes: ['todos:read'] })];
  assert.equal((await introspect(used.token)).active, true);
  assert.equal((await introspect(refused.token, { scope: SCOPE })).active, false);
  const lastUse = async ({ id }) => (await db.query('select last_used_at, last_used_ip from api_keys where id = $1', [id])).rows[0];
  await eventually(async () => (await lastUse(used)).last_used_at !== null);
  assert.equal((await lastUse(used)).last_used_ip, null);
  assert.equal((await lastUse(refused)).last_used_at, null);
});

describe('an opaque token', () => {
  const titles = async (token) => {
    const { status, data } = await world.request('GET', '/todos?select=title&order=id', { token });
    return status === 200 ? data.map(({ title }) => title) : [status, data.message];
  };
  const exchange = async (token, body = {}) => {
    const { status, data } = await ask('exchange_token', body, { headers: { 'x-api-key': token } });
    assert.equal(status, 200, JSON.stringify(data));
    return data;
  };

  test('is exchanged, by POST and by GET, for a JWT that other servers verify, and that ends with it', async () => {
    const { id, token } = await mint({ kind: 'opaque' });
    const exchanged = await exchange(token);
    assert.deepEqual({ ...exchanged, access_token: '' }, { access_token: '', token_type: 'Bearer', expires_in: 300, scope: null });
    const { payload } = await jwtVerify(exchanged.access_token, new TextEncoder().encode(SECRET), { audience: 'authenticated' });
    assert.deepEqual([payload.jti, payload.sub, payload.role, payload.exp - payload.iat], [id, ALICE, 'authenticated', 300]);
    const byGet = await world.request('GET', '/rpc/exchange_token?lifetime=1%20hour', { headers: { 'x-api-key': token } });
    assert.deepEqual([byGet.status, byGet.data.expires_in], [200, 3600]);

    assert.deepEqual(await titles(exchanged.access_token), ['alice 1', 'alice 2']);
    assert.equal((await introspect(exchanged.access_token)).name, 'reporter');
    await db.query('select revoke_pat($1)', [id]);
    const REVOKED = [401, 'the personal access token has been revoked'];
    assert.deepEqual(await titles(exchanged.access_token), REVOKED);
    assert.deepEqual(await titles(byGet.data.access_token), REVOKED);
    assert.deepEqual(await introspect(exchanged.access_token), { active: false });
  });

  test('is exchanged for less than it may do, and that is held to it wherever it goes', async () => {
    const { token } = await mint({ kind: 'opaque' });
    const { access_token: reader, scope } = await exchange(token, { scopes: ['todos:read'] });
    assert.equal(scope, 'todos:read');
    assert.equal((await titles(reader)).length, 2);
    const written = await world.request('POST', '/todos', { token: reader, body: { title: 'x' } });
    assert.deepEqual([written.status, written.data.message], [403, 'the personal access token lacks the scope todos:write']);
    assert.equal((await introspect(reader, { scope: 'todos:read' })).active, true);
    assert.equal((await introspect(reader, { scope: 'todos:write' })).active, false);
    const wider = await ask('exchange_token', { scopes: ['todos:write'] }, { token: reader });
    assert.deepEqual([wider.data.code, wider.data.message], ['42501', 'a personal access token may not grant a scope that it does not have']);
    const again = await ask('exchange_token', { lifetime: '1 hour' }, { token: reader });
    assert.ok(again.data.expires_in <= 300 && again.data.scope === 'todos:read', JSON.stringify(again.data));
    for (const [path, body] of [['mint_pat', { name: 'x' }], ['revoke_all_pats', {}]]) {
      assert.equal((await ask(path, body, { token: reader })).status, 403, path);
    }
  });

  test('with a list of scopes is exchanged without one for it', async () => {
    const { token } = await mint({ kind: 'opaque', scopes: ['todos:read'] });
    assert.equal((await exchange(token)).scope, 'todos:read');
  });

  test('with addresses or a limit is not exchanged, nor is a login', async () => {
    const { token } = await mint({ kind: 'opaque', limit: 100 });
    const limited = await ask('exchange_token', {}, { headers: { 'x-api-key': token } });
    assert.deepEqual([limited.data.code, limited.data.message], ['42501', 'a personal access token with allowed_ips or a limit may not be exchanged']);
    const login = await ask('exchange_token', {}, { token: await world.login(ALICE) });
    assert.deepEqual([login.status, login.data.message], [400, 'only a personal access token can be exchanged']);
  });

  test('is exchanged for what counts where policies alone judge: all of it, and nothing of a part', async () => {
    const { token } = await mint({ kind: 'opaque' });
    const [whole, part] = [await exchange(token), await exchange(token, { scopes: ['todos:read'] })];
    await db.query(`alter system set supabase_pat.guarded_logins = ''`);
    await db.query('select pg_reload_conf()');
    try {
      // As in Storage or Realtime, whose logins nobody guards.
      await eventually(async () => (await titles(part.access_token)).length === 0);
      assert.equal((await titles(whole.access_token)).length, 2);
    } finally {
      await db.query('alter system reset supabase_pat.guarded_logins');
      await db.query('select pg_reload_conf()');
    }
  });
});
