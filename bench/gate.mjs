// Measures the gate and the guard on a cluster of its own, which is preloaded as it should be where they stand: what a
// call costs within a backend, and what they leave of the requests a second of a REST server.
import { readFileSync } from 'node:fs';
import { Cluster, RestServer } from '../tests/cluster/cluster.mjs';
import { Connection } from './connection.mjs';

const SECRET = 'the-secret-of-the-benchmark-is-long-enough';
const USER = '11111111-1111-1111-1111-111111111111';
const ROWS = 20;
/** In a round each token is measured so often, for so many calls. */
const TIMES = 3;
const CALLS = 2_000;
const CONNECTIONS = 16;
/** How many different tokens make requests in turn. */
const MANY = 100_000;
/** In a round each variant is measured so often, for so many milliseconds. */
const SLICES = 6;
const SLICE = 100;

const SETUP = `
  insert into auth.users (id, email, raw_app_meta_data, raw_user_meta_data)
    values ('${USER}', 'alice@example.com', '{"provider": "email", "providers": ["email"]}', '{"name": "Alice"}');
  insert into auth.users (id) select gen_random_uuid() from generate_series(1, 20000);
  insert into pat.api_keys (id, user_id, name, expires_at)
    select gen_random_uuid(), u.id, 'x', '2100-01-01' from auth.users u limit 1000;

  create table plain as select i as id, '${USER}'::uuid as user_id, 'todo ' || i as title from generate_series(1, ${ROWS}) i;
  insert into plain select i, '22222222-2222-2222-2222-222222222222', 'todo ' || i from generate_series(${ROWS + 1}, ${2 * ROWS}) i;
  alter table plain enable row level security;
  create table checked as table plain;
  alter table checked enable row level security;
  create policy owners on plain using ('${USER}'::uuid = user_id);
  create policy owners on checked using (pat.uid() = user_id and is_valid_api_token());
  grant select on plain, checked to authenticated;
  grant usage on schema hand to anon, authenticator;
  create table thousands as select i as id, i % 97 as n from generate_series(1, 12000) i;
  grant select on thousands to authenticated;
  grant usage on schema hand to authenticated;
  -- Planned anew each time, as most REST servers have it.
  create function hand.repeated(statement text, times int) returns float language plpgsql as $$
  declare
    start timestamptz := clock_timestamp();
  begin
    for i in 1..times loop
      execute statement;
    end loop;
    return extract(epoch from clock_timestamp() - start) * 1e6 / times;
  end $$;
  grant execute on function hand.repeated(text, int) to authenticated;
  create role guarded login noinherit;
  grant anon, authenticated, service_role to guarded;
  grant usage on schema hand to guarded;`;

/** What supabase-js sends from a server, and a proxy adds: 750 to 1,000 bytes as JSON, most of it tokens. */
const headersFor = (anonKey, { token = anonKey, opaque }) => ({
  accept: 'application/json', 'accept-encoding': 'gzip, deflate', 'accept-language': '*', 'accept-profile': 'public',
  apikey: anonKey, authorization: `Bearer ${token}`, host: 'example.supabase.co', 'sec-fetch-mode': 'cors', 'user-agent': 'node',
  ...(opaque ? { 'x-api-key': opaque } : {}),
  'x-client-info': 'supabase-js-node/2.45.4', 'x-forwarded-for': '192.0.2.7', 'x-forwarded-proto': 'https', 'x-real-ip': '192.0.2.7',
});

/**
 * Notes `gate …` and `guard …`, microseconds a request; `rest …`, requests a second; and `rest … / …`, two of those as a ratio,
 * measured within a second, so that what else the machine does meanwhile concerns both.
 */
export async function measureGate(rounds, note, say) {
  const cluster = await Cluster.start({
    settings: {
      shared_preload_libraries: 'supabase_pat', 'supabase_pat.jwt_secret': SECRET, 'supabase_pat.trusted_proxies': '1',
      'supabase_pat.flush_interval': '1s', 'supabase_pat.guarded_logins': 'guarded', autovacuum: 'off', jit: 'off', synchronous_commit: 'off',
      // Leases are put on disk.
      fsync: 'on',
    },
  });
  cluster.psql('postgres', 'create database bench');
  const db = await cluster.connect('bench');
  await db.query(readFileSync(new URL('setup.sql', import.meta.url), 'utf8'));
  await db.query(SETUP);
  const value = async (sql, parameters = []) => Object.values((await db.query(sql, parameters)).rows[0])[0];
  const mint = (name, more = '') => value(`select (mint_pat('${USER}', '${name}'${more})).token`);
  const LIMITS = `allowed_ips => '{192.0.2.0/24}', rate_limit => 100000000, rate_window => '23 hours'`;
  const anonKey = await value(`select pat.mint_api_key('anon')`);
  const tokens = {
    anon: {},
    'a login with a session': { token: await value(`select access_token from pat.mint_session('${USER}')`) },
    'a JWT': { token: await mint('jwt') },
    'a JWT with scopes, read-only': { token: await mint('scopes', `, scopes => '{plain:read,checked:read,thousands:read}'`) },
    'a JWT with addresses and a limit': { token: await mint('limits', `, ${LIMITS}`) },
    'a JWT with a limit and a quota of a day': { token: await mint('quota', `, rate_limit => 100000000, rate_window => '1 hour', quota => 1000000000`) },
    'an opaque token': { opaque: await mint('opaque', `, kind => 'opaque'`) },
    'an opaque token with addresses and a limit': { opaque: await mint('opaque limits', `, kind => 'opaque', ${LIMITS}`) },
    'a JWT with live claims': { token: await mint('live'), liveClaims: true },
  };
  await db.query('insert into hand.api_keys select * from pat.api_keys');
  await db.query('vacuum analyze');
  for (const token of Object.values(tokens)) token.headers = headersFor(anonKey, token);

  await measureCalls(cluster, db, value, tokens, rounds, note, say);
  await measureScopes(db, value, tokens, rounds, note, say);
  const many = await manyTokens(db);
  await measureOthers(db, value, tokens['a JWT'], many, rounds, note, say);
  await db.end();
  await measureRequests(cluster, tokens, many, rounds, note, say);
  // Each token has been seen as one, and the worker has been at work.
  const unused = cluster.psql('bench', `select string_agg(name, ', ') from pat.api_keys key
    where name not in ('x', 'many') and not exists (select from pat.api_key_usage where key_id = key.id)`);
  if (unused !== '') throw new Error(`never used: ${unused}`);
  cluster.stop();
}

/**
 * A procedure that announces requests and calls a function in each. Each is a transaction of its own, as a request is:
 * what is set there is undone at its end.
 */
const procedure = (name, parameters, loop, pre_request) => `create procedure hand.${name}(calls int, headers text, ${parameters}, inout micros float)
  language plpgsql as $$
  declare
    start timestamptz := clock_timestamp();
    claims text;
  begin
    ${loop} loop
      perform set_config('role', role, true), set_config('request.method', 'GET', true), set_config('request.path', '/checked', true),
        set_config('request.headers', headers, true), set_config('request.jwt.claims', claims, true);
      perform ${pre_request}();
      commit;
    end loop;
    micros := extract(epoch from clock_timestamp() - start) * 1e6 / calls;
  end $$`;

/**
 * Microseconds that a pre-request function takes in a transaction that is otherwise the same, and those that the guard
 * takes: the same transaction of a login that is guarded, less that of one that is not.
 */
async function measureCalls(cluster, db, value, tokens, rounds, note, say) {
  const FUNCTIONS = { nothing: 'pg_backend_pid', gate: 'pat.gate', by_hand: 'hand.check_token' };
  for (const [name, pre_request] of Object.entries(FUNCTIONS)) {
    const loop = 'claims := given; for i in 1..calls';
    await db.query(procedure(`requests_to_${name}`, 'given text, role text', loop, pre_request));
  }
  const requestOf = async ({ token, headers }) => {
    const claims = token ? await value('select hand.claims($1)', [token]) : { role: 'anon' };
    return [JSON.stringify(headers), JSON.stringify(claims), claims.role];
  };
  const timeOf = async (client, name, request) => {
    const { rows: [row] } = await client.query(`call hand.requests_to_${name}($1, $2, $3, $4, null)`, [CALLS, ...request]);
    return Number(row.micros);
  };
  const time = (name, request) => timeOf(db, name, request);
  const logins = { guarded: await cluster.connect('bench', 'guarded'), unguarded: await cluster.connect('bench', 'authenticator') };
  say('the gate and the guard');
  for (let round = 0; round < rounds; round += 1) {
    for (const [name, token] of Object.entries(tokens)) {
      const request = await requestOf(token);
      await db.query(`set supabase_pat.live_claims = ${token.liveClaims ? 'on' : 'off'}`);
      for (let again = 0; again < TIMES; again += 1) {
        const nothing = await time('nothing', request);
        note(`gate ${name}`, await time('gate', request) - nothing);
        if (name === 'a JWT') note('gate, by hand', await time('by_hand', request) - nothing);
        // A login cannot set that for itself.
        if (token.liveClaims) continue;
        const unguarded = await timeOf(logins.unguarded, 'nothing', request);
        note(`guard ${name}`, await timeOf(logins.guarded, 'nothing', request) - unguarded);
      }
    }
  }
  for (const client of Object.values(logins)) await client.end();
}

/** Microseconds of the gate for a token that the connection has not seen before. */
async function measureOthers(db, value, { headers }, many, rounds, note, say) {
  await db.query(`create table hand.many (number int primary key, claims text)`);
  await db.query(`insert into hand.many select number, hand.claims(token)::text from unnest($1::text[]) with ordinality as given (token, number)`, [many]);
  await db.query('vacuum analyze hand.many');
  const loop = 'for claims in select many.claims from hand.many where number > after order by number limit calls';
  for (const [name, pre_request] of [['nothing', 'pg_backend_pid'], ['gate', 'pat.gate']]) {
    await db.query(procedure(`others_to_${name}`, 'after int, role text', loop, pre_request));
  }
  const time = async (name, after) => Number(await value(`call hand.others_to_${name}($1, $2, $3, 'authenticated', null)`, [CALLS, JSON.stringify(headers), after]));
  say('the gate, with other tokens each time');
  for (let turn = 0; turn < rounds * TIMES; turn += 1) {
    const after = (turn * CALLS) % MANY;
    const nothing = await time('nothing', after);
    note('gate a JWT that is new to the connection', await time('gate', after) - nothing);
  }
}

/** Microseconds of a query under a token with scopes and under one without a list. */
async function measureScopes(db, value, tokens, rounds, note, say) {
  const QUERIES = { short: ['select title from plain where id = 1', 3_000], 'of 1 ms': ['select sum(n) from thousands', 300] };
  const time = async (token, [statement, times]) => {
    const claims = await value('select hand.claims($1)', [token.token]);
    await db.query('begin');
    await db.query(`select set_config('role', 'authenticated', true), set_config('request.method', 'GET', true), set_config('request.path', '/plain', true),
      set_config('request.headers', $1, true), set_config('request.jwt.claims', $2, true)`, [JSON.stringify(token.headers), JSON.stringify(claims)]);
    await db.query('select pat.gate()');
    const micros = Number(await value('select hand.repeated($1, $2)', [statement, times]));
    await db.query('rollback');
    return micros;
  };
  say('queries of a token with scopes');
  for (let round = 0; round < rounds * TIMES; round += 1) {
    for (const [name, query] of Object.entries(QUERIES)) {
      const unlimited = await time(tokens['a JWT'], query);
      const limited = await time(tokens['a JWT with scopes, read-only'], query);
      note(`query ${name}, unlimited`, unlimited);
      note(`query ${name}, scopes`, limited);
      note(`query ${name}, scopes - unlimited`, limited - unlimited);
    }
  }
}

/** So many tokens of one user. They are not minted one by one: each minting counts all that there are. */
async function manyTokens(db) {
  const { rows } = await db.query(`
    with made as (insert into pat.api_keys (id, user_id, name, expires_at)
      select gen_random_uuid(), '${USER}', 'many', '2100-01-01' from generate_series(1, ${MANY}) returning id)
    select pat.sign_jwt(jsonb_build_object('type', 'personal_access_token', 'role', 'authenticated', 'sub', '${USER}', 'jti', id), '1 day') as token
    from made`);
  await db.query('vacuum analyze pat.api_keys');
  return rows.map((row) => row.token);
}

/**
 * Requests a second for 20 rows. What limits them is the processor: on a machine of two cores, backends, the REST
 * server and this process keep both busy, so that nothing that a variant takes can hide in waiting. This
 * process does a twelfth of the work, since it reads and writes the sockets itself.
 */
async function measureRequests(cluster, tokens, many, rounds, note, say) {
  const LOGINS = ['authenticator', 'guarded'];
  for (const login of LOGINS) cluster.psql('bench', `alter role ${login} password '${cluster.password}'`);
  const TOKEN = tokens['a JWT'].token;
  const variant = async (table, preRequest, { headers } = tokens['a JWT'], login = LOGINS[0], several = undefined) => {
    const url = cluster.url('bench', login, cluster.password);
    const rest = await RestServer.start(url, SECRET, { env: preRequest ? { PGRST_DB_PRE_REQUEST: preRequest } : {} });
    const lines = Object.entries(headers).map(([name, text]) => `${name}: ${text}\r\n`);
    const one = `GET /api/${table}?select=id,title HTTP/1.1\r\n${lines.join('')}\r\n`;
    let place = 0;
    const request = () => (several ? one.replace(TOKEN, several[(place += 1) % several.length]) : one);
    const connections = await Promise.all(Array.from({ length: CONNECTIONS }, () => Connection.open(rest.port)));
    return { rest, request, connections };
  };
  const variants = {
    neither: await variant('plain'),
    'a function that does nothing': await variant('plain', 'pg_catalog.pg_backend_pid'),
    policy: await variant('checked'),
    gate: await variant('plain', 'pat.gate'),
    'policy + gate': await variant('checked', 'pat.gate'),
    'policy + gate, addresses and a limit': await variant('checked', 'pat.gate', tokens['a JWT with addresses and a limit']),
    guard: await variant('plain', undefined, undefined, 'guarded'),
    'policy + guard': await variant('checked', undefined, undefined, 'guarded'),
    'policy + guard, addresses and a limit': await variant('checked', undefined, tokens['a JWT with addresses and a limit'], 'guarded'),
    'policy + guard, 100,000 tokens in turn': await variant('checked', undefined, undefined, 'guarded', many),
    'guard, a JWT with scopes': await variant('plain', undefined, tokens['a JWT with scopes, read-only'], 'guarded'),
    'guard, an opaque token': await variant('plain', undefined, tokens['an opaque token'], 'guarded'),
    'by hand': await variant('plain', 'hand.check_token'),
  };
  const run = async ({ request, connections }, milliseconds) => {
    const start = performance.now();
    const counts = await Promise.all(connections.map(async (connection) => {
      let count = 0;
      for (; performance.now() < start + milliseconds; count += 1) checkAnswer(await connection.ask(request()));
      return count;
    }));
    return counts.reduce((sum, count) => sum + count) * 1000 / (performance.now() - start);
  };
  say('requests through the REST server');
  for (const one of Object.values(variants)) await run(one, 5 * SLICE);
  const names = Object.keys(variants);
  for (let slice = 0; slice < rounds * SLICES; slice += 1) {
    const rates = {};
    // In another order each time, so that none always follows the same one.
    for (const name of shuffled(names)) rates[name] = await run(variants[name], SLICE);
    for (const name of names) {
      note(`rest ${name}`, rates[name]);
      for (const other of ['neither', 'a function that does nothing', 'policy + guard']) note(`rest ${name} / ${other}`, rates[name] / rates[other]);
    }
  }
  for (const { rest, connections } of Object.values(variants)) {
    for (const connection of connections) connection.close();
    rest.stop();
  }
}

function shuffled(list) {
  return list.map((item) => [Math.random(), item]).sort(([a], [b]) => a - b).map(([, item]) => item);
}

function checkAnswer({ status, body }) {
  if (status !== 200 || JSON.parse(body).length !== ROWS) throw new Error(`the REST server answers ${status} ${body}`);
}
