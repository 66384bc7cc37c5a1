// Whether the time of an answer tells whose an address is: calls for addresses that are somebody's and for others,
// each address once, in a random order, on one connection.
// Usage: node bench/timing.mjs [CALLS], default 2000 of the fast functions a side, and a tenth of the others.
//
// The table shows, for each pair, the ratio of the medians; how often a slower answer is one of the first kind
// (the common-language effect of the Mann-Whitney test: 50 % is nothing, 100 % is one call that tells); and the
// probability of that by chance.
import { randomBytes } from 'node:crypto';
import { Cluster } from '../tests/cluster/cluster.mjs';

const calls = Number(process.argv[2] ?? 2000);
const slow = Math.ceil(calls / 10);
const cluster = await Cluster.start({
  settings: {
    shared_preload_libraries: 'supabase_pat',
    'supabase_pat.jwt_secret': randomBytes(24).toString('base64url'),
    'supabase_pat.enable_sign_in': 'on',
    'supabase_pat.enable_sign_up': 'on',
    autovacuum: 'off',
  },
});
cluster.psql('postgres', 'create extension supabase_pat; create extension pgcrypto; select pat.install_auth_schema()');
const db = await cluster.connect('postgres');

let count = 0;
/** As many addresses that nobody has. */
const addresses = (n) => Array.from({ length: n }, () => `user${String(count += 1).padStart(6, '0')}@example.com`);

/** Users with these addresses. */
async function users(emails, { hash, confirmed = true } = {}) {
  await db.query(`insert into auth.users (id, email, encrypted_password, email_confirmed_at)
    select gen_random_uuid(), email, $2, case when $3 then now() end from unnest($1::text[]) email`, [emails, hash, confirmed]);
  await db.query('analyze auth.users');
  return emails;
}

async function time(sql, parameters) {
  const before = process.hrtime.bigint();
  await db.query({ name: sql, text: sql, values: parameters });
  return Number(process.hrtime.bigint() - before);
}

/** Measures `sql` for each list of parameters, of two kinds. */
async function compare(title, sql, first, second) {
  const order = [...first.map((parameters) => [0, parameters]), ...second.map((parameters) => [1, parameters])]
    .map((item) => [Math.random(), item]).sort(([a], [b]) => a - b).map(([, item]) => item);
  const times = [[], []];
  for (const [side, parameters] of order) times[side].push(await time(sql, parameters));
  const { effect, chance } = mannWhitney(...times);
  const ratio = median(times[0]) / median(times[1]);
  console.log([title.padEnd(68), String(first.length).padStart(5), ratio.toFixed(3).padStart(8),
    `${(effect * 100).toFixed(1)} %`.padStart(9), (chance < 1e-4 ? '< 0.0001' : chance.toFixed(4)).padStart(10)].join(''));
}

const median = (values) => [...values].sort((a, b) => a - b)[values.length >> 1];

/** How often a value of `a` is above one of `b`, and the two-sided probability of that by chance (normal approximation). */
function mannWhitney(a, b) {
  const all = [...a.map((value) => [value, 0]), ...b.map((value) => [value, 1])].sort(([x], [y]) => x - y);
  let ranks = 0;
  for (let i = 0; i < all.length;) {
    let end = i;
    while (end < all.length && all[end][0] === all[i][0]) end += 1;
    for (let k = i; k < end; k += 1) if (all[k][1] === 0) ranks += (i + end + 1) / 2;
    i = end;
  }
  const u = ranks - (a.length * (a.length + 1)) / 2;
  const z = (u - (a.length * b.length) / 2) / Math.sqrt((a.length * b.length * (a.length + b.length + 1)) / 12);
  return { effect: u / (a.length * b.length), chance: 2 * (1 - phi(Math.abs(z))) };
}

/** The normal distribution (Abramowitz and Stegun 26.2.17, exact to 7.5e-8). */
function phi(z) {
  const t = 1 / (1 + 0.2316419 * z);
  const tail = t * (0.31938153 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429))));
  return 1 - (Math.exp((-z * z) / 2) / Math.sqrt(2 * Math.PI)) * tail;
}

try {
  console.log('first against second'.padEnd(68) + 'calls'.padStart(5) + 'ratio'.padStart(8) + 'slower'.padStart(9) + 'by chance'.padStart(10));
  const { rows: [{ hash }] } = await db.query(`select crypt('the password of all', gen_salt('bf', 10)) as hash`);
  const each = (emails, ...more) => emails.map((email) => [email, ...more]);
  const reset = 'select request_password_reset($1)';
  // What a backend does for the first time takes longer.
  for (const email of await users(addresses(50), { hash })) await time(reset, [email]);
  for (const email of addresses(50)) await time(reset, [email]);

  await compare('request_password_reset: nobody against nobody (how good this is)', reset, each(addresses(calls)), each(addresses(calls)));
  await compare('request_password_reset: somebody against nobody', reset, each(await users(addresses(calls), { hash })), each(addresses(calls)));
  const [known] = await users(addresses(1), { hash });
  const [unknown] = addresses(1);
  for (let i = 0; i < 6; i += 1) for (const email of [known, unknown]) await time(reset, [email]);
  await compare('request_password_reset beyond the limit: somebody against nobody', reset,
    Array(calls).fill([known]), Array(calls).fill([unknown]));

  const tokens = async (emails) => (await db.query('select request_password_reset(email) as token from unnest($1::text[]) email', [emails])).rows;
  const verify = 'select verify_reset_code($1, $2)';
  const guesses = (rows) => rows.map(({ token }) => [token, '000000']);
  await compare('verify_reset_code, wrong: somebody against nobody', verify,
    guesses(await tokens(await users(addresses(calls), { hash }))), guesses(await tokens(addresses(calls))));

  const signIn = 'select sign_in($1, $2)';
  const wrong = (emails) => each(emails, 'a wrong password');
  const nobody = () => wrong(addresses(slow));
  await compare('sign_in, wrong: nobody against nobody', signIn, nobody(), nobody());
  await compare('sign_in, wrong: somebody against nobody', signIn, wrong(await users(addresses(slow), { hash })), nobody());
  await compare('sign_in, wrong: not confirmed against nobody', signIn, wrong(await users(addresses(slow), { hash, confirmed: false })), nobody());
  await compare('sign_in: without a password against nobody', signIn, wrong(await users(addresses(slow))), nobody());
  await compare('sign_in: bcrypt of cost 11 against nobody', signIn,
    wrong(await users(addresses(20), { hash: hash.replace('$10$', '$11$') })), wrong(addresses(20)));
  await compare('sign_in: a kind of hash that is not known against nobody', signIn,
    wrong(await users(addresses(20), { hash: '$fbscrypt$v=1,n=14,r=8,p=1,ss=Bw==,sk=x$y$z' })), wrong(addresses(20)));

  const signUp = 'select sign_up($1, $2)';
  const up = (emails) => each(emails, 'a good password');
  await compare('sign_up: somebody who is confirmed against nobody', signUp, up(await users(addresses(slow), { hash })), up(addresses(slow)));
  await compare('sign_up: somebody who is not confirmed against nobody', signUp,
    up(await users(addresses(slow), { hash, confirmed: false })), up(addresses(slow)));
} finally {
  await db.end();
  cluster.stop();
}
