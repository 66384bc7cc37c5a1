// Measures what becomes of the costs when there is much of something: tokens in the table, tokens in use at once, and
// requests for a while. It prints tables; with PUBLISH=1 they go into docs/benchmarks.md, and the curve into docs/scale.svg.
// KEYS=10000000 tokens in the table at most, ROUNDS=5; ACTIVE=100000 of them in use, so many that make a request each
// within a minute; RATE=1000 requests a second, SECONDS=600 long.
import { execFileSync } from 'node:child_process';
import { cpus } from 'node:os';
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { setTimeout as sleep } from 'node:timers/promises';
import { memoryOf } from '../tests/e2e/memory.mjs';
import { Cluster, RestServer } from '../tests/cluster/cluster.mjs';
import { Connection } from './connection.mjs';
import { drawCurves } from './plots.mjs';
import { markdownTable, ms, plainTable, replaceSection, us } from './report.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const number = (name, usual) => {
  const given = Number(process.env[name] ?? usual);
  if (!Number.isSafeInteger(given) || given < 1) throw new Error(`${name} has to be a whole number from 1 on, not ${process.env[name]}`);
  return given;
};
const KEYS = number('KEYS', 10_000_000);
const ROUNDS = number('ROUNDS', 5);
const ACTIVE = Math.min(number('ACTIVE', 100_000), KEYS);
const RATE = number('RATE', 1_000);
const SECONDS = number('SECONDS', 600);
/** How many tokens each user has, and how many rows of their own. */
const EACH = 20;
/** How many tokens, or users, are taken in turn, of which a connection keeps the places; and how many where it keeps too few
 * of them to matter: it has room for 4,096, and each is used once a round. */
const SAMPLE = Math.min(1_000, Math.floor(KEYS / EACH));
const UNKNOWN = Math.min(20_000, Math.floor(KEYS / EACH));
/** Connections of the REST server to Postgres, and of those who ask it. */
const [POOL, CLIENTS] = [10, 64];
const SECRET = 'the-secret-of-the-benchmark-is-long-enough';

const say = (text) => process.stderr.write(`${text}\n`);
const count = (n) => n.toLocaleString('en');
const mib = (bytes) => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
const ordered = (values) => [...values].sort((a, b) => a - b);
const at = (values, share) => values[Math.min(values.length - 1, Math.floor(values.length * share))];
const median = (values) => at(ordered(values), 0.5);
const latencies = (values) => {
  const sorted = ordered(values);
  return values.length === 0 ? ['', '', '', '', ''] : [count(values.length), ...[0.5, 0.99, 0.999, 1].map((share) => ms(at(sorted, share)))];
};

/** In one of ten they are opaque. In one of ten there is a quota of a month, in two a limit that is kept in memory alone. */
const KIND = (n) => `case when ${n} % 10 = 0 then 'opaque' else 'jwt' end`;
const userOf = (n) => `md5('user' || ${n} / ${EACH})::uuid`;

const cluster = await Cluster.start({
  settings: {
    shared_preload_libraries: 'supabase_pat', 'supabase_pat.jwt_secret': SECRET, 'supabase_pat.trusted_proxies': '1',
    'supabase_pat.max_keys_per_user': '1000', 'supabase_pat.notices': '', shared_buffers: KEYS > 1_000_000 ? '4GB' : '512MB',
    max_wal_size: '8GB', jit: 'off', synchronous_commit: 'off', fsync: 'on', autovacuum: 'off', max_parallel_workers_per_gather: '0',
  },
});
cluster.psql('postgres', 'create extension supabase_pat; select pat.install_auth_schema()');
const db = await cluster.connect('postgres');
const rows = async (sql, parameters) => (await db.query(sql, parameters)).rows;
const value = async (sql, parameters) => Object.values((await rows(sql, parameters))[0])[0];
await db.query(readFileSync(join(here, 'time_of.sql'), 'utf8'));
await db.query(`
  create table notes (user_id uuid, title text);
  create index on notes (user_id);
  alter table notes enable row level security;
  create policy owners on notes using (pat.uid() = user_id and is_valid_api_token());
  grant select on notes to authenticated`);
const version = await value('show server_version');
const tables = [];
/** Where fewer requests were answered than were due, times are those of a queue. */
const late = [];
const rated = (what, wanted, reached) => {
  if (reached < 0.95 * wanted) late.push(`${what}: ${reached.toFixed(0)} requests a second instead of ${wanted.toFixed(0)}`);
  return reached.toFixed(0);
};

const points = await costCurves();
await manyAtOnce();
await forAWhile();

const measuredOn = `Postgres ${version}, ${cpus().length} cores, ${cpus()[0].model}`;
console.log(`\n${measuredOn}`);
for (const { title, table } of tables) console.log(`\n${title}\n\n${plainTable(table)}`);
if (late.length > 0) console.log(`\nThe machine did not keep up, so the times are those of a queue. ${late.join('; ')}`);
await db.end();
cluster.stop();
if (process.env.PUBLISH === '1' && late.length > 0) {
  process.exitCode = 1;
} else if (process.env.PUBLISH === '1') {
  const docs = join(here, '..', 'docs');
  replaceSection(join(docs, 'benchmarks.md'), 'scale',
    `\nIn one run: ${measuredOn}.\n${tables.map(({ title, table }) => `\n${title}:\n\n${markdownTable(table)}\n`).join('')}\n![What grows with the tokens in the table](scale.svg)\n`);
  await drawCurves(join(docs, 'scale.svg'), {
    title: 'What grows with the tokens in the table', subtitle: `medians of ${ROUNDS} rounds, ${measuredOn}`,
    x: 'tokens in the table', y: 'microseconds', points,
  });
}

/** Fills the table up to each size, and measures there. Returns the points of the curves. */
async function costCurves() {
  const sizes = [1_000, 10_000, 100_000, 1_000_000].filter((size) => size < KEYS && size >= SAMPLE).concat(KEYS);
  const curves = {};
  let filled = 0;
  for (const size of sizes) {
    say(`${count(size)} tokens`);
    await db.query(`
      insert into auth.users (id, email)
        select md5('user' || n)::uuid, 'user' || n || '@example.com' from generate_series(${Math.ceil(filled / EACH)}, ${Math.ceil(size / EACH) - 1}) n;
      insert into pat.api_keys (id, user_id, name, expires_at, kind, token_digest, rate_limit, rate_window, quota, quota_window)
        select md5('token' || n)::uuid, ${userOf('n')}, 'x', '2100-01-01', ${KIND('n')},
          case when n % 10 = 0 then sha256(n::text::bytea) end,
          case when n % 10 in (1, 2) then 2000000000 end, case when n % 10 in (1, 2) then interval '1 hour' end,
          case when n % 10 = 3 then 2000000000 end, case when n % 10 = 3 then interval '31 days' end
        from generate_series(${filled}, ${size - 1}) n;
      analyze auth.users, pat.api_keys`);
    await db.query('checkpoint');
    filled = size;
    for (let round = 0; round < ROUNDS; round += 1) {
      for (const [name, micros] of Object.entries(await costs(size))) ((curves[name] ??= {})[size] ??= []).push(micros);
    }
  }
  const table = [['', ...sizes.map((size) => `${count(size)} tokens`)]];
  const found = [];
  for (const [series, measured] of Object.entries(curves)) {
    table.push([series, ...sizes.map((size) => us(median(measured[size])))]);
    for (const size of sizes) found.push({ series, x: size, y: median(measured[size]) });
  }
  tables.push({ title: `What a call takes, by the number of tokens in the table (medians of ${ROUNDS} rounds)`, table });
  return found;
}

/** Microseconds of each thing, for other tokens and users in each round. */
async function costs(size) {
  const taken = (count, last) => rows(`select md5('token' || n)::uuid as id, ${userOf('n')} as user_id
    from (select floor(random() * ${size / 10})::int * 10 + ${last} as n from generate_series(1, ${count})) sample`);
  const claimsOf = (tokens) => tokens.map(({ id, user_id }) => JSON.stringify({ type: 'personal_access_token', role: 'authenticated', sub: user_id, jti: id }));
  const sample = await taken(SAMPLE, 5);
  const claims = claimsOf(sample);
  const unique = (list) => [...new Set(list)];
  const [ids, users] = [unique(sample.map(({ id }) => id)), unique(sample.map(({ user_id }) => user_id))];
  const time = (expression, calls, inputs = []) => value('select hand.time_of($1, $2, $3, $4)', [expression, calls, '', inputs]);
  const use = (payload) => db.query(`select set_config('request.jwt.claims', $1, false)`, [payload]);
  const undone = async (work) => {
    await db.query('begin');
    const micros = await work();
    await db.query('rollback');
    return micros;
  };
  const NOTHING = 'pg_backend_pid() = 0';
  const OTHER = `set_config('request.jwt.claims', inputs[1 + i % ${SAMPLE}], false) is not null and `;
  const found = {};

  await use(claims[0]);
  if (await value('select is_valid_api_token()') !== true) throw new Error('a token of the sample is not valid');
  found['the first check of a statement, same request'] = await time('is_valid_api_token()', 100_000) - await time(NOTHING, 100_000);
  found['the same, after another request'] = await time(`${OTHER}is_valid_api_token()`, 20_000, claims) - await time(`${OTHER}${NOTHING}`, 20_000, claims);
  const unknown = Math.min(UNKNOWN, size / 10);
  const ANY = `set_config('request.jwt.claims', inputs[1 + i % ${unknown}], false) is not null and `;
  const others = claimsOf(await taken(unknown, 5));
  found[`the same, ${count(UNKNOWN)} tokens in turn, or a tenth of all`] = await time(`${ANY}is_valid_api_token()`, unknown, others) - await time(`${ANY}${NOTHING}`, unknown, others);
  await use('');
  found['introspect_token, opaque, another each time'] = await undone(async () => {
    const minted = await rows(`select (mint_pat(id, 'look-up', kind => 'opaque')).token from unnest($1::uuid[]) id`, [users]);
    const tokens = minted.map(({ token }) => token);
    if (await value(`select (introspect_token($1) ->> 'active')::boolean`, [tokens[0]]) !== true) throw new Error('an opaque token is not found');
    return time(`introspect_token(inputs[1 + i % ${tokens.length}]) is null`, 20_000, tokens);
  });
  found.mint_pat = await undone(() => time(`(mint_pat(inputs[1 + i % ${users.length}]::uuid, 'minted')).id is null`, users.length, users));
  found.revoke_pat = await undone(() => time(`revoke_pat(inputs[1 + i % ${ids.length}]::uuid) is null`, ids.length, ids));
  found[`a user lists ${EACH} tokens, from the client`] = await listing(users.slice(0, 200));
  return found;
}

async function listing(users) {
  const sessions = await rows('select (pat.decode_jwt((pat.mint_session(id)).access_token)).payload::text as claims from unnest($1::uuid[]) id', [users]);
  const taken = [];
  for (const { claims } of sessions) {
    await db.query('begin');
    await db.query(`select set_config('request.jwt.claims', $1, true), set_config('role', 'authenticated', true)`, [claims]);
    const start = performance.now();
    const listed = await rows('select id, name, scopes, expires_at, is_active, last_used_at from api_keys order by created_at desc');
    taken.push((performance.now() - start) * 1000);
    if (listed.length !== EACH) throw new Error(`a user with ${EACH} tokens sees ${listed.length}`);
    await db.query('rollback');
  }
  await db.query('delete from auth.sessions where user_id = any ($1)', [users]);
  return median(taken);
}

/** Makes requests at their times, `perSecond` of them, and returns for each when it was due, sent and answered, in ms. One
 * that had to wait for a connection was due before it was sent: what it waited counts. */
async function paced(total, perSecond, connections, one) {
  const start = performance.now();
  const made = new Array(total);
  let next = 0;
  await Promise.all(connections.map(async (connection) => {
    while (next < total) {
      const n = next;
      next += 1;
      let due = start + n * 1000 / perSecond;
      const early = due - performance.now();
      // A timer is late by a millisecond or so, which is no waiting of the request's.
      if (early > 0) {
        await sleep(early);
        due = performance.now();
      }
      await one(connection, n);
      made[n] = { n, due, answered: performance.now() };
    }
  }));
  return made;
}

/** Milliseconds of a processor that the background workers have had: those that ended, which the postmaster has waited
 * for, and the one that runs. Backends that end meanwhile would count too. */
function workersTime() {
  const ticks = Number(execFileSync('getconf', ['CLK_TCK'], { encoding: 'utf8' }));
  const postmaster = Number(readFileSync(join(cluster.data, 'postmaster.pid'), 'utf8').split('\n')[0]);
  const times = (pid) => readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ').slice(11, 15).map(Number);
  const [launcher] = cluster.psql('postgres', `select pid from pg_stat_activity where backend_type = 'supabase_pat launcher'`).split('\n');
  const [, , user, system] = times(postmaster);
  const [ownUser, ownSystem] = times(launcher);
  return (user + system + ownUser + ownSystem) * 1000 / ticks;
}

function counted() {
  return value('select coalesce(sum(requests), 0)::int from (select requests from pat.api_key_usage union all select requests from pat.api_key_days) days');
}

/** Waits until so many requests stand in the tables, and returns after how many seconds. */
async function written(expected) {
  const start = performance.now();
  for (;;) {
    const found = await counted();
    if (found === expected) return (performance.now() - start) / 1000;
    if (found > expected || performance.now() > start + 120_000) throw new Error(`${found} requests are counted instead of ${expected}`);
    await sleep(100);
  }
}

/** The place in the table of the token that makes the request with that number, the newest ones first. */
function numberOf(n) {
  return KEYS - 1 - (n % ACTIVE);
}

/** Each of the tokens makes one request, and then another one, straight to Postgres as a REST server would. */
async function manyAtOnce() {
  const perSecond = 100_000 / 60;
  say(`${count(ACTIVE)} tokens in use, at ${count(Math.round(perSecond))} requests a second`);
  const ids = await rows(`select md5('token' || n)::uuid as id, ${userOf('n')} as user_id from generate_series(${KEYS - 1}, ${KEYS - ACTIVE}, -1) n`);
  const connections = await Promise.all(Array.from({ length: 8 }, () => cluster.connect('postgres', 'authenticator')));
  const request = async (connection, n) => {
    const { id, user_id } = ids[n];
    const claims = JSON.stringify({ type: 'personal_access_token', role: 'authenticated', sub: user_id, jti: id });
    await connection.query(`begin; select set_config('search_path', '"public"', true), set_config('role', 'authenticated', true),
      set_config('request.jwt.claims', '${claims}', true), set_config('request.method', 'GET', true), set_config('request.path', '/notes', true),
      set_config('request.headers', '{"x-forwarded-for": "192.0.2.7"}', true); select title from notes; commit`);
  };
  // A request with the claims of an opaque token is one by a JWT for the database: both have the same place.
  const table = [['', 'requests', 'p50', 'p99', 'p99.9', 'longest']];
  const figures = [['', 'first use of each token', 'the next use']];
  const [reached, processor, perToken, after] = [
    ['requests a second'], ['the workers’ CPU time'], ['the same, for 1,000 tokens'], ['all is written, after the last request'],
  ];
  for (const [pass, name] of ['first use', 'next use'].entries()) {
    const watcher = await cluster.connect('postgres');
    const writing = [];
    let isOver = false;
    const watching = (async () => {
      while (!isOver) {
        const before = performance.now();
        const { rowCount } = await watcher.query(`select from pg_stat_activity where backend_type = 'supabase_pat writer'`);
        if (rowCount > 0) writing.push([before - 25, performance.now() + 25]);
        await sleep(25);
      }
    })();
    const timeBefore = workersTime();
    const start = performance.now();
    const made = await paced(ACTIVE, perSecond, connections, request);
    reached.push(rated(name, perSecond, ACTIVE * 1000 / (performance.now() - start)));
    after.push(`${(await written((pass + 1) * ACTIVE)).toFixed(1)} s`);
    const time = workersTime() - timeBefore;
    isOver = true;
    await watching;
    await watcher.end();
    processor.push(`${(time / 1000).toFixed(1)} s`);
    perToken.push(ms(time / ACTIVE * 1000));
    const hasQuota = ({ n }) => numberOf(n) % 10 === 3;
    const taken = (which) => latencies(made.filter(which).map(({ due, answered }) => answered - due));
    const isWhileWriting = ({ due, answered }) => writing.some(([from, to]) => due < to && answered > from);
    table.push(
      [`${name}, while the worker writes`, ...taken((one) => !hasQuota(one) && isWhileWriting(one))],
      [`${name}, while it does not`, ...taken((one) => !hasQuota(one) && !isWhileWriting(one))],
      [`${name}, of tokens with a quota of a month`, ...taken(hasQuota)],
    );
  }
  for (const connection of connections) await connection.end();
  figures.push(reached, processor, perToken, after);
  tables.push({ title: `${count(ACTIVE)} tokens in use, ${count(Math.round(perSecond))} requests a second straight to Postgres`, table: figures });
  tables.push({ title: 'How long these requests take, of which each has a transaction and four statements', table });
}

/** Requests through the REST server, of all tokens in turn, at a steady rate. */
async function forAWhile() {
  const total = RATE * SECONDS;
  say(`${count(RATE)} requests a second for ${SECONDS} s`);
  // As a server in production: what is dead is cleared away.
  cluster.configure({ autovacuum: 'on', log_autovacuum_min_duration: '0' });
  cluster.control('reload');
  cluster.psql('postgres', `alter role authenticator password '${cluster.password}'`);
  await db.query(`
    insert into notes select user_id, 'note ' || i from (select distinct ${userOf('n')} as user_id from generate_series(${KEYS - ACTIVE}, ${KEYS - 1}) n) users,
      generate_series(1, ${EACH}) i`);
  await db.query('vacuum analyze notes');
  await db.query('checkpoint');
  const tokens = (await rows(`select pat.sign_jwt(jsonb_build_object('type', 'personal_access_token', 'role', 'authenticated', 'sub', ${userOf('n')},
    'jti', md5('token' || n)::uuid), '1 day') as token from generate_series(${KEYS - 1}, ${KEYS - ACTIVE}, -1) n`)).map(({ token }) => token);
  // Those of the opaque ones are known only to whoever minted them, so others take their places.
  const opaque = (await rows(`select (mint_pat(user_id, 'opaque', kind => 'opaque')).token from (
    select ${userOf('n')} as user_id from generate_series(${KEYS - 1}, ${KEYS - ACTIVE}, -1) n where n % 10 = 0 limit 5000) users`)).map(({ token }) => token);
  const anonKey = await value(`select pat.mint_api_key('anon')`);
  const rest = await RestServer.start(cluster.url('postgres', 'authenticator', cluster.password), SECRET, { env: { PGRST_DB_POOL: String(POOL) } });
  const connections = await Promise.all(Array.from({ length: CLIENTS }, () => Connection.open(rest.port)));
  const request = async (connection, n) => {
    const isOpaque = numberOf(n) % 10 === 0 && opaque.length > 0;
    const jwt = isOpaque ? anonKey : tokens[n % ACTIVE];
    const { status, body } = await connection.ask(`GET /api/notes?select=title HTTP/1.1\r\nhost: example.com\r\nx-forwarded-for: 192.0.2.7\r\napikey: ${anonKey}\r\n`
      + `authorization: Bearer ${jwt}\r\n${isOpaque ? `x-api-key: ${opaque[n % opaque.length]}\r\n` : ''}\r\n`);
    if (status !== 200 || JSON.parse(body).length !== EACH) throw new Error(`the REST server answers ${status} ${body.slice(0, 300)}`);
  };
  // All connections are there, and each backend has done what it does once.
  await paced(CLIENTS * POOL, RATE, connections, request);
  await sleep(6000);

  const RELATIONS = ['pat.api_key_usage', 'pat.api_key_days', 'pat.api_key_counters', 'pat.events', 'pat.api_keys'];
  const look = async () => {
    const backends = await rows(`select pid from pg_stat_activity where usename = 'authenticator'`);
    const sizes = {};
    for (const name of RELATIONS) {
      // As they are, and not as they were last told to the statistics.
      sizes[name] = await value('select pg_total_relation_size($1::regclass)::float8', [name]);
    }
    return {
      counted: await counted(), backends: backends.length, memory: backends.reduce((sum, { pid }) => sum + memoryOf(pid), 0) * 1024,
      shared: await value(`select sum(allocated_size)::float8 from pg_shmem_allocations where name like 'supabase_pat%'`),
      wal: await value(`select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8`), sizes,
    };
  };
  const before = await look();
  const timeBefore = workersTime();
  const start = performance.now();
  const made = await paced(total, RATE, connections, request);
  const seconds = (performance.now() - start) / 1000;
  const wait = await written(before.counted + total);
  const time = workersTime() - timeBefore;
  const after = await look();
  for (const connection of connections) connection.close();
  rest.stop();

  const taken = made.map(({ due, answered }) => answered - due);
  tables.push({
    title: `${count(RATE)} requests a second for ${SECONDS} s through the REST server with the guard, ${count(ACTIVE)} tokens in turn`,
    table: [['', 'before', 'after'],
      ['requests a second', '', rated('through the REST server', RATE, total / seconds)],
      ...['p50', 'p99', 'p99.9', 'the longest'].map((name, place) => [`an answer takes, ${name}`, '', latencies(taken)[place + 1]]),
      ['counted in the tables, after the last answer', '', `all, ${wait.toFixed(1)} s`],
      [`memory of their own of the ${after.backends} backends`, mib(before.memory), mib(after.memory)],
      ['shared memory of the extension', mib(before.shared), mib(after.shared)],
      ...RELATIONS.map((name) => [`${name}, with its indexes`, mib(before.sizes[name]), mib(after.sizes[name])]),
      ['WAL written', '', mib(after.wal - before.wal)],
      ['the same, for a request', '', `${((after.wal - before.wal) / total).toFixed(0)} bytes`],
      ['the workers’ CPU time, with autovacuum', '', `${(time / 1000).toFixed(1)} s`],
    ],
  });
}
