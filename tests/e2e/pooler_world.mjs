// A crowd of users with all kinds of credentials, which come and go, and what each of them is to be answered.
import assert from 'node:assert/strict';
import { randomInt, randomUUID } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import pg from 'pg';
import { sign } from './fixture.mjs';
import {
  DENIED, INCOMPLETE, REVOKED, SESSION_ENDED, UNKNOWN, UNKNOWN_TOKEN, body, lacks, sending,
} from './gate_world.mjs';
import { FORBIDDEN, REQUESTS } from './pooler_requests.mjs';

const NEAR = '192.0.2.7';
const FAR = '198.51.100.9';
const EXPIRED = [401, 'the personal access token has expired', 'Ask for a new one.'];
const BANNED = [401, 'the user of the personal access token is banned', null];
const MALFORMED = [401, 'the claims of this request are malformed', null];
const OTHER_ADDRESS = [403, `the personal access token may not be used from ${FAR}`, null];
/** What the REST server answers before any SQL runs. */
const NOT_VERIFIED = 'not verified';

const LOTS = Object.entries(REQUESTS).flatMap(([name, { share }]) => Array(share).fill(name));
/** Undefined of none. */
const oneOf = (list) => list[list.length === 0 ? 0 : randomInt(list.length)];

/** What something was, and when it may have been that: from when a change was asked for until the next was done. */
class History {
  constructor(value) {
    this.spans = [{ value, from: -Infinity, to: Infinity }];
  }

  get now() {
    return this.spans.at(-1).value;
  }

  async change(value, make) {
    const before = this.spans.at(-1);
    this.spans.push({ value, from: performance.now(), to: Infinity });
    const made = await make();
    before.to = performance.now();
    return made;
  }

  during(from, to) {
    return this.spans.filter((span) => span.from <= to && span.to >= from).map(({ value }) => value);
  }
}

const ALWAYS = new History(undefined);
const KEYS = {
  jwt: { kind: 'jwt' },
  opaque: { kind: 'opaque' },
  reader: { kind: 'opaque', scopes: ['*:read'] },
  caller: { kind: 'jwt', scopes: ['whoami:read', 'rpc/report:call'] },
  near: { kind: 'jwt', allowed_ips: ['192.0.2.0/24'] },
  nearOpaque: { kind: 'opaque', allowed_ips: ['192.0.2.0/24'] },
};

/** `world` is one of the gate's, with the SQL of the requests, one trusted proxy, and live claims. Some keys may make `limit`
 * requests and no more. */
export async function gather(world, limit) {
  const admin = new pg.Pool({ host: world.cluster.folder, port: world.cluster.port, user: 'postgres', database: 'postgres' });
  const rows = async (sql, values) => (await admin.query(sql, values)).rows;
  const users = (await rows(`select id from auth.users where email like 'user%' order by email`)).map(({ id }) => ({
    id, banned: new History(undefined), plan: new History('plan 0'), logins: [], keys: [], isBusy: false,
  }));
  const titles = new Map();
  for (const { user_id: user, title } of await rows('select user_id, title from todos order by title')) {
    titles.set(user, [...titles.get(user) ?? [], title]);
  }
  const titlesSeen = (is) => {
    if (is.role === 'service_role') return [...titles.values()].flat();
    return is.is_valid ? titles.get(is.uid) ?? [] : [];
  };

  const anyone = { uid: null, pat_uid: null, key: null, plan: null, is_valid: true, is_active: true, may_write: true, timeout: '0' };
  const as = (role, more) => ({ ...anyone, role, claimed_role: role, ...more });
  const user = (id, more) => as('authenticated', { uid: id, pat_uid: id, ...more });

  async function addLogin(owner) {
    const [{ token }] = await rows('select (pat.mint_session($1)).access_token as token', [owner.id]);
    const { session_id: session } = JSON.parse(Buffer.from(token.split('.')[1], 'base64url'));
    const plan = owner.plan.now;
    owner.logins.push({
      name: 'login', token, session, send: { token }, life: new History(undefined), banned: owner.banned, plan: ALWAYS,
      refusalOfBanned: SESSION_ENDED, is: () => user(owner.id, { plan }), ended: { is_active: false },
    });
    owner.logins.splice(0, owner.logins.length - 6);
  }
  function addKey(owner, name, { id, token }) {
    const { kind, scopes, allowed_ips: isNear } = KEYS[name];
    const send = sending(kind, token);
    // An opaque token counts, whatever comes along with it.
    if (kind === 'opaque') send.token = oneOf([undefined, anonKey, serviceKey, oneOf(users).logins[0]?.token]);
    owner.keys.push({
      name, id, token, send, kind, scopes, isNear, life: new History(undefined), banned: owner.banned, plan: owner.plan,
      refusalOfBanned: BANNED,
      is: (plan) => user(owner.id, { plan, key: id, may_write: scopes === undefined }),
      ended: { is_valid: false, is_active: false, may_write: false },
    });
    owner.keys.splice(0, owner.keys.length - 24);
  }
  const rpc = async (token, name, sent) => {
    const { status, data } = await world.ask('POST', `/rpc/${name}`, { token, body: sent });
    assert.equal(status, 200, `${name}: ${JSON.stringify(data)}`);
    return data;
  };
  const mint = async (owner, name) => addKey(owner, name,
    await rpc(owner.logins.at(-1).token, 'mint_pat', { name, ...KEYS[name] }));

  let serviceKeys = 0;
  async function newServiceKey() {
    // No two of them with the same claims.
    serviceKeys += 1;
    const [{ token }] = await rows(`select pat.mint_api_key('service_role', expires_in => make_interval(days => $1)) as token`,
      [serviceKeys]);
    return fixed('service key', { token }, as('service_role'), { life: new History(undefined) });
  }
  const fixed = (name, send, is, more) => ({
    name, send, token: send.token, life: ALWAYS, banned: ALWAYS, plan: ALWAYS, is: () => is, ended: {}, ...more,
  });
  const refused = (name, send, refusal) => fixed(name, send, undefined, { life: new History(refusal) });

  const anonKey = await sign({ role: 'anon', iss: 'supabase' });
  const serviceKey = await world.serviceKey();
  let service = await newServiceKey();
  const deadServices = [];
  for (const owner of users) {
    await addLogin(owner);
    for (const name of Object.keys(KEYS)) await mint(owner, name);
  }
  const [{ logins: [{ token: someLogin }] }] = users;
  // Of users to whom nothing else happens, so that one knows for certain what is to be refused.
  const limited = [];
  for (const { id: owner } of await rows(`select id from auth.users where email like 'limited%'`)) {
    for (const kind of ['jwt', 'opaque']) {
      const key = await world.mint(owner, { kind, limit });
      limited.push({
        ...fixed(`limited ${kind}`, key.send, user(owner, { plan: 'plan 0', key: key.id })), limit, asked: 0, admitted: 0,
      });
    }
  }
  const foreign = await sign({ role: 'authenticated', sub: users[2].id });
  const others = [
    fixed('nobody', {}, as('anon')),
    fixed('anon key', { token: anonKey }, as('anon')),
    fixed('login of another issuer', { token: foreign }, user(users[2].id)),
    refused('expired JWT', { token: await sign({ role: 'authenticated', sub: users[0].id }, { expiresIn: '-1h' }) }, NOT_VERIFIED),
    refused('malformed JWT', { token: 'no.jwt.atall' }, NOT_VERIFIED),
    refused('cut login', { token: someLogin.slice(0, -3) }, NOT_VERIFIED),
    refused('login by another secret', {
      token: await sign({ role: 'authenticated', sub: users[0].id }, { secret: 'another-secret-of-more-than-32-bytes' }),
    }, NOT_VERIFIED),
    refused('claims of no issuer', {
      token: await sign({ role: 'authenticated', sub: users[0].id, type: 'personal_access_token' }),
    }, MALFORMED),
    refused('JWT of an unknown key', {
      token: await sign({ role: 'authenticated', sub: users[0].id, type: 'personal_access_token', jti: randomUUID() }),
    }, UNKNOWN),
    refused("JWT of another user's key", {
      token: await sign({ role: 'authenticated', sub: users[0].id, type: 'personal_access_token', jti: users[1].keys[0].id }),
    }, UNKNOWN),
    refused('unknown opaque token', { ...sending('opaque', UNKNOWN_TOKEN), token: someLogin }, UNKNOWN),
    refused('cut opaque token', { ...sending('opaque', UNKNOWN_TOKEN.slice(0, -1)), token: someLogin }, INCOMPLETE),
  ];

  /** Somebody who makes a request, and what for. */
  function pick() {
    const lot = randomInt(100);
    const owner = oneOf(users);
    if (lot < 15) return oneOf(others);
    if (lot < 20) return deadServices.length === 0 || lot < 18 ? service : oneOf(deadServices.slice(-5));
    if (lot < 24) return oneOf(limited);
    const credentials = lot < 40 ? owner.logins : owner.keys;
    // Most of them are dead after a while.
    const live = credentials.filter(({ life }) => life.now === undefined);
    return oneOf(lot % 3 === 0 || live.length === 0 ? credentials : live);
  }

  /** All that may be answered to a request made between the two times: as a rule, one thing. */
  function answers(who, request, { asked, answered, marker, address }) {
    const lives = who.life.during(asked, answered);
    const bans = who.banned.during(asked, answered);
    const refusals = new Set(lives.flatMap((life) => bans.map((ban) => life ?? (ban && who.refusalOfBanned))));
    const found = [];
    for (const refusal of refusals) {
      if (refusal !== undefined) {
        found.push(refusal === NOT_VERIFIED ? NOT_VERIFIED : refusing(refusal));
      } else if (who.isNear && address !== NEAR) {
        found.push(refusing(OTHER_ADDRESS));
      } else if (who.scopes && !grants(who.scopes, request.scope)) {
        found.push(refusing(lacks(request.scope)));
      } else {
        for (const plan of who.plan.during(asked, answered)) {
          const is = { ...who.is(plan) };
          is.seen = [marker, is.role, is.uid].filter(Boolean).join(' ');
          // If it ended just then, the gate may have let it through, and the rest of the request not.
          for (const one of refusals.size > 1 ? [is, { ...is, ...who.ended }] : [is]) {
            found.push(request.answer(one, { marker, titles: titlesSeen }));
          }
        }
      }
    }
    return found;
  }

  /** Makes a request, and sees that what comes back is what must. */
  async function ask(marker, who = pick()) {
    let name = oneOf(LOTS);
    // Whether it would have been counted, nobody could say.
    if (name === 'hangUp' && who.limit) name = 'report';
    const request = REQUESTS[name];
    const address = oneOf([NEAR, FAR]);
    const headers = { ...who.send.headers, ...request.headers, 'x-marker': marker, 'x-forwarded-for': address };
    const options = { ...who.send, headers, body: request.body?.(marker), patience: request.patience };
    const admittedBefore = who.admitted;
    if (who.limit) who.asked += 1;
    seen.asked += 1;
    const asked = performance.now();
    const answer = await world.ask(request.method, request.path(), options).catch((error) => {
      if (!request.patience) throw error;
    });
    const answered = performance.now();
    if (request.patience) {
      seen.gone.add(marker);
      return;
    }

    const { status, data } = answer;
    seen.statuses.set(`${name} ${status}`, (seen.statuses.get(`${name} ${status}`) ?? 0) + 1);
    const what = `request ${marker}, ${name} by ${who.name}: ${status} ${JSON.stringify(data)}`;
    if (who.limit && status === 429) {
      assert.ok(who.asked > limit, what);
      assert.deepEqual([data.code, Number(answer.headers['retry-after']) > 0], ['PT429', true]);
      seen.sure += 1;
      return;
    }
    if (who.limit) {
      assert.ok(admittedBefore < limit, what);
      who.admitted += 1;
    }
    const is = name === 'whoami' ? data[0]?.is : data;
    if (is?.backend) {
      seen.backends.set(is.backend, (seen.backends.get(is.backend) ?? new Set()).add(`${is.role} ${is.uid}`));
      delete is.backend;
    }
    if (status === 201) seen.written.set(marker, data[0]);
    const expected = answers(who, request, { asked, answered, marker, address });
    const fits = expected.some((one) => {
      if (one === NOT_VERIFIED) return status === 401 && /^PGRST30/.test(data.code);
      if (one === FORBIDDEN) return (status === 401 || status === 403) && data.code === FORBIDDEN;
      return status === one[0] && isDeepStrictEqual(data, one[1]);
    });
    assert.ok(fits, `${what}, not ${JSON.stringify(expected)}`);
    if (expected.length === 1) seen.sure += 1;
  }

  const CHANGES = {
    mint: (owner) => mint(owner, oneOf(Object.keys(KEYS))),
    revoke: (owner, key, login) => key.life.change(REVOKED, () => rpc(login, 'revoke_pat', { id: key.id })),
    async rotate(owner, key, login) {
      addKey(owner, key.name, await key.life.change(REVOKED, () => rpc(login, 'rotate_pat', { id: key.id })));
    },
    revokeItself: (owner, key) => key.life.change(REVOKED, async () => {
      const { status, data } = await world.ask('POST', '/rpc/revoke_pat', {
        ...key.send, headers: { ...key.send.headers, 'x-forwarded-for': NEAR }, body: { id: key.id },
      });
      assert.deepEqual([status, data], [200, true]);
    }),
    deleteThroughView: (owner, key, login) => key.life.change(UNKNOWN, async () => {
      const { status } = await world.ask('DELETE', `/api_keys?id=eq.${key.id}`, { token: login });
      assert.ok(status === 200 || status === 204, String(status));
    }),
    delete: (owner, key) => key.life.change(UNKNOWN, () => rows('delete from pat.api_keys where id = $1', [key.id])),
    expire: (owner, key) => key.life.change(EXPIRED,
      () => rows(`update pat.api_keys set expires_at = now() - interval '1 second' where id = $1`, [key.id])),
    deny: (owner, key) => key.life.change(key.kind === 'jwt' ? DENIED : REVOKED,
      () => rows('select pat.deny_token($1)', [key.token])),
    async endSession(owner) {
      const { life, session } = owner.logins.at(-1);
      await life.change(SESSION_ENDED, () => rows('delete from auth.sessions where id = $1', [session]));
      await addLogin(owner);
    },
    async signOut(owner, key, login) {
      await owner.logins.at(-1).life.change(SESSION_ENDED, () => rpc(login, 'sign_out', {}));
      await addLogin(owner);
    },
    async ban(owner) {
      const ban = (until) => rows('update auth.users set banned_until = $2 where id = $1', [owner.id, until]);
      await owner.banned.change(true, () => ban('infinity'));
      for (const who of [owner.logins.at(-1), ...owner.keys.slice(-5)]) await ask(randomUUID(), who);
      await owner.banned.change(undefined, () => ban(null));
    },
    plan: (owner) => {
      const plan = randomUUID();
      return owner.plan.change(plan, () => rows('update auth.users set raw_app_meta_data = $2 where id = $1', [owner.id, { plan }]));
    },
    async denyServiceKey() {
      const old = service;
      service = await newServiceKey();
      deadServices.push(old);
      await old.life.change(DENIED, () => rows('select pat.deny_token($1)', [old.token]));
    },
  };
  const names = Object.keys(CHANGES);
  const seen = {
    /** Whose requests each server connection has carried. */
    backends: new Map(),
    /** The rows that were answered to have been written. */
    written: new Map(),
    /** Of those who did not wait for the answer. */
    gone: new Set(),
    changes: new Map(names.map((name) => [name, 0])),
    /** How often a request was answered with a status. */
    statuses: new Map(),
    asked: 0,
    /** How many requests could be answered in one way only. */
    sure: 0,
  };
  let turn = 0;
  /** Changes something for somebody. */
  async function change() {
    const owner = oneOf(users.filter(({ isBusy }) => !isBusy));
    if (!owner) return;
    owner.isBusy = true;
    try {
      const live = owner.keys.filter(({ life }) => life.now === undefined);
      let name = 'mint';
      if (live.length >= 6) {
        name = names[turn % names.length];
        turn += 1;
      }
      const [key, login] = [oneOf(live), owner.logins.at(-1)];
      await CHANGES[name](owner, key, login.token);
      // At once, on each connection.
      const last = { mint: owner.keys.at(-1), endSession: login, signOut: login, denyServiceKey: deadServices.at(-1) }[name];
      for (let i = 0; i < 3; i += 1) await ask(randomUUID(), last ?? key);
      seen.changes.set(name, (seen.changes.get(name) ?? 0) + 1);
    } finally {
      owner.isBusy = false;
    }
  }

  return { limited, seen, ask, change, close: () => admin.end() };
}

const grants = (scopes, scope) => scopes.includes(scope) || (scopes.includes('*:read') && scope.endsWith(':read'));
const refusing = ([status, message, hint]) => [status, body(`PT${status}`, message, hint)];
