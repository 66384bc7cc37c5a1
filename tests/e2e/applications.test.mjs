// The JavaScript of the reference, run as it stands there.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createClient } from '@supabase/supabase-js';
import { examplesOf, referencePages, sections } from './documentation.mjs';
import { ALICE, sign, start } from './fixture.mjs';

const section = (page) => sections(`reference/${page}.md`).find(({ title }) => title === 'In an application');

/** Runs the JavaScript of a page with the variables that it takes for granted, and returns those of its own that are named. */
const run = (page, given, ...wanted) => {
  const { code } = section(page).blocks.find(({ language }) => language === 'js');
  const AsyncFunction = (async () => {}).constructor;
  return new AsyncFunction(...Object.keys(given), `${code}\nreturn { ${wanted} };`)(...Object.values(given));
};

/** A client that is logged in with a token, or not at all, and notes the calls that it makes. */
const client = async (world, token) => {
  const calls = [];
  const supabase = createClient(await world.gateway(), await sign({ role: 'anon', iss: 'supabase' }), {
    global: {
      ...(token ? { headers: { Authorization: `Bearer ${token}` } } : {}),
      async fetch(...args) {
        const answer = await fetch(...args);
        calls.push(`${new URL(args[0]).pathname.match(/[^/]*$/)} ${answer.status}`);
        return answer;
      },
    },
    auth: { persistSession: false, autoRefreshToken: false },
  });
  return { supabase, calls };
};

/** The code that comes by e-mail, which the user types when it is needed and not before. */
const typedCode = (world) => {
  let code;
  return { toJSON: () => (code ??= world.cluster.psql('postgres', 'select code from pat.claim_messages()')) };
};

test('sessions work as shown, and one that is signed out elsewhere ends at once', async () => {
  const world = await start({
    // Policies alone, since the guard would refuse before they are asked.
    settings: { 'supabase_pat.enable_sign_up': 'on', 'supabase_pat.enable_sign_in': 'on', 'supabase_pat.guarded_logins': '' },
    sql: 'create policy "signed in" on todos as restrictive using (is_active_session())',
  });
  try {
    const { supabase, calls } = await client(world);
    const { session, data, error } = await run('sessions', {
      supabase, email: 'carol@example.com', password: 'a password', name: 'Carol', code: typedCode(world),
    }, 'session', 'data', 'error');
    assert.deepEqual(calls, ['sign_up 200', 'confirm_sign_up 200', 'user 200', 'sign_in 200', 'refresh_session 200', 'sign_out 200']);
    assert.equal(error, null);
    assert.deepEqual(session.user.user_metadata, { name: 'Carol' });
    assert.equal(data.user.id, session.user.id);

    // What was signed in second is signed out, and the first goes on.
    const todos = async (token) => (await world.request('GET', '/todos?select=title', { token })).data;
    assert.equal((await supabase.from('todos').insert({ title: 'by carol' })).error, null);
    assert.deepEqual(await todos(session.access_token), [{ title: 'by carol' }]);
    assert.deepEqual(await todos(data.access_token), []);
  } finally {
    world.stop();
  }
});

test('a forgotten password is reset as shown', async () => {
  const world = await start();
  try {
    const { supabase, calls } = await client(world);
    const { isRight, isDone } = await run('passwords', {
      supabase, email: 'alice@example.com', new_password: 'a new password', code: typedCode(world),
    }, 'isRight', 'isDone');
    assert.deepEqual(calls, ['request_password_reset 200', 'verify_reset_code 200', 'reset_password 200']);
    assert.deepEqual([isRight, isDone], [true, true]);
  } finally {
    world.stop();
  }
});

test('settings come out as the comment beside them says', async () => {
  const world = await start({ sql: examplesOf(section('user_settings')).map(({ code }) => code).join('\n') });
  try {
    const { supabase, calls } = await client(world, await world.login(ALICE));
    const { settings } = await run('user_settings', { supabase }, 'settings');
    assert.deepEqual(calls, ['set_settings 200', 'set_settings 200', 'get_settings 200']);
    const [, expected] = section('user_settings').body.match(/^\/\/ (\{.*\})$/m);
    assert.deepEqual(settings, new Function(`return (${expected});`)());
  } finally {
    world.stop();
  }
});

test('no JavaScript of the reference is left out', () => {
  const all = referencePages().flatMap((name) => sections(name).flatMap(({ page, title, blocks }) => blocks
    .filter(({ language }) => language === 'js').map(() => `${page}: ${title}`)));
  assert.deepEqual(all, ['passwords', 'sessions', 'user_settings'].map((name) => `reference/${name}.md: In an application`));
});
