// Measures the extension against the same things written by hand, side by side in one run: each
// round measures everything once, the tables and curves show medians. They go to the terminal and, with
// PUBLISH=1, into docs/ and README.md. ROUNDS=7, KEYS=10000000.
import { spawnSync } from 'node:child_process';
import { createPrivateKey, createPublicKey } from 'node:crypto';
import { cpus } from 'node:os';
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Cluster } from '../tests/cluster/cluster.mjs';
import { measureBystanders } from './bystanders.mjs';
import { measureGate } from './gate.mjs';
import { drawCurves } from './plots.mjs';
import { Report, ms, rate, replaceSection, sectionOf, us } from './report.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const root = join(here, '..');
const major = process.env.PG ?? '15';
/** Where the table goes with PUBLISH=1. */
const [page, section] = [join(root, 'docs', 'benchmarks.md'), `table of Postgres ${major}`];
if (process.env.PUBLISH === '1') sectionOf(page, section);
const rounds = Number(process.env.ROUNDS ?? 7);
const manyKeys = Number(process.env.KEYS ?? 10_000_000);
const rowsInTable = 1_000_000;
/** How many rows the tables of the curve have, and how many keys. */
const fewerRows = [1_000, 10_000, 100_000];
const fewerKeys = [1_000, 10_000, 100_000, 1_000_000].filter((count) => count < manyKeys);
const SECRET = 'the-secret-of-the-benchmark-is-long-enough';
const USER = '11111111-1111-1111-1111-111111111111';

const say = (text) => process.stderr.write(`${text}\n`);
const median = (values) => [...values].sort((a, b) => a - b)[values.length >> 1];

say('building the native comparison');
const installed = spawnSync(join(root, 'scripts', 'install'), [major, 'bench/native'], { stdio: 'inherit' });
if (installed.status !== 0) process.exit(1);

const results = {};
const note = (name, figure) => { (results[name] ??= []).push(figure); };

await measureBystanders(rounds, note, say);
await measureGate(rounds, note, say);

const cluster = await Cluster.start({
  settings: { shared_buffers: '4GB', max_wal_size: '8GB', max_parallel_workers_per_gather: '0', autovacuum: 'off', jit: 'off', synchronous_commit: 'off' },
});
cluster.psql('postgres', `create database bench; alter database bench set "app.settings.jwt_secret" = '${SECRET}'`);
const setup = await cluster.connect('bench');
for (const file of ['setup.sql', 'time_of.sql']) await setup.query(readFileSync(join(here, file), 'utf8'));
await setup.end();

const db = await cluster.connect('bench');
const value = async (sql, parameters = []) => Object.values((await db.query(sql, parameters)).rows[0])[0];

say('1,000,000 rows, 1,000 keys');
await db.query(`
  insert into auth.users (id) values ('${USER}');
  insert into auth.users (id) select gen_random_uuid() from generate_series(1, 20000);
  create table todos as select i as id, case when i % 10 = 0 then '${USER}'::uuid else '22222222-2222-2222-2222-222222222222' end as user_id,
    'todo ' || i as title from generate_series(1, ${rowsInTable}) i;
  alter table todos enable row level security;
  create policy owners on todos using (false);
  create table all_mine as select id, '${USER}'::uuid as user_id, title from todos;
  alter table all_mine enable row level security;
  create policy owners on all_mine using (false);
  create function hand.project(n int) returns uuid language sql immutable as $$ select md5(n::text)::uuid $$;
  create table in_projects as select id, user_id, title, hand.project(1) as project_id from todos;
  create table all_in_projects as select id, user_id, title, hand.project(1) as project_id from all_mine;
  alter table in_projects enable row level security;
  alter table all_in_projects enable row level security;
  create policy owners on in_projects using (false);
  create policy owners on all_in_projects using (false);
  grant select on todos, all_mine, in_projects, all_in_projects to authenticated;
  ${fewerRows.map((count) => `
    create table todos_${count} as select * from todos where id <= ${count};
    alter table todos_${count} enable row level security;
    create policy owners on todos_${count} using (false);
    grant select on todos_${count} to authenticated;`).join('')}
  insert into pat.api_keys (id, user_id, name, expires_at)
    select gen_random_uuid(), u.id, 'x', '2100-01-01' from auth.users u limit 1000;
  insert into hand.api_keys select * from pat.api_keys;
  insert into auth.sessions (id, user_id) select gen_random_uuid(), id from auth.users where id <> '${USER}';`);
const token = await value(`select (mint_pat('${USER}', 'bench')).token`);
await db.query(`insert into hand.api_keys select * from pat.api_keys where name = 'bench'; `);
const login = await value(`select access_token from pat.mint_session('${USER}')`);
await db.query('vacuum analyze');
const claimsOf = async (jwt) => JSON.stringify(await value('select hand.claims($1)', [jwt]));
const [claims, sessionClaims] = [await claimsOf(token), await claimsOf(login)];
const useToken = (json = claims) => db.query(`select set_config('request.jwt.claims', $1, false)`, [json]);
await useToken();

// 1. A scan under a policy.
const policies = {
  literal: `'${USER}'::uuid = user_id`,
  ours: 'pat.uid() = user_id and is_valid_api_token()',
  'hand-written': 'auth.uid() = user_id and hand.is_valid_api_token()',
  'hand-written, with (select …)': '(select auth.uid()) = user_id and (select hand.is_valid_api_token())',
};
const sessionPolicies = {
  'session, ours': 'pat.uid() = user_id and is_active_session()',
  'session, hand-written': 'auth.uid() = user_id and hand.is_active_session()',
  'session, hand-written, with (select …)': '(select auth.uid()) = user_id and (select hand.is_active_session())',
};
// A policy that asks for an attribute besides.
const ATTRIBUTES = `${policies.ours} and api_key_allows('project', project_id)`;
const ATTRIBUTES_AS_TEXT = `${policies.ours} and api_key_allows('project', project_id::text)`;
// A policy that nobody has touched, with the setting and without.
const UNTOUCHED = 'auth.uid() = user_id';
const scan = async (table, name, policy, isFast = false) => {
  await db.query(`reset role; alter policy owners on ${table} using (${policy}); set supabase_pat.fast_auth_functions = ${isFast}; set role authenticated`);
  const start = process.hrtime.bigint();
  const count = await value(`select count(*) from ${table}`);
  note(`${table} ${name}`, Number(process.hrtime.bigint() - start) / 1e6);
  const [, size = rowsInTable] = table.match(/^todos_(\d+)/) ?? [];
  if (Number(count) !== (table.startsWith('all_') ? rowsInTable : size / 10)) throw new Error(`${name}: ${count} rows`);
  await db.query('reset role');
};
const setAttribute = (count) => db.query(`reset role; update pat.api_keys set attributes = jsonb_build_object('project',
  array(select hand.project(n) from generate_series(1, ${count}) n)) where name = 'bench'`);
say(`scans, ${rounds} rounds`);
for (let round = 0; round < rounds; round += 1) {
  for (const [name, policy] of Object.entries(policies)) {
    // The hand-written policies take seconds: a few rounds tell as much.
    if (name === 'hand-written' && round >= 3) continue;
    await scan('todos', name, policy);
    for (const count of fewerRows) await scan(`todos_${count}`, name, policy);
    if (name !== 'hand-written') await scan('all_mine', name, policy);
  }
  await scan('todos', 'untouched, fast', UNTOUCHED, true);
  await scan('all_mine', 'untouched, fast', UNTOUCHED, true);
  if (round < 3) await scan('todos', 'untouched', UNTOUCHED);
  for (const table of ['in_projects', 'all_in_projects']) {
    await scan(table, 'ours', policies.ours);
    for (const count of [1, 1000]) {
      await setAttribute(count);
      await scan(table, `attribute of ${count}`, ATTRIBUTES);
    }
    await scan(table, 'attribute as text', ATTRIBUTES_AS_TEXT);
  }
  await db.query(`update pat.api_keys set attributes = null where name = 'bench'`);
  await useToken(sessionClaims);
  for (const [name, policy] of Object.entries(sessionPolicies)) {
    if (name === 'session, hand-written' && round >= 3) continue;
    await scan('todos', name, policy);
  }
  await useToken();
}

// 2. The first check in a statement.
const time = (expression, calls = 100_000, input = '', inputs = []) => value('select hand.time_of($1, $2, $3, $4)', [expression, calls, input, inputs]);
const NOTHING = 'pg_backend_pid() = 0';
// Another request before each check: one of a thousand users, each with a key or a session of their own.
const others = async (jwt, more, from) => (await db.query(`select hand.claims($1) || jsonb_build_object('sub', user_id, ${more}) as claims
  from ${from} limit 1000`, [jwt])).rows.map((row) => JSON.stringify(row.claims));
const TOKEN = {
  call: 'is_valid_api_token()', claims, others: await others(token, `'jti', id`, `pat.api_keys where name = 'x'`),
};
const SESSION = {
  call: 'is_active_session()', claims: sessionClaims, others: await others(login, `'session_id', id`, 'auth.sessions'),
};
const AFTER = `set_config('request.jwt.claims', inputs[1 + i % 1000], false) is not null and `;
const check = async (label, what) => {
  await useToken(what.claims);
  const nothing = await time(NOTHING);
  note(`check ${label}`, await time(what.call) - nothing);
  note(`check by hand ${label}`, await time(`hand.${what.call}`, 20_000) - nothing);
  const another = await time(AFTER + NOTHING, 100_000, '', what.others);
  note(`fresh check ${label}`, await time(AFTER + what.call, 100_000, '', what.others) - another);
  await useToken();
};
say('checks');
for (let round = 0; round < rounds; round += 1) {
  await check('1000 keys', TOKEN);
  await check('session', SESSION);
}

// 3. Signing and verifying: with the configured secret, then with a key of the ring for each algorithm.
const signed = '{"sub": "11111111-1111-1111-1111-111111111111", "role": "authenticated", "aud": "authenticated", "email": "alice@example.com", "iat": 1700000000, "exp": 4102444800}';
const ALGORITHMS = ['HS256', 'HS384', 'HS512', 'ES256', 'EdDSA', 'RS256'];
const secretBytes = Buffer.from(SECRET);
const nativeKeys = { configured: { alg: 'HS256', sign: secretBytes, verify: secretBytes, calls: 100_000 } };
for (const alg of ALGORITHMS) {
  await db.query('select pat.add_signing_key($1, kid => $1)', [alg]);
  const jwk = JSON.parse(await value('select jwk from pat.private_keys where kid = $1', [alg]));
  const bytes = (name) => Buffer.from(jwk[name], 'base64url');
  const pair = jwk.kty === 'oct' ? undefined : createPrivateKey({ key: jwk, format: 'jwk' });
  nativeKeys[alg] = { alg, ...{
    oct: () => ({ sign: bytes('k'), verify: bytes('k'), calls: 100_000 }),
    EC: () => ({ sign: pair.export({ type: 'pkcs8', format: 'der' }), verify: Buffer.concat([Buffer.from([4]), bytes('x'), bytes('y')]), calls: 10_000 }),
    OKP: () => ({ sign: pair.export({ type: 'pkcs8', format: 'der' }), verify: bytes('x'), calls: 10_000 }),
    RSA: () => ({ sign: pair.export({ type: 'pkcs1', format: 'der' }), verify: createPublicKey(pair).export({ type: 'pkcs1', format: 'der' }), calls: 1_000 }),
  }[jwk.kty]() };
}
const measureKey = async (name) => {
  const { alg, sign, verify, calls } = nativeKeys[name];
  const nothing = await time(NOTHING);
  const toJson = await time('input::jsonb is null', 100_000, signed);
  const jwt = await value('select pat.sign_jwt($1)', [signed]);
  note(`sign ${name}`, await time('pat.sign_jwt(input::jsonb) is null', calls, signed) - toJson);
  note(`sign ${name} natively`, await value('select native_sign($1, $2, $3, $4)', [signed, sign, alg, calls]));
  note(`verify ${name}`, await time('pat.verify_jwt(input) is null', calls, jwt) - nothing);
  note(`verify ${name} natively`, await value('select native_verify($1, $2, $3, $4)', [jwt, verify, alg, calls]));
};
say('signing and verifying');
for (let round = 0; round < rounds; round += 1) {
  const nothing = await time(NOTHING);
  const jwt = await value('select hand.sign($1, $2)', [signed, SECRET]);
  const verifyRow = (schema) => `(select not valid or payload is null from ${schema}.verify(input, '${SECRET}'))`;
  note('sign by hand', await time(`hand.sign(input::json, '${SECRET}') is null`, 20_000, signed) - nothing);
  note('verify by hand', await time(verifyRow('hand'), 20_000, jwt) - nothing);
  note('pgjwt sign', await time(`pat.sign(input::json, '${SECRET}') is null`, 100_000, signed) - nothing);
  note('pgjwt verify', await time(verifyRow('pat'), 100_000, jwt) - nothing);
  await measureKey('configured');
  await db.query('begin');
  for (const alg of ALGORITHMS) {
    await db.query('select pat.rotate_signing_key($1)', [alg]);
    await measureKey(alg);
  }
  await db.query('rollback');
}
await db.query('delete from pat.signing_keys');
const opaque = await value(`select (mint_pat('${USER}', 'bench', kind => 'opaque')).token`);
for (let round = 0; round < rounds; round += 1) {
  const nothing = await time(NOTHING);
  for (const [name, input] of Object.entries({ token, login, opaque })) {
    if (name !== 'opaque') note(`verify ${name}`, await time('pat.verify_jwt(input) is null', 100_000, input) - nothing);
    note(`introspect ${name}`, await time('introspect_token(input) is null', 100_000, input) - nothing);
  }
}

// 4. Minting, for many users in one transaction.
const mint = async (name, statement) => {
  await db.query('begin');
  note(name, await value(`select hand.mint_loop($1)`, [statement]));
  await db.query('rollback');
  await db.query('vacuum pat.api_keys, pat.events, hand.api_keys');
};
await db.query(`create function hand.mint_loop(statement text) returns float language plpgsql as $$
declare
  micros float;
begin
  execute format('create or replace function hand.loop_over_users() returns float language plpgsql as $loop$
    declare
      users uuid[] := (select array_agg(id) from (select id from auth.users limit 10000) u);
      start timestamptz := clock_timestamp();
      owner uuid;
      token text;
    begin
      foreach owner in array users loop
        %s;
      end loop;
      return extract(epoch from clock_timestamp() - start) * 1e6 / 10000;
    end $loop$', statement);
  execute 'select hand.loop_over_users()' into micros;
  return micros;
end $$`);
say('minting');
for (let round = 0; round < rounds; round += 1) {
  await mint('insert', `insert into hand.api_keys (id, user_id, name, hint, created_at, expires_at) values (gen_random_uuid(), owner, 'x', 'abcdef', now(), now() + interval '1 year')`);
  await mint('mint', `token := (mint_pat(owner, 'x')).token`);
  await mint('mint by hand', `token := hand.mint_pat(owner, 'x')`);
}

// 5. The settings of a user. The schemas are checked on our side alone.
await db.query(`
  select pat.define_setting('temperature', '0.7', '{"type": "number", "maximum": 2}'),
    pat.define_setting('default_model', '"small"', '{"enum": ["small", "large"]}'),
    pat.define_setting('system_prompt', '"Be brief."', '{"type": "string"}'),
    pat.define_setting('language', '"en"'),
    pat.define_setting('editor', '{"theme": "light", "font": {"size": 12, "family": "mono"}}', '{"type": "object"}');
  insert into pat.user_settings values ('${USER}', '{"temperature": 1.1, "editor": {"font": {"size": 14}}}');
  insert into hand.setting_definitions select * from pat.setting_definitions;
  insert into hand.user_settings select * from pat.user_settings;
  analyze pat.user_settings, hand.user_settings, hand.setting_definitions;`);
const OVERRIDE = '{"default_model": "large"}';
if (!await value('select get_settings($1) = hand.get_settings($1)', [OVERRIDE])) throw new Error('the settings differ');
say('settings');
for (let round = 0; round < rounds; round += 1) {
  const toJson = await time('input::jsonb is null', 100_000, OVERRIDE);
  note('settings', await time('get_settings(input::jsonb) is null', 100_000, OVERRIDE) - toJson);
  note('settings by hand', await time('hand.get_settings(input::jsonb) is null', 20_000, OVERRIDE) - toJson);
}

// 2 again, with more keys.
let keys = 1_000;
for (const count of [...fewerKeys.slice(1), manyKeys]) {
  say(`${count.toLocaleString('en')} keys`);
  for (const table of ['pat.api_keys', 'hand.api_keys']) {
    await db.query(`
      insert into ${table} (id, user_id, name, expires_at)
        select gen_random_uuid(), gen_random_uuid(), 'x', '2100-01-01' from generate_series(1, ${count - keys});
      analyze ${table};`);
  }
  await db.query('checkpoint');
  keys = count;
  for (let round = 0; round < rounds; round += 1) await check(`${count} keys`, TOKEN);
}

const version = await value('show server_version');
await db.end();
cluster.stop();

// The table.
const m = (name) => median(results[name]);
const report = new Report();
report.slower('scan of 1,000,000 rows, a tenth is the user\'s', m('todos ours'), 'literal', m('todos literal'), ms, 1.1);
report.faster('', m('todos ours'), 'hand-written', m('todos hand-written'), ms);
report.slower('', m('todos ours'), 'hand-written, with (select …)', m('todos hand-written, with (select …)'), ms);
report.slower('the same, all are', m('all_mine ours'), 'literal', m('all_mine literal'), ms);
report.slower('', m('all_mine ours'), 'hand-written, with (select …)', m('all_mine hand-written, with (select …)'), ms);
report.slower('the scan with auth.uid() = user_id, fast_auth_functions on', m('todos untouched, fast'), 'literal', m('todos literal'), ms, 1.1);
report.faster('', m('todos untouched, fast'), 'off', m('todos untouched'), ms);
report.slower('the same, all are', m('all_mine untouched, fast'), 'literal', m('all_mine literal'), ms);
for (const [count, ids] of [[1, 'one id'], [1000, '1,000 ids']]) {
  report.slower(`the scan with api_key_allows(…) of ${ids}`, m(`in_projects attribute of ${count}`), 'without', m('in_projects ours'), ms, 1.3);
  report.slower('the same, all are', m(`all_in_projects attribute of ${count}`), 'without', m('all_in_projects ours'), ms);
}
report.slower('the same of 1,000 ids, all are, with project_id::text', m('all_in_projects attribute as text'), 'without', m('all_in_projects ours'), ms);
const first = m('check 1000 keys');
report.figure('first check in a statement', first, us, 2.5);
report.faster('', first, 'hand-written', m('check by hand 1000 keys'), us);
report.figure('the same, after another request', m('fresh check 1000 keys'), us);
report.faster('', m('fresh check 1000 keys'), 'hand-written', m('check by hand 1000 keys'), us);
const many = manyKeys.toLocaleString('en');
report.slower(`first check with ${many} keys`, m(`check ${manyKeys} keys`), 'with 1,000', first, us, 1.3);
report.slower(`after another request, ${many} keys`, m(`fresh check ${manyKeys} keys`), 'with 1,000', m('fresh check 1000 keys'), us, 1.3);
report.slower('the scan with is_active_session()', m('todos session, ours'), 'literal', m('todos literal'), ms);
report.faster('', m('todos session, ours'), 'hand-written', m('todos session, hand-written'), ms);
report.slower('', m('todos session, ours'), 'hand-written, with (select …)', m('todos session, hand-written, with (select …)'), ms);
report.faster('is_active_session(), first in a statement', m('check session'), 'hand-written', m('check by hand session'), us);
report.figure('the same, after another request', m('fresh check session'), us);
report.faster('', m('fresh check session'), 'hand-written', m('check by hand session'), us);
for (const what of ['sign', 'verify']) {
  report.slower(`${what}_jwt, HS256, configured secret`, m(`${what} configured`), 'jsonwebtoken, natively', m(`${what} configured natively`), us, 1.25);
  report.faster('', m(`${what} configured`), 'pgjwt\'s way', m(`${what} by hand`), us);
  for (const alg of ALGORITHMS) report.slower(`${what}_jwt, ${alg}`, m(`${what} ${alg}`), 'jsonwebtoken, natively', m(`${what} ${alg} natively`), us, 1.5);
  report.faster(`pat.${what}, as in pgjwt`, m(`pgjwt ${what}`), 'pgjwt\'s way', m(`${what} by hand`), us);
}
report.slower('introspect_token, a personal access token', m('introspect token'), 'verify_jwt', m('verify token'), us, 2);
report.slower('introspect_token, a login', m('introspect login'), 'verify_jwt', m('verify login'), us, 2);
report.slower('introspect_token, an opaque token', m('introspect opaque'), 'verify_jwt of a JWT', m('verify token'), us, 2);
report.slower('mint_pat in one transaction', m('mint'), 'the bare INSERT', m('insert'), us, 2);
report.faster('', m('mint'), 'hand-written', m('mint by hand'), us);
report.faster('get_settings, 5 settings, 2 of them the user\'s, 1 overridden', m('settings'), 'the same merge in PL/pgSQL', m('settings by hand'), us);
const JUDGED_IN = { 'gate anon': 1, 'gate a login with a session': 1, 'gate a JWT': 3, 'gate an opaque token': 5 };
for (const name of Object.keys(results).filter((name) => name.startsWith('gate '))) {
  const who = name.slice(5);
  report.figure(`the judgement, ${who}`, m(name), us, JUDGED_IN[name]);
  if (results[`guard ${who}`]) report.figure('the same, by the guard', m(`guard ${who}`), us, JUDGED_IN[name]);
  if (name === 'gate a JWT') report.faster('', m(name), 'the check of the key alone, by hand', m('gate, by hand'), us);
}
const reaches = (what, name, other, bound) => {
  report.reaches(what, m(`rest ${name}`), other, m(`rest ${other}`), m(`rest ${name} / ${other}`), bound);
};
// The REST server makes two round trips more for any pre-request function: to call it, and to ask what it has set.
const NO_OP = 'a function that does nothing';
reaches('REST requests, policy + guard, addresses and a limit', 'policy + guard, addresses and a limit', 'neither', 0.97);
for (const name of ['policy + guard', 'guard', 'guard, a JWT with scopes', 'guard, an opaque token']) reaches(`the same, ${name}`, name, 'neither');
reaches('the same, policy + guard, 100,000 tokens in turn', 'policy + guard, 100,000 tokens in turn', 'policy + guard', 0.9);
reaches('the same, policy + gate', 'policy + gate', 'neither');
reaches('', 'policy + gate', NO_OP);
reaches('the same, policy alone', 'policy', 'neither');
reaches(`the same, ${NO_OP}`, NO_OP, 'neither');
for (const name of ['gate', 'policy + gate, addresses and a limit', 'by hand']) {
  reaches(`the same, ${name}`, name, 'neither');
  reaches('', name, NO_OP);
}

report.figure('a query by a token with scopes costs more by', m('query short, scopes - unlimited'), us, 5);
report.slower('a query of 1 ms by a token with scopes', m('query of 1 ms, scopes') / 1000, 'without a list', m('query of 1 ms, unlimited') / 1000, ms, 1.02);
report.reaches('pgbench -S, the library preloaded and not used', m('pgbench with'), 'without it', m('pgbench without'), m('pgbench with / without'), 0.99);

/** What the README says of it. */
const inPlainWords = () => {
  const times = (name, other) => (m(name) / m(other)).toPrecision(3);
  const micros = (name) => `${m(name).toFixed(1)} µs`;
  const rates = ['guard', 'policy + guard', 'guard, an opaque token', 'guard, a JWT with scopes', 'policy + guard, addresses and a limit']
    .map((name) => Math.round(m(`rest ${name} / neither`) * 100));
  return `- A scan under \`pat.uid() = user_id and is_valid_api_token()\` takes ${times('todos ours', 'todos literal')} times as long as under a literal; a
  check written by hand takes ${times('todos hand-written', 'todos literal')} times as long, or ${times('todos hand-written, with (select …)', 'todos literal')} inside \`(select …)\`.
- A guarded REST server answers ${Math.min(...rates)} to ${Math.max(...rates)} requests, by the kind of token, while one without the guard answers 100.
  The guard takes ${micros('guard a login with a session')} for a login, ${micros('guard a JWT')} for a token that is a JWT, and ${micros('guard an opaque token')} for an opaque one.
- The first check of a request takes ${micros('fresh check 1000 keys')} with 1,000 tokens and ${micros(`fresh check ${manyKeys} keys`)} with ${many}, if the connection knows the token.

\`make bench\` measures [all of it](docs/benchmarks.md); this was on two cores of a shared machine.`;
};

const measuredOn = `medians of ${rounds} rounds (3 of the hand-written scans), Postgres ${version}, ${cpus().length} cores, ${cpus()[0].model}`;
console.log(`\n${measuredOn}\n\n${report.text()}`);

if (process.env.PUBLISH === '1') {
  replaceSection(page, section, `\nIn one run: ${measuredOn}.\n\n${report.markdown()}\n`);
}
// The curves and the README's figures are those of the Postgres that is taken unless another is named.
if (process.env.PUBLISH === '1' && major === '15') {
  replaceSection(join(root, 'README.md'), 'benchmarks', `\n${inPlainWords()}\n`);
  const points = (names, xs, at) => names.flatMap(([series, name]) => xs.map((x) => ({ series, x, y: m(at(name, x)) })));
  await drawCurves(join(root, 'docs', 'scan.svg'), {
    title: 'A scan under a policy', subtitle: measuredOn, x: 'rows in the table, of which a tenth is the user\'s', y: 'milliseconds',
    points: points(Object.keys(policies).map((name) => [name, name]), [...fewerRows, rowsInTable],
      (name, rows) => `${rows === rowsInTable ? 'todos' : `todos_${rows}`} ${name}`),
  });
  await drawCurves(join(root, 'docs', 'check.svg'), {
    title: 'is_valid_api_token(), the first in a statement', subtitle: measuredOn, x: 'keys in the table', y: 'microseconds',
    points: points([['hand-written, same request', 'check by hand'], ['ours, another request', 'fresh check'], ['ours, same request', 'check']],
      [...fewerKeys, manyKeys], (name, count) => `${name} ${count} keys`),
  });
}
