// Random sequences of the protocol on a connection of a guarded login, against a model of which statement runs as whom:
// simple queries of several statements, the extended protocol with messages one upon another, errors in the middle,
// savepoints, settings of the transaction and of the session. SECONDS to look for longer, SEED to repeat a run.
import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { after, before, test } from 'node:test';
import Connection from 'pg/lib/connection.js';
import { ALICE, BOB, startCluster } from './fixture.mjs';

const SECONDS = Number(process.env.SECONDS ?? 8);
const SEED = Number(process.env.SEED ?? randomInt(2 ** 31));
const NOTHING = { role: 'none', claims: '', method: '', headers: '' };
const SETTING = { claims: 'request.jwt.claims', method: 'request.method', headers: 'request.headers' };
const REFUSED = 'PT401';
const TOO_LATE = 'PT403';
const ABORTED = '25P02';

let cluster;
let tokens;
before(async () => {
  cluster = await startCluster({
    settings: { 'supabase_pat.max_keys_per_user': 100 },
    sql: `
      create function whoami() returns text language sql stable as $$
        select concat_ws(' ', current_user, nullif(current_setting('request.jwt.claims', true), '')::json ->> 'sub') $$;
      create function nested_whoami() returns text language plpgsql as $$ begin return (select whoami()); end $$;`,
  });
  const admin = await cluster.connect('postgres');
  tokens = [];
  for (const [user, kind, isLive] of [[ALICE, 'jwt', true], [BOB, 'jwt', true], [ALICE, 'jwt', false], [ALICE, 'opaque', true], [BOB, 'opaque', false]]) {
    const { rows: [{ id, token }] } = await admin.query(
      `select id, token from mint_pat(user_id => $1, name => 'test', kind => $2)`, [user, kind]);
    if (!isLive) await admin.query('select revoke_pat($1)', [id]);
    const claims = kind === 'jwt' ? Buffer.from(token.split('.')[1], 'base64url').toString() : '{"role": "anon"}';
    tokens.push({
      user, isLive, isOpaque: kind === 'opaque', claims, role: kind === 'jwt' ? 'authenticated' : 'anon',
      headers: kind === 'jwt' ? '{}' : JSON.stringify({ 'x-api-key': token }),
    });
  }
  // A login, and a request of nobody's.
  tokens.push({ user: BOB, isLive: true, isOpaque: false, role: 'authenticated', headers: '{}', claims: JSON.stringify({ sub: BOB, role: 'authenticated' }) });
  tokens.push({ isLive: true, isOpaque: false, role: 'anon', headers: '{}', claims: '{"role": "anon"}' });
  await admin.end();
});
after(() => cluster.stop());

/** Numbers that a seed gives again (mulberry32). */
function random(seed) {
  let state = seed;
  const next = () => {
    state = (state + 0x6D2B79F5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
  const below = (n) => Math.floor(next() * n);
  return { below, of: (list) => list[below(list.length)], chance: (p) => next() < p };
}

const literal = (text) => `'${text.replaceAll("'", "''")}'`;

/** What the server should do. A request is what the settings say; `judged` is the one that has been judged. */
class Model {
  constructor() {
    this.session = { ...NOTHING };
    this.levels = null;
    this.isAborted = false;
  }

  get now() { return this.levels ? this.levels.at(-1).settings : this.session; }

  /** Runs a statement; returns the codes and rows that it gives. */
  run(statement) {
    if (this.isAborted && !['rollback', 'commit', 'rollback to'].includes(statement.what)) return { error: ABORTED };
    const isImplicit = this.levels === null;
    if (isImplicit) this.levels = [{ settings: { ...this.session }, sets: {}, judged: null }];
    const outcome = this.apply(statement);
    if (outcome.error) {
      this.isAborted = true;
      if (isImplicit) this.end(false);
    } else if (isImplicit && !['begin'].includes(statement.what)) {
      this.end(true);
    }
    return outcome;
  }

  end(isCommit) {
    // What is set for the session stays if the transaction does.
    if (isCommit && this.levels) for (const level of this.levels) Object.assign(this.session, level.sets);
    this.levels = null;
    this.isAborted = false;
  }

  apply({ what, token, name, value, scope }) {
    const top = this.levels.at(-1);
    const set = (settings) => { top.settings = { ...top.settings, ...settings }; };
    switch (what) {
      case 'begin':
        return {};
      case 'commit':
        this.end(!this.isAborted);
        return {};
      case 'rollback':
        this.end(false);
        return {};
      case 'savepoint':
        this.levels.push({ ...top, sets: {} });
        return {};
      case 'rollback to':
        if (this.levels.length === 1) return { error: this.isAborted ? '3B001' : '3B001' };
        this.levels.pop();
        this.levels.push({ ...this.levels.at(-1), sets: {} });
        this.isAborted = false;
        return {};
      case 'set':
        set({ [name]: value });
        // SET SESSION counts beyond the transaction, and what SET LOCAL says after it does not.
        if (scope === 'session') top.sets[name] = value;
        return {};
      case 'announce':
        // Nothing else than another SET, so what was announced before need not be good.
        set({ role: token.role, claims: token.claims, headers: token.headers, method: 'GET' });
        return this.after({});
      case 'fail':
        return this.before() ?? { error: '22012' };
      case 'probe': {
        const refused = this.before();
        if (refused) return refused;
        return this.after({ row: this.identity() });
      }
      default:
        throw new Error(what);
    }
  }

  identity() {
    const { role, claims } = this.now;
    const sub = claims ? JSON.parse(claims).sub : undefined;
    return [role === 'none' ? 'authenticator' : role, sub].filter(Boolean).join(' ');
  }

  get isAnnounced() { return Object.entries(NOTHING).some(([name, nothing]) => this.now[name] !== nothing); }

  get isJudged() { return this.levels.at(-1).judged === JSON.stringify(this.now); }

  /** Whose token it is that the settings tell of. */
  bearer() {
    const { claims, headers } = this.now;
    const opaque = tokens.find((token) => token.isOpaque && token.headers === headers);
    return opaque ?? tokens.find((token) => !token.isOpaque && token.claims === claims);
  }

  judge(isLate) {
    const top = this.levels.at(-1);
    const bearer = this.bearer();
    if (bearer && !bearer.isLive) return { error: REFUSED };
    if (bearer?.isOpaque) {
      if (isLate && this.now.role !== 'authenticated') return { error: TOO_LATE };
      // The claims are made of the token; their user is what is looked at here.
      top.settings = { ...top.settings, role: 'authenticated', claims: JSON.stringify({ sub: bearer.user, made: true }) };
    }
    top.judged = JSON.stringify(this.now);
    return undefined;
  }

  before() { return this.isAnnounced && !this.isJudged ? this.judge(true) : undefined; }

  after(outcome) { return this.now.method !== '' && !this.isJudged ? this.judge(false) ?? outcome : outcome; }
}

/** SQL of a statement. */
function sqlOf({ what, token, name, value, scope, form }) {
  switch (what) {
    case 'begin': case 'commit': case 'rollback': return what;
    case 'savepoint': return 'savepoint s';
    case 'rollback to': return 'rollback to s';
    case 'fail': return 'select 1 / (length(whoami()) - length(whoami()))';
    case 'probe': return form;
    case 'set':
      return name === 'role' ? `set ${scope} role ${value}` : `set ${scope} ${SETTING[name]} = ${literal(value)}`;
    case 'announce':
      return `select set_config('role', ${literal(token.role)}, true), set_config('request.jwt.claims', ${literal(token.claims)}, true),
        set_config('request.headers', ${literal(token.headers)}, true), set_config('request.method', 'GET', true)`;
    default: throw new Error(what);
  }
}

const FORMS = ['select whoami()', 'select nested_whoami()', 'with x as materialized (select whoami() as w) select w from x'];

function statement(random, model) {
  const inside = model.levels !== null;
  const token = random.of(tokens);
  const kinds = ['probe', 'probe', 'probe', 'announce', 'set', 'set', 'fail'];
  if (inside) kinds.push('announce', 'announce', 'savepoint', 'rollback to', 'commit', 'rollback');
  else kinds.push('begin', 'begin', 'begin', 'begin');
  let what = random.of(kinds);
  if (what === 'fail' && random.chance(0.5)) what = 'probe';
  if (what === 'rollback to' && model.levels.length === 1) what = 'savepoint';
  if (what === 'savepoint' && model.levels.length > 3) what = 'probe';
  const name = random.of(['role', 'claims', 'method', 'headers']);
  const value = random.chance(0.2) ? NOTHING[name] : name === 'method' ? 'GET' : token[name];
  const scope = inside && random.chance(0.8) ? 'local' : random.chance(0.5) ? 'session' : 'local';
  return { what, token, name, value, scope, form: random.of(FORMS) };
}

/** A connection of the protocol's own messages. */
async function connect() {
  const connection = new Connection({});
  const answers = [];
  let ready;
  connection.on('dataRow', ({ fields }) => answers.push({ row: fields[0] }));
  connection.on('commandComplete', () => answers.push({ done: true }));
  connection.on('errorMessage', ({ code, message }) => answers.push({ error: code, message }));
  connection.on('readyForQuery', () => ready?.());
  connection.on('error', (error) => answers.push({ error: 'lost', message: error.message }));
  await new Promise((resolve) => {
    ready = resolve;
    connection.on('connect', () => connection.startup({ user: 'authenticator', database: 'postgres' }));
    connection.connect(`${cluster.folder}/.s.PGSQL.${cluster.port}`);
  });
  return {
    /** Sends messages and returns what came until the server was ready. */
    async sent(send) {
      answers.length = 0;
      const isReady = new Promise((resolve) => { ready = resolve; });
      send(connection);
      await isReady;
      return [...answers];
    },
    end: () => connection.end(),
  };
}

/** One statement's part of the answers: its last row, or its error. */
function outcomes(answers) {
  const found = [];
  let row;
  for (const answer of answers) {
    if (answer.row !== undefined) row = answer.row;
    else {
      found.push(answer.error ? { error: answer.error } : { row });
      row = undefined;
    }
  }
  return found;
}

/** One batch: a simple query of some statements, or messages of the extended protocol up to a Sync. */
function batch(random, model) {
  const isSimple = random.chance(0.5);
  const count = 1 + random.below(4);
  const statements = [];
  const expected = [];
  // A query of several statements is a transaction of its own where there is none, which this does not model: there one.
  for (let n = 0; n < count; n += 1) {
    const next = statement(random, model);
    const isAlone = model.levels === null;
    if (isAlone && n > 0) break;
    statements.push(next);
    const outcome = model.run(next);
    expected.push(next.what === 'probe' && !outcome.error ? { row: outcome.row } : { error: outcome.error });
    if (outcome.error) break;
    if (model.levels === null) break;
    if (isAlone && next.what !== 'begin') break;
  }
  return { isSimple, statements, expected };
}

test(`each statement runs as whom the model says (SEED=${SEED})`, { timeout: (SECONDS + 120) * 1000 }, async () => {
  const end = Date.now() + SECONDS * 1000;
  let [count, refused, rows] = [0, 0, 0];
  for (let run = 0; Date.now() < end; run += 1) {
    const dice = random(SEED + run);
    const model = new Model();
    const connection = await connect();
    const trail = [];
    for (let n = 0; n < 40; n += 1) {
      const { isSimple, statements, expected } = batch(dice, model);
      const texts = statements.map(sqlOf);
      trail.push(`${isSimple ? 'simple' : 'extended'}: ${texts.join('; ')}`);
      const answers = await connection.sent((wire) => {
        if (isSimple) {
          wire.query(texts.join('; '));
          return;
        }
        for (const text of texts) {
          wire.parse({ text, name: '', types: [] });
          wire.bind({ portal: '', statement: '', values: [] });
          wire.execute({ portal: '', rows: 0 });
        }
        wire.sync();
      });
      const found = outcomes(answers).map(({ error, row }, place) => (error ? { error } : statements[place].what === 'probe' ? { row } : { error: undefined }));
      assert.deepEqual(found, expected, `SEED=${SEED + run}\n${trail.join('\n')}\n${JSON.stringify(answers)}`);
      count += found.length;
      refused += found.filter(({ error }) => [REFUSED, TOO_LATE].includes(error)).length;
      rows += found.filter(({ row }) => row).length;
    }
    connection.end();
  }
  assert.ok(refused > 100 && rows > 100, `${count} statements, ${refused} refused, ${rows} rows`);
});
