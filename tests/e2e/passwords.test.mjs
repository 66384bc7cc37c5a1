// Passwords that are guessed while their owners sign in, with and without the library being preloaded.
import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import { Cluster } from '../cluster/cluster.mjs';
import { ALICE, SECRET } from './fixture.mjs';

const EMAIL = 'alice@example.com';
const HOME = '198.51.100.7';
const SETTINGS = { 'supabase_pat.enable_sign_in': 'on', 'supabase_pat.trusted_proxies': 1 };
let cluster;
let db;
before(async () => {
  cluster = await open({ shared_preload_libraries: 'supabase_pat' });
  db = await cluster.connect('postgres');
});
after(async () => {
  await db.end();
  cluster.stop();
});
beforeEach(async () => {
  // Each test has an account and addresses of its own: what is in shared memory stays for an hour.
  await db.query('delete from pat.events');
});

/** A server with Alice, whose password takes as long to verify as one of Supabase Auth's. */
async function open(settings) {
  const opened = await Cluster.start({ settings: { ...SETTINGS, ...settings } });
  opened.psql('postgres', `
    create extension supabase_pat; select pat.install_auth_schema(); create extension pgcrypto;
    alter database postgres set "app.settings.jwt_secret" = '${SECRET}';
    insert into auth.users (id, email, email_confirmed_at, encrypted_password) values ('${ALICE}', '${EMAIL}', now(), crypt('the right one', gen_salt('bf', 10)));
    insert into auth.users (email, email_confirmed_at, encrypted_password)
      select 'user' || n || '@example.com', now(), crypt('the right one', gen_salt('bf', 10)) from generate_series(1, 9) n;`);
  return opened;
}
const from = (client, address) => client.query(`select set_config('request.headers', $1, false)`, [JSON.stringify({ 'x-forwarded-for': address })]);
/** `in`, or the status of the answer. */
async function signIn(client, password, email = EMAIL) {
  const { rows: [row] } = await client.query(`select (sign_in($1, $2)).token_type, current_setting('response.status', true) as status`, [email, password]);
  return row.token_type === null ? row.status : 'in';
}
async function anon(server = cluster, address = HOME) {
  const client = await server.connect('postgres');
  await client.query('set role anon');
  await from(client, address);
  return client;
}
const events = async (client, email) => (await client.query(`select detail, sum(count)::int as count from pat.events e
  join auth.users u on u.id = e.user_id where event = 'sign_in_refused' and email = $1 group by detail order by detail`, [email])).rows;
const count = (list) => Object.fromEntries([...new Set(list)].sort().map((one) => [one, list.filter((other) => other === one).length]));

test('strangers who guess do not keep the owner out', async () => {
  const owner = await anon();
  assert.equal(await signIn(owner, 'the right one'), 'in');
  let goes = true;
  let guesses = 0;
  const strangers = Array.from({ length: 8 }, async (_, n) => {
    const client = await anon();
    while (goes) {
      guesses += 1;
      await from(client, `203.0.${n}.${guesses % 250}`);
      assert.notEqual(await signIn(client, `guess ${guesses}`), 'in');
    }
    await client.end();
  });
  while (guesses < 200) await new Promise((resolve) => setTimeout(resolve, 50));
  const answers = [];
  for (let i = 0; i < 25; i += 1) answers.push(await signIn(owner, 'the right one'));
  assert.deepEqual(count(answers), { in: 25 });
  // Elsewhere the owner has to wait, or get a code by e-mail: then that is a place where they are known.
  await from(owner, '198.51.100.8');
  assert.equal(await signIn(owner, 'the right one'), '429');
  const { rows: [{ token, code }] } = await db.query('select * from pat.issue_reset_code($1)', [EMAIL]);
  assert.deepEqual((await owner.query('select reset_password($1, $2, $3) as done', [token, code, 'a new one'])).rows, [{ done: true }]);
  assert.equal(await signIn(owner, 'a new one'), 'in');
  await from(owner, HOME);
  assert.equal(await signIn(owner, 'a new one'), '429');
  goes = false;
  await Promise.all(strangers);
  await owner.end();
});

test('of sixty tries that come at once five are looked at, and twenty from sixty addresses', async () => {
  const clients = await Promise.all(Array.from({ length: 60 }, () => anon(cluster, '203.0.113.60')));
  const tries = (email) => Promise.all(clients.map((client, n) => signIn(client, `guess ${n}`, email)));
  assert.deepEqual(count(await tries('user1@example.com')), { 401: 5, 429: 55 });
  assert.deepEqual(await events(db, 'user1@example.com'), [{ detail: 'the password is wrong', count: 5 }]);
  await Promise.all(clients.map((client, n) => from(client, `203.0.114.${n}`)));
  const began = performance.now();
  const answers = count(await tries('user2@example.com'));
  const seconds = (performance.now() - began) / 1000;
  // After the twentieth there is another one after a second, and the next after two more: on a slow machine these pass.
  const most = 20 + Math.floor(Math.log2(1 + seconds));
  assert.equal(answers[401] + answers[429], 60);
  assert.ok(answers[401] >= 20 && answers[401] <= most, `${answers[401]} of at most ${most} in ${seconds} s`);
  await Promise.all(clients.map((client) => client.end()));
});

test('right passwords that come at once do not count', async () => {
  const clients = await Promise.all(Array.from({ length: 30 }, () => anon(cluster, '203.0.113.30')));
  for (let round = 0; round < 3; round += 1) {
    const answers = await Promise.all(clients.map((client, n) => signIn(client, 'the right one', `user${n % 3 + 3}@example.com`)));
    assert.deepEqual(count(answers), { in: 30 });
  }
  await Promise.all(clients.map((client) => client.end()));
});

for (const isPreloaded of [true, false]) {
  test(`a try that is cut short counts, and its end does not tell whether it was right, ${isPreloaded ? 'preloaded' : 'within a connection'}`, async () => {
    const server = isPreloaded ? cluster : await open({});
    const owner = await server.connect('postgres');
    const email = 'user6@example.com';
    const client = await anon(server, '203.0.113.6');
    // What a connection does for the first time takes long, and is done before; the hash takes a quarter of a second.
    await signIn(client, 'wrong', 'nobody@example.com');
    await owner.query(`update auth.users set encrypted_password = crypt('the right one', gen_salt('bf', 12)) where email = $1`, [email]);
    await client.query(`set statement_timeout = '60ms'`);
    const ends = [];
    for (const password of ['the right one', 'wrong', 'the right one', 'wrong', 'the right one']) {
      const error = await signIn(client, password, email).catch(({ code, message, detail, where }) => ({ code, message, detail, where }));
      ends.push(JSON.stringify(error));
    }
    assert.match(ends[0], /57014/);
    assert.deepEqual([...new Set(ends)], [ends[0]]);
    await client.query('reset statement_timeout');
    const other = isPreloaded ? await anon(server, '203.0.113.6') : client;
    assert.equal(await signIn(other, 'the right one', email), '429');
    assert.deepEqual(await events(owner, email), []);
    // The first that is looked at again leaves the event that they could not.
    await new Promise((resolve) => setTimeout(resolve, 1100));
    assert.equal(await signIn(other, 'wrong', email), '401');
    assert.deepEqual(await events(owner, email), [{ detail: 'the password is wrong', count: 1 }, { detail: 'the tries were cut short', count: 5 }]);
    assert.deepEqual((await owner.query('select count(*)::int from pat.wrong_passwords where wrong = 6')).rows, [{ count: 1 }]);
    await client.end();
    if (other !== client) await other.end();
    await owner.end();
    if (!isPreloaded) server.stop();
  });
}

test('a right password in a transaction that is rolled back leaves the counts as they were', async () => {
  const email = 'user7@example.com';
  const client = await anon(cluster, '203.0.113.7');
  for (let i = 0; i < 4; i += 1) assert.equal(await signIn(client, 'wrong', email), '401');
  for (let i = 0; i < 10; i += 1) {
    await client.query('begin');
    assert.equal(await signIn(client, 'the right one', email), 'in');
    await client.query('rollback');
  }
  assert.equal(await signIn(client, 'wrong', email), '401');
  assert.equal(await signIn(client, 'wrong', email), '429');
  await client.end();
});
