// Service accounts through a real REST server: an organisation's administrators make them and their tokens.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, test } from 'node:test';
import { ALICE, BOB } from './fixture.mjs';
import { KINDS, lacks, open, sending } from './gate_world.mjs';

let world;
let alice;
let bob;
before(async () => {
  world = await open({
    settings: { 'supabase_pat.service_account_manager': 'private.manages' },
    sql: `
      create table members (org text, user_id uuid, is_admin boolean not null default false, primary key (org, user_id));
      alter table members enable row level security;
      grant select, insert on members to authenticated;
      insert into members values ('acme', '${ALICE}', true), ('acme', '${BOB}', false);
      create schema private;
      grant usage on schema private to authenticated;
      create function private.administers(org text) returns boolean language sql stable security definer set search_path = '' as $$
        select exists (select from public.members m where m.org = administers.org and m.user_id = auth.uid() and m.is_admin)
      $$;
      create function private.manages(account uuid) returns boolean language sql stable security definer set search_path = '' as $$
        select exists (select from public.members m where (account is null or m.user_id = account) and private.administers(m.org))
      $$;
      create policy admins on members for insert to authenticated with check (private.administers(org));
      create function create_bot(org text, name text) returns uuid language plpgsql as $$
        declare bot uuid := create_service_account(name);
        begin
          insert into members values (org, bot);
          return bot;
        end
      $$;`,
  });
  [alice, bob] = [await world.login(ALICE), await world.login(BOB)];
});
after(() => world.close());

const call = (name, body, send) => world.ask('POST', `/rpc/${name}`, { body, ...send });
const done = ({ status, data }) => {
  assert.equal(status, 200, JSON.stringify(data));
  return data;
};
const makeBot = async () => done(await call('create_bot', { org: 'acme', name: 'ci' }, { token: alice }));
const mint = async (user, body, send) => done(await call('mint_pat', { user_id: user, name: 'deploy', ...body }, send));

for (const kind of KINDS) {
  test(`a manager makes an account and its token, which works as its own user until it is deleted (${kind})`, async () => {
    const bot = await makeBot();
    const { token, id } = await mint(bot, { kind }, { token: alice });
    const send = sending(kind, token);
    assert.equal((await world.ask('POST', '/todos', { ...send, body: { title: 'by the machine' } })).status, 201);
    assert.deepEqual((await world.ask('GET', '/todos?select=title,user_id', send)).data, [{ title: 'by the machine', user_id: bot }]);
    assert.equal(done(await call('is_service_account', {}, send)), true);
    assert.equal(done(await call('is_service_account', {}, { token: alice })), false);

    const accounts = await world.ask('GET', `/service_accounts?id=eq.${bot}&select=name,created_by`, { token: alice });
    assert.deepEqual(accounts.data, [{ name: 'ci', created_by: ALICE }]);
    const [{ last_used_at: used, ...listed }] = done(await world.ask('GET', `/rpc/service_account_tokens?account=${bot}`, { token: alice }));
    assert.deepEqual([listed.id, listed.name, listed.kind, listed.is_active, listed.hint], [id, 'deploy', kind, true, token.slice(-6)]);
    assert.ok(!JSON.stringify(listed).includes(token));
    assert.notEqual(used, undefined);

    const next = done(await call('rotate_pat', { id }, { token: alice }));
    assert.equal((await world.ask('GET', '/todos', send)).status, 401);
    const successor = sending(kind, next.token);
    assert.equal((await world.ask('GET', '/todos', successor)).status, 200);
    assert.equal(done(await call('delete_service_account', { id: bot }, { token: alice })), true);
    const { status, data } = await world.ask('GET', '/todos', successor);
    assert.deepEqual([status, data.code], [401, 'PT401']);
    assert.equal(done(await call('delete_service_account', { id: bot }, { token: alice })), false);
    assert.equal(await world.value('select count(*)::int from auth.users where id = $1', [bot]), 0);
  });
}

test('strangers, members and narrow tokens manage nothing', async () => {
  const bot = await makeBot();
  const { id } = await mint(bot, {}, { token: alice });
  /** The SQLSTATE and message of a call that is refused. */
  const refusal = async (name, body, send) => {
    const { status, data } = await call(name, body, send);
    assert.ok(status >= 400 && status < 500, `${name}: ${status} ${JSON.stringify(data)}`);
    return [data.code, data.message];
  };
  const service = { token: await world.serviceKey() };
  for (const send of [{ token: bob }, {}]) {
    const who = JSON.stringify(send).slice(0, 30);
    for (const [name, body] of [['mint_pat', { user_id: bot, name: 'x' }], ['revoke_all_pats', { user_id: bot }], ['create_service_account', { name: 'x' }],
      ['service_account_tokens', { account: bot }], ['rotate_pat', { id }], ['edit_pat', { id, name: 'x' }]]) {
      assert.match((await refusal(name, body, send))[0], /^42(501|704)$/, `${name} by ${who}`);
    }
  }
  // The answer is the same for an account, a person and nobody.
  const answers = await Promise.all([bot, ALICE, randomUUID()].map((user) => refusal('mint_pat', { user_id: user, name: 'x' }, { token: bob })));
  assert.deepEqual(answers[1], answers[0]);
  assert.deepEqual(answers[2], answers[0]);
  // A person of the organisation is no account.
  assert.deepEqual(await refusal('mint_pat', { user_id: BOB, name: 'x' }, { token: alice }), answers[0]);
  assert.equal(done(await call('revoke_pat', { id }, { token: bob })), false);
  assert.equal(done(await call('delete_service_account', { id: BOB }, { token: alice })), false);
  assert.deepEqual((await world.ask('GET', '/service_accounts', { token: bob })).data, []);

  // Tokens, which the gate refuses where their scopes do not name it.
  const own = async (scopes) => ({ token: (await mint(undefined, { scopes }, { token: alice })).token });
  const [unlimited, all, minter, manager] = [await own(undefined), await own(['*']), await own(['tokens:write', 'todos:read']),
    await own(['tokens:write', 'service_accounts:write', 'todos:read', 'members:write', 'rpc/create_bot:call'])];
  const said = async (...args) => {
    const { status, data } = await call(...args);
    return [status, data.message, data.hint];
  };
  assert.deepEqual(await said('create_service_account', { name: 'x' }, minter), lacks('service_accounts:write'));
  for (const send of [all, unlimited]) assert.match((await refusal('create_service_account', { name: 'x' }, send))[1], /without the scope service_accounts:write/);
  assert.deepEqual(await said('delete_service_account', { id: bot }, manager), lacks('service_accounts:delete'));
  assert.deepEqual(await said('service_account_tokens', { account: bot }, manager), lacks('service_accounts:read'));
  assert.match((await refusal('mint_pat', { user_id: bot, name: 'x', scopes: ['todos:read'] }, minter))[1], /without the scope service_accounts:write/);
  assert.match((await refusal('mint_pat', { user_id: bot, name: 'x', scopes: ['notes:read'] }, manager))[1], /may not grant a scope/);
  const { token } = await mint(bot, { scopes: ['tokens:write', 'service_accounts:write', 'todos:read'] }, manager);
  done(await call('create_bot', { org: 'acme', name: 'by a token' }, manager));

  // The token of the account has those scopes too, and manages nothing for that: the function does not say so.
  const other = await makeBot();
  assert.equal((await world.ask('GET', '/todos', { token })).status, 200);
  assert.equal((await refusal('create_service_account', { name: 'x' }, { token }))[1], 'a service account may not create service accounts');
  assert.equal((await refusal('mint_pat', { user_id: other, name: 'x', scopes: ['todos:read'] }, { token }))[0], '42501');

  // Trusted roles manage all, with no word of the function's.
  assert.equal(done(await call('service_account_tokens', { account: bot }, service)).length, 2);
  assert.equal(done(await call('delete_service_account', { id: bot }, service)), true);
});

test('a manager who is one no longer manages nothing from the next request on', async () => {
  const bot = await makeBot();
  await mint(bot, {}, { token: alice });
  await world.rows(`update members set is_admin = false where user_id = $1`, [ALICE]);
  try {
    assert.equal((await call('mint_pat', { user_id: bot, name: 'x' }, { token: alice })).data.code, '42501');
    assert.deepEqual((await world.ask('GET', '/service_accounts', { token: alice })).data, []);
  } finally {
    await world.rows(`update members set is_admin = true where user_id = $1`, [ALICE]);
  }
});

test('of many who delete an account and mint for it at once one deletes it, and no token is left', async () => {
  const bot = await makeBot();
  const answers = await Promise.all(Array.from({ length: 24 }, (_, n) => (n % 3 === 0
    ? call('delete_service_account', { id: bot }, { token: alice })
    : call('mint_pat', { user_id: bot, name: `x${n}` }, { token: alice }))));
  const deleted = answers.filter((_, n) => n % 3 === 0);
  assert.deepEqual(deleted.map(done).filter(Boolean).length, 1);
  for (const { status, data } of answers.filter((_, n) => n % 3 !== 0)) assert.ok(status === 200 || data.code === '42501', JSON.stringify(data));
  assert.equal(await world.value('select count(*)::int from pat.api_keys where user_id = $1 and revoked_at is null', [bot]), 0);
});
