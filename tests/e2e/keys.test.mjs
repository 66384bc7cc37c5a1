// Signing keys, with a REST server that verifies by them and another implementation of JWTs.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import * as jose from 'jose';
import { ALICE, SECRET, request, sign, start } from './fixture.mjs';

const ALGORITHMS = ['HS256', 'HS384', 'HS512', 'ES256', 'RS256', 'EdDSA'];
const vectors = (name) => JSON.parse(readFileSync(new URL(`../vectors/${name}.json`, import.meta.url), 'utf8'));

let world;
let db;
before(async () => {
  world = await start({ settings: { shared_preload_libraries: 'supabase_pat,auto_explain' } });
  db = await world.cluster.connect('postgres');
});
after(async () => {
  await db.end();
  world.stop();
});

const value = async (sql, ...parameters) => Object.values((await db.query(sql, parameters)).rows[0])[0];
const add = (alg, kid) => value('select pat.add_signing_key($1, kid => $2)', alg, kid);
const rotate = (kid) => value('select pat.rotate_signing_key($1)', kid);
const mint = (name) => value('select (mint_pat($1, $2)).token', ALICE, name);
const quote = (text) => `'${text.replaceAll("'", "''")}'`;

/** A REST server with the keys that the database has now. */
const restServer = async () => world.serve(JSON.stringify(await value('select pat.jwks_for_verifier()')));
const titles = async (rest, token) => {
  const answer = await request(rest.url, 'GET', '/todos?select=title', { token });
  return answer.status === 200 ? answer.data.map((todo) => todo.title) : answer.status;
};
const freshRing = () => db.query('delete from pat.signing_keys');

test('the REST server accepts tokens of every algorithm by the published keys', async () => {
  await freshRing();
  const tokens = { configured: await mint('configured') };
  for (const alg of ALGORITHMS) {
    await rotate(await add(alg, alg));
    tokens[alg] = await mint(alg);
    assert.deepEqual(jose.decodeProtectedHeader(tokens[alg]), { alg, kid: alg, typ: 'JWT' });
  }
  const rest = await restServer();
  const mine = await titles(rest, await world.login(ALICE));
  assert.ok(mine.length > 0);
  for (const [alg, token] of Object.entries(tokens)) assert.deepEqual(await titles(rest, token), mine, alg);
  const [header, payload] = tokens.ES256.split('.');
  assert.equal(await titles(rest, `${header}.${payload}.${tokens.EdDSA.split('.')[2]}`), 401);
});

test('no token fails at any moment of a rotation', async () => {
  await freshRing();
  await rotate(await add('ES256', 'old'));
  await add('ES256', 'new');
  const rest = await restServer();
  const expected = await titles(rest, await mint('before'));
  const early = await mint('early');
  let isDone = false;
  let count = 0;
  const client = async () => {
    const connection = await world.cluster.connect('postgres');
    // Some of them, however slow the machine is.
    while (!isDone || count <= 10) {
      const { rows: [{ token }] } = await connection.query('select (pat.sign_jwt($1, $2)) as token',
        [{ role: 'authenticated', sub: ALICE }, '1 hour']);
      assert.deepEqual(await titles(rest, token), expected);
      assert.deepEqual(await titles(rest, early), expected);
      count += 1;
    }
    await connection.end();
  };
  const clients = [client(), client(), client()];
  for (let i = 0; i < 6; i += 1) {
    await new Promise((resolve) => setTimeout(resolve, 50));
    await rotate(i % 2 === 0 ? 'new' : 'old');
  }
  isDone = true;
  await Promise.all(clients);
});

test('a leaked key is dead in the database at once, and at the REST server when it has the new keys', async () => {
  await freshRing();
  await rotate(await add('EdDSA', 'leaked'));
  const token = await mint('honest');
  const leaked = JSON.parse(await value(`select jwk from pat.private_keys where kid = 'leaked'`));
  const forged = await new jose.SignJWT({ role: 'authenticated', sub: ALICE })
    .setProtectedHeader({ alg: 'EdDSA', kid: 'leaked' }).setExpirationTime('1h').sign(await jose.importJWK(leaked, 'EdDSA'));
  const old = await restServer();
  const mine = await titles(old, token);
  assert.ok(mine.length > 0);
  assert.deepEqual(await titles(old, forged), mine);
  await rotate(await add('EdDSA', 'fresh'));
  await db.query(`select pat.revoke_signing_key('leaked')`);
  assert.equal(await titles(old, token), 401);
  assert.equal(await value('select pat.jwt_status($1)', forged), 'revoked');
  const rest = await restServer();
  assert.equal(await titles(rest, token), 401);
  assert.equal(await titles(rest, forged), 401);
  assert.deepEqual(await titles(rest, await mint('anew')), mine);
});

test('jose verifies what we sign, by the keys that we publish', async () => {
  for (const alg of ALGORITHMS) {
    await freshRing();
    await rotate(await add(alg, alg));
    const token = await value(`select pat.sign_jwt('{"sub": "x", "é": "😀"}', '1 hour')`);
    const set = await value(alg.startsWith('HS') ? 'select pat.jwks_for_verifier()' : 'select pat.jwks()');
    const { payload, protectedHeader } = await jose.jwtVerify(token, jose.createLocalJWKSet(set)).catch(async (error) => {
      // jose takes no shared secrets out of a set.
      if (!alg.startsWith('HS')) throw error;
      return jose.jwtVerify(token, await jose.importJWK(set.keys.find((key) => key.kid === alg), alg));
    });
    assert.equal(protectedHeader.alg, alg);
    assert.equal(payload['é'], '😀');
  }
});

test('we verify what jose signs, with its keys imported', async () => {
  for (const alg of ALGORITHMS) {
    await freshRing();
    const options = { extractable: true, ...(alg === 'EdDSA' ? { crv: 'Ed25519' } : {}) };
    const key = alg.startsWith('HS') ? await jose.generateSecret(alg, options) : (await jose.generateKeyPair(alg, options)).privateKey;
    const jwk = { ...await jose.exportJWK(key), alg, use: 'sig' };
    const kid = await value('select pat.import_signing_key($1)', jwk);
    const jwt = (header) => new jose.SignJWT({ sub: 'x', 'é': ['😀'] }).setProtectedHeader({ alg, ...header })
      .setIssuedAt().setExpirationTime('1h').sign(key);
    for (const header of [{ kid }, {}, { typ: 'at+jwt' }]) {
      const claims = await value('select pat.verify_jwt($1)', await jwt(header));
      assert.deepEqual(claims['é'], ['😀'], alg);
    }
    assert.equal(await value('select pat.jwt_status($1)', await jwt({ kid: 'another' })), 'unknown_key');
    await rotate(kid);
    const ours = await value(`select pat.sign_jwt('{}', '1 hour')`);
    assert.equal(jose.decodeProtectedHeader(ours).kid, kid);
  }
});

test('hostile tokens are told what they are, and raise nothing', async () => {
  await freshRing();
  const { secret, tokens } = vectors('hostile');
  await db.query(`select pat.add_signing_key('HS256', $1, 'k')`, [secret]);
  const encode = (text) => Buffer.from(text).toString('base64url');
  for (const { name, token, header, payload, status } of tokens) {
    const message = token ?? `${encode(header)}.${encode(payload)}`;
    const whole = token ?? `${message}.${createHmac('sha256', secret).update(message).digest('base64url')}`;
    const found = await value('select pat.jwt_status($1)', whole);
    // The key of the vectors has an id here, and does not stand in for another.
    const expected = name.startsWith('kid ') && status === 'valid' ? 'unknown_key' : status;
    assert.equal(found, expected, name);
    const report = await db.query('select * from pat.inspect_api_key($1)', [whole]);
    assert.equal(report.rows.length, 1, name);
    const verified = await db.query('select pat.verify_jwt($1)', [whole]).then(() => 'valid', (error) => error.code);
    assert.equal(verified, expected === 'valid' ? 'valid' : '22023', name);
  }
});

test('no private part of a key reaches the log', async () => {
  await freshRing();
  const { cluster } = world;
  cluster.configure({
    log_statement: 'all', log_min_messages: 'debug5', log_min_duration_statement: 0, log_parameter_max_length: -1,
    log_parameter_max_length_on_error: -1, debug_print_parse: 'on', debug_print_plan: 'on',
    'auto_explain.log_min_duration': 0, 'auto_explain.log_nested_statements': 'on', 'auto_explain.log_verbose': 'on',
  });
  cluster.control('reload');
  await new Promise((resolve) => setTimeout(resolve, 500));
  for (const alg of ALGORITHMS) {
    await rotate(await add(alg, alg));
    await value(`select pat.sign_jwt('{}', '1 hour')`);
  }
  await db.query('select pat.jwks()');
  await db.query(`select * from pat.add_signing_key('ES256', kid => 'ES256')`).catch(() => {});
  const { rows } = await db.query('select jwk from pat.private_keys');
  const log = readFileSync(cluster.log, 'utf8');
  assert.ok(log.includes('pat.take_private_jwk()'), 'nested statements are in the log');
  let parts = 0;
  for (const { jwk } of rows) {
    for (const name of ['k', 'd', 'p', 'q', 'dp', 'dq', 'qi']) {
      const part = JSON.parse(jwk)[name];
      if (part === undefined) continue;
      parts += 1;
      assert.ok(!log.includes(part.slice(0, 20)), `${name} of ${JSON.parse(jwk).alg}`);
    }
  }
  assert.equal(parts, 3 + 1 + 1 + 6);
  cluster.configure({
    log_statement: 'none', log_min_messages: 'warning', log_min_duration_statement: -1, debug_print_parse: 'off',
    debug_print_plan: 'off', 'auto_explain.log_min_duration': -1,
  });
  cluster.control('reload');
});

test('a dump holds the keys, and one without them is to be had', async () => {
  await freshRing();
  await rotate(await add('RS256', 'old'));
  const before = await mint('before');
  await rotate(await add('ES256', 'new'));
  const now = await mint('now');
  await add('HS256', 'gone');
  const gone = await value(`select pat.rotate_signing_key('gone'), pat.sign_jwt('{}', '1 hour') as token`);
  assert.equal(gone, '');
  await rotate('new');
  await db.query(`select pat.revoke_signing_key('gone')`);
  const { cluster } = world;
  const dump = (...options) => {
    const done = spawnSync(join(cluster.bin, 'pg_dump'), options, { env: cluster.env('postgres'), encoding: 'utf8', maxBuffer: 1e8 });
    assert.equal(done.status, 0, done.stderr);
    return done.stdout;
  };
  cluster.psql('postgres', 'create database restored');
  cluster.psql('restored', dump());
  assert.equal(cluster.psql('restored', `select pat.jwt_status(${quote(before)}), pat.jwt_status(${quote(now)});
    select kid, status from pat.signing_keys order by kid;
    select (pat.decode_jwt(pat.sign_jwt('{}'))).header ->> 'kid';`), 'valid|valid\ngone|revoked\nnew|current\nold|previous\nnew');
  cluster.psql('postgres', 'create database without');
  const without = dump('--exclude-table-data=pat.private_keys');
  assert.ok(!without.includes('"d":"'));
  cluster.psql('without', without);
  assert.equal(cluster.psql('without', `select pat.jwt_status(${quote(now)}), pat.jwks();`), 'unknown_key|{"keys": []}');
  assert.throws(() => cluster.psql('without', `select pat.sign_jwt('{}')`), /signing key new cannot be read as it is stored/);
});

test('a minted API key opens the REST server as its role', async () => {
  await freshRing();
  const keys = {};
  for (const role of ['anon', 'service_role']) keys[role] = await value('select pat.mint_api_key($1)', role);
  assert.deepEqual((await jose.jwtVerify(keys.anon, new TextEncoder().encode(SECRET))).payload.role, 'anon');
  const all = await titles(world.rest, await sign({ role: 'service_role' }));
  assert.deepEqual(await titles(world.rest, keys.service_role), all);
  assert.deepEqual(await titles(world.rest, keys.anon), []);
});
