// The console in a real Chromium, against a real REST server.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, readdirSync, statSync } from 'node:fs';
import { get } from 'node:http';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { gzipSync } from 'node:zlib';
import { CONSOLE, startConsole } from './console_world.mjs';

const SHOTS = fileURLToPath(new URL('../../docs/console', import.meta.url));
/** With SCREENSHOTS=1 those in docs/console are made anew. */
const makesShots = process.env.SCREENSHOTS === '1';
const HOSTILE = {
  script: '<script>alert(1)</script><img src=x onerror=alert(2)>"\'`${7*7}',
  'right to left': '\u202Egnp.txt\u202C ‮evil שלום',
  'four bytes': '𝒯𝑜𝓀𝑒𝓃 🗝️ 👨‍👩‍👧‍👦',
  long: 'x'.repeat(10_000),
};

let world;
before(async () => {
  world = await startConsole();
});
after(() => world?.stop());

/** Runs a line in a shell, and returns the status and the body of the answer. */
async function inTerminal(line) {
  const { stdout } = await promisify(execFile)('sh', ['-c', `${line} -s --max-time 10 -w '\\n%{http_code}'`]);
  const [, body, status] = stdout.match(/^([\s\S]*)\n(\d{3})$/);
  return { status: Number(status), body };
}

async function eventually(check, message, seconds = 10) {
  for (let attempt = 0; attempt < seconds * 5; attempt += 1) {
    if (await check()) return;
    await new Promise((resolve) => { setTimeout(resolve, 200); });
  }
  assert.fail(message);
}

/** Makes a token on the page, and returns it with the line for a terminal. */
async function make(page, name, fill = async () => {}) {
  await page.getByRole('button', { name: 'New token' }).click();
  await page.getByLabel('Name').fill(name);
  await fill();
  await page.getByRole('button', { name: 'Make the token' }).click();
  await page.getByRole('heading', { name: 'Copy your token now' }).waitFor();
  return {
    token: await page.getByRole('textbox', { name: 'Token', exact: true }).textContent(),
    line: await page.getByRole('textbox', { name: 'A line for curl' }).textContent(),
  };
}

const row = (page, name) => page.getByRole('listitem').filter({ has: page.getByRole('heading', { name, exact: true }) });
const closeSecret = (page) => page.getByRole('button', { name: 'I have copied it' }).click();

test('somebody signs up, uses a token, changes it, and it ends', async () => {
  const page = await world.visit('/', { permissions: ['clipboard-read', 'clipboard-write'] });
  await page.getByRole('button', { name: 'Make an account' }).click();
  await page.getByLabel('E-mail address').fill('carol@example.com');
  await page.getByLabel('Password', { exact: true }).fill('short');
  await page.getByRole('button', { name: 'Sign up' }).click();
  await page.getByRole('alert').getByText('the password must have at least 6 characters, and this one has 5').waitFor();
  await page.getByLabel('Password', { exact: true }).fill('correct horse');
  await page.getByRole('button', { name: 'Sign up' }).click();
  // The code stands in the mailbox of the same page.
  await page.getByLabel('Code', { exact: true }).fill('000 000');
  await page.getByRole('button', { name: 'Confirm' }).click();
  await page.getByRole('alert').getByText('The code is wrong, or no longer good.').waitFor();
  const code = await page.getByRole('complementary', { name: 'Demo mailbox' }).getByRole('listitem').filter({ hasText: 'carol@example.com' }).getByRole('code').textContent();
  await page.getByLabel('Code', { exact: true }).fill(code);
  await page.getByRole('button', { name: 'Confirm' }).click();
  await page.getByText('There is no token yet').waitFor();

  // What can be chosen is what the API exposes to this user.
  const { token, line } = await make(page, 'backup script', async () => {
    await page.getByLabel('Description').fill('Runs each night.');
    await page.getByLabel('Only what is chosen here').check();
    await page.getByLabel('invoices: read').check();
    assert.equal(await page.getByLabel('invoices: write').count(), 0);
    await page.getByLabel('todos: read').check();
    await page.getByLabel('todos: write').check();
    await page.getByLabel('add_todo').check();
    await page.getByText('More limits').click();
    await page.getByLabel('Only from these addresses').fill('127.0.0.0/8, 2001:db8::/32');
    await page.getByLabel('Requests at most').fill('1000');
    await page.getByLabel('per', { exact: true }).selectOption('1 hour');
    await page.getByLabel('Quota of requests').fill('20000');
    await page.getByLabel('in each', { exact: true }).selectOption('week');
  });
  assert.match(token, /^eyJ/);
  await page.getByRole('button', { name: 'Copy the token' }).click();
  await page.getByText('The token is in the clipboard.').waitFor();
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), token);
  await closeSecret(page);

  const item = row(page, 'backup script');
  await item.getByText('never used').waitFor();
  assert.deepEqual(await inTerminal(line), { status: 200, body: '[]' });
  await item.getByText('last used').waitFor({ timeout: 30_000 });
  await item.getByRole('button', { name: 'Details' }).click();
  for (const text of ['Runs each night.', 'todos:write', 'rpc/add_todo:call', '1,000 requests in 1 hour', '20,000 requests in 7 days', '127.0.0.0/8 and 2001:db8::/32', 'Token made']) {
    await item.getByText(text).first().waitFor();
  }
  // Another scope than its own is refused in the words of the server.
  await item.getByRole('button', { name: 'Edit…' }).click();
  await page.getByLabel('Name').fill('nightly script');
  await page.getByLabel('todos:write').uncheck();
  await page.getByLabel('Requests at most').fill('2000');
  await page.getByRole('button', { name: 'Save' }).click();
  await page.getByRole('alert').getByText('edit_pat may only tighten').waitFor();
  await page.getByRole('alert').getByText('Mint another token.').waitFor();
  await page.getByLabel('Requests at most').fill('500');
  await page.getByRole('button', { name: 'Save' }).click();
  const edited = row(page, 'nightly script');
  await edited.getByText('500 requests in 1 hour').waitFor();
  // A quota that was there is not left out, and only becomes less.
  await edited.getByText('20,000 requests in 7 days').waitFor();
  await edited.getByRole('button', { name: 'Edit…' }).click();
  assert.equal(await page.getByLabel('in each', { exact: true }).inputValue(), '7 days');
  assert.equal(await page.getByLabel('Quota of requests').getAttribute('required'), '');
  await page.getByLabel('in each', { exact: true }).selectOption('day');
  await page.getByRole('button', { name: 'Save' }).click();
  await page.getByRole('alert').getByText('edit_pat may only tighten the quota').waitFor();
  await page.getByLabel('in each', { exact: true }).selectOption('week');
  await page.getByLabel('Quota of requests').fill('10000');
  await page.getByRole('button', { name: 'Save' }).click();
  await edited.getByText('10,000 requests in 7 days').waitFor();
  await edited.getByText('500 requests in 1 hour').waitFor();
  assert.equal((await inTerminal(`${line.replace(/todos\?limit=5|invoices\?limit=5/, 'todos')} -H 'content-type: application/json' -d '{"title": "x"}'`)).status, 403, 'narrowed');

  await edited.getByRole('button', { name: 'Disable' }).click();
  await edited.getByText('Disabled', { exact: true }).waitFor();
  assert.equal((await inTerminal(line)).status, 401, 'disabled');
  await edited.getByRole('button', { name: 'Enable' }).click();
  await edited.getByText('Active', { exact: true }).waitFor();
  assert.equal((await inTerminal(line)).status, 200, 'enabled');

  await edited.getByRole('button', { name: 'Rotate…' }).click();
  await page.getByLabel('The old one ends').selectOption('1 hour');
  await page.getByRole('button', { name: 'Rotate', exact: true }).click();
  await page.getByRole('heading', { name: 'Copy your token now' }).waitFor();
  const rotated = await page.getByRole('textbox', { name: 'A line for curl' }).textContent();
  assert.notEqual(rotated, line);
  await closeSecret(page);
  assert.deepEqual([(await inTerminal(line)).status, (await inTerminal(rotated)).status], [200, 200], 'within the grace');
  assert.equal(await row(page, 'nightly script').count(), 2);

  const fresh = row(page, 'nightly script').first();
  await fresh.getByRole('button', { name: 'Details' }).click();
  await fresh.getByRole('button', { name: 'Revoke…' }).click();
  await page.getByRole('button', { name: 'Revoke', exact: true }).click();
  await eventually(async () => await row(page, 'nightly script').count() === 1, 'the revoked token leaves the list');
  assert.equal((await inTerminal(rotated)).status, 401, 'revoked');
  await page.getByLabel('Show those that have ended (1)').check();
  await row(page, 'nightly script').getByText('Revoked', { exact: true }).waitFor();

  await page.getByRole('button', { name: 'Revoke all…' }).click();
  await page.getByRole('button', { name: 'Revoke all', exact: true }).click();
  await page.getByLabel('Show those that have ended (2)').waitFor();
  assert.equal((await inTerminal(line)).status, 401, 'all are revoked');
  assert.deepEqual(page.wrong, []);
});

test('the details of a token show how often it was used on each day', async () => {
  const user = await world.user('paula@example.com');
  const page = await world.visit('/', { viewport: { width: 320, height: 800 } });
  await world.signIn(page, user);
  const { line } = await make(page, 'counted', async () => {
    await page.getByText('More limits').click();
    await page.getByLabel('Requests at most').fill('3');
    await page.getByLabel('per', { exact: true }).selectOption('1 hour');
  });
  await closeSecret(page);
  const item = row(page, 'counted');
  await item.getByRole('button', { name: 'Details' }).click();
  await item.getByText('Not used yet.').waitFor();
  assert.equal(await item.getByRole('img').count(), 0);

  // What a terminal asks for is seen without a reload, refusals too.
  const statuses = [];
  for (let request = 0; request < 5; request += 1) statuses.push((await inTerminal(line)).status);
  assert.deepEqual(statuses, [200, 200, 200, 429, 429]);
  await item.getByText('In the last 30 days: 3 let through, 2 refused.').waitFor({ timeout: 30_000 });

  // Days without a row are empty; those of others, and older ones, are not counted.
  const id = world.cluster.psql('postgres', `select id from pat.api_keys where user_id = '${user.id}'`);
  const other = await world.user('quentin@example.com');
  world.cluster.psql('postgres', `insert into pat.api_key_days (day, key_id, user_id, requests, refused)
    select (now() at time zone 'UTC')::date - ago, key, owner, requests, refused from (values
      (29, '${id}'::uuid, '${user.id}'::uuid, 1200, 0), (30, '${id}', '${user.id}', 70000, 0), (7, '${id}', '${user.id}', 0, 600),
      (7, gen_random_uuid(), '${user.id}', 50000, 0), (7, gen_random_uuid(), '${other.id}', 60000, 0)) days (ago, key, owner, requests, refused)`);
  await item.getByText('In the last 30 days: 1,203 let through, 602 refused.').waitFor({ timeout: 15_000 });
  await item.getByText('Highest bar: 1,200 a day').waitFor();
  const chart = item.getByRole('img', { name: 'In the last 30 days: 1,203 let through, 602 refused.' });
  const bars = await chart.evaluate((svg) => [...svg.querySelectorAll('g')].map((day) => [...day.querySelectorAll('rect:not(.day)')]
    .map((bar) => [bar.getAttribute('class'), Math.round(bar.getBoundingClientRect().height / svg.getBoundingClientRect().height * 100)])));
  assert.equal(bars.length, 30);
  const [ofFirst, ofWeekAgo, ofToday] = [bars[0], bars[22], bars[29]];
  assert.deepEqual(bars.map((day, at) => (day.length > 0 ? at : null)).filter((at) => at !== null), [0, 22, 29]);
  assert.ok(ofFirst[0][1] > 90 && ofFirst[0][0] === 'passed', `${ofFirst}`);
  assert.ok(ofWeekAgo[0][1] > 45 && ofWeekAgo[0][1] < 55 && ofWeekAgo[0][0] === 'refused', `${ofWeekAgo}`);
  assert.deepEqual(ofToday.map(([kind]) => kind), ['passed', 'refused']);
  assert.ok(ofToday.every(([, height]) => height > 0), 'what is little is seen');

  // The numbers, for whoever sees no bars.
  await item.getByText('Day by day').click();
  const cells = await item.getByRole('table').getByRole('row').evaluateAll((rows) => rows.map(({ cells: own }) => [...own].map((cell) => cell.textContent)));
  const day = (ago) => new Intl.DateTimeFormat('en', { dateStyle: 'medium', timeZone: 'UTC' }).format(Date.now() - ago * 86_400_000);
  assert.deepEqual(cells, [['Day', 'Let through', 'Refused'], [day(0), '3', '2'], [day(7), '0', '600'], [day(29), '1,200', '0']]);
  assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= 320));
  assert.deepEqual(await world.violations(page), []);

  // What the server says instead is shown, and goes away.
  await page.route('**/rest/v1/api_key_daily_usage*', (route) => route.fulfill({ status: 500, contentType: 'application/json', body: '{"message": "no days today", "hint": "Wait."}' }));
  await item.getByRole('alert').getByText('no days today').waitFor({ timeout: 15_000 });
  await page.unroute('**/rest/v1/api_key_daily_usage*');
  await item.getByRole('button', { name: 'Try again' }).click();
  await eventually(async () => await item.getByRole('alert').count() === 0, 'the notice goes away');
  assert.deepEqual(page.wrong, []);
});

test('settings are changed in a form that is made of their schemas', async () => {
  const page = await world.visit();
  await world.signIn(page, await world.user('dora@example.com'));
  await page.getByRole('link', { name: 'Settings' }).click();
  const save = page.getByRole('button', { name: 'Save' });
  await page.getByRole('spinbutton', { name: 'Temperature' }).fill('1.5');
  await page.getByRole('combobox', { name: 'Theme' }).selectOption('dark');
  await page.getByRole('spinbutton', { name: 'Size' }).fill('14');
  await page.getByLabel('work').check();
  await page.getByText('Not saved yet.').waitFor();
  await save.click();
  await page.getByText('Saved.').waitFor();
  const stored = async () => JSON.parse(world.cluster.psql('postgres', `select settings from pat.user_settings where user_id = '${(await world.user('dora@example.com')).id}'`));
  assert.deepEqual(await stored(), { temperature: 1.5, theme: 'dark', editor: { font: { size: 14 } }, tags: ['work'] });
  // The browser does not know all rules of a schema; the server does, and nothing is lost.
  await page.getByRole('spinbutton', { name: 'Temperature' }).evaluate((field) => field.removeAttribute('max'));
  await page.getByRole('spinbutton', { name: 'Temperature' }).fill('9');
  await save.click();
  await page.getByRole('alert').getByText('the value of setting "temperature" does not meet its schema (/maximum)').waitFor();
  assert.equal(await page.getByRole('spinbutton', { name: 'Temperature' }).inputValue(), '9');
  await page.getByRole('button', { name: 'Discard' }).click();
  assert.equal(await page.getByRole('spinbutton', { name: 'Temperature' }).inputValue(), '1.5');
  await page.getByRole('button', { name: 'Reset temperature' }).click();
  await save.click();
  await page.getByText('Saved.').waitFor();
  assert.deepEqual(await stored(), { theme: 'dark', editor: { font: { size: 14 } }, tags: ['work'] });
  assert.deepEqual(page.wrong, []);
});

test('a forgotten password is set anew, and all sign-outs do what they say', async () => {
  const user = await world.user('erin@example.com');
  const [here, there] = [await world.visit(), await world.visit()];
  for (const page of [here, there]) await world.signIn(page, user);
  await here.getByRole('link', { name: 'Account' }).click();
  await here.getByText('erin@example.com').first().waitFor();
  await here.getByRole('button', { name: 'Sign out elsewhere' }).click();
  await here.getByText('erin@example.com is signed in here alone.').waitFor();
  // The session of the other has ended: what it asks for is refused, and the page says so.
  await there.getByRole('alert').getByText('the session of this login has ended').waitFor();

  await there.reload();
  await there.getByRole('link', { name: 'Account' }).click();
  await there.getByRole('button', { name: 'Sign out here' }).click();
  await there.getByRole('heading', { name: 'Sign in' }).waitFor();
  await there.getByRole('button', { name: 'Forgotten password' }).click();
  await there.getByLabel('E-mail address').fill('erin@example.com');
  await there.getByRole('button', { name: 'Send me a code' }).click();
  await there.getByLabel('Code', { exact: true }).fill('123');
  await there.getByLabel('New password', { exact: true }).fill('battery staple');
  await there.getByRole('button', { name: 'Set the password' }).click();
  await there.getByRole('alert').getByText('The code is wrong, or no longer good.').waitFor();
  await there.getByLabel('Code', { exact: true }).fill(await world.code('erin@example.com'));
  await there.getByRole('button', { name: 'Set the password' }).click();
  await there.getByRole('button', { name: 'Sign in' }).click();
  await there.getByLabel('E-mail address').fill('erin@example.com');
  await there.getByLabel('Password', { exact: true }).fill(user.password);
  await there.getByRole('button', { name: 'Sign in', exact: true }).click();
  await there.getByRole('alert').getByText('The address or the password is wrong.').waitFor();
  await world.signIn(there, { ...user, password: 'battery staple' });

  await there.getByRole('link', { name: 'Account' }).click();
  await there.getByRole('button', { name: 'Sign out everywhere' }).click();
  await there.getByRole('heading', { name: 'Sign in' }).waitFor();
  assert.equal(world.cluster.psql('postgres', `select count(*) from auth.sessions where user_id = '${user.id}'`), '0');
  assert.deepEqual([...here.wrong, ...there.wrong], []);
});

test('what one browser revokes, the other shows', async () => {
  const user = await world.user('fred@example.com');
  const [one, other] = [await world.visit(), await world.visit()];
  for (const page of [one, other]) await world.signIn(page, user);
  await make(one, 'shared');
  await closeSecret(one);
  await row(other, 'shared').getByRole('button', { name: 'Details' }).click();
  await row(other, 'shared').getByRole('button', { name: 'Edit…' }).click();
  await row(one, 'shared').getByRole('button', { name: 'Details' }).click();
  await row(one, 'shared').getByRole('button', { name: 'Revoke…' }).click();
  await one.getByRole('button', { name: 'Revoke', exact: true }).click();
  await one.getByText('There is no token yet').waitFor();
  await other.getByLabel('Description').fill('too late');
  await other.getByRole('button', { name: 'Save' }).click();
  await other.getByRole('alert').getByText('there is no live token').waitFor();
  await other.getByRole('button', { name: 'Cancel' }).click();
  await other.getByText('There is no token yet').waitFor();
  assert.deepEqual([...one.wrong, ...other.wrong], []);
});

test('a token is nowhere once its dialog has closed, however it closes', async () => {
  const user = await world.user('gina@example.com');
  const page = await world.visit();
  await world.signIn(page, user);
  const ways = {
    button: () => closeSecret(page),
    Escape: () => page.keyboard.press('Escape'),
    'going away': async () => {
      await page.evaluate(() => { location.hash = '#/settings'; });
      await page.getByRole('heading', { name: 'Settings' }).waitFor();
      await page.evaluate(() => { location.hash = '#/tokens'; });
    },
    'a reload': () => page.reload(),
  };
  for (const [way, close] of Object.entries(ways)) {
    const { token } = await make(page, way, async () => {
      await page.getByText('More limits').click();
      await page.getByLabel('Short token').check();
    });
    assert.match(token, /^sbpat_/);
    const during = await world.everywhere(page);
    assert.ok(!during.split('\n').some((part) => /^\S+=/.test(part) && part.includes(token)), `${way}: no attribute has it`);
    await close();
    await eventually(async () => !(await world.everywhere(page)).includes(token), `${way}: it is gone`);
    assert.equal(page.url().includes(token), false);
  }
  assert.deepEqual(page.wrong, []);
});

test('each tab has its own login: others that sign in and out are not shown in it', async () => {
  const [alice, bob] = [await world.user('alma@example.com'), await world.user('boris@example.com')];
  const one = await world.visit();
  await world.signIn(one, alice);
  const { token } = await make(one, 'of the first tab');
  const other = await world.visit('/', { beside: one });
  await world.signIn(other, bob);
  // The list is loaded anew in between.
  const reloaded = () => one.waitForResponse('**/rest/v1/api_keys*');
  await reloaded();
  assert.equal(await one.locator('.who').textContent(), 'alma@example.com');
  assert.equal(await one.getByRole('textbox', { name: 'Token', exact: true }).textContent(), token);
  await other.getByRole('link', { name: 'Account' }).click();
  await other.getByText('boris@example.com').nth(1).waitFor();
  await other.getByRole('button', { name: 'Sign out here' }).click();
  await other.getByRole('heading', { name: 'Sign in' }).waitFor();
  await reloaded();
  assert.equal(await one.locator('.who').textContent(), 'alma@example.com');
  await closeSecret(one);
  await one.reload();
  await row(one, 'of the first tab').waitFor();
  // What a browser copies into another tab with the whole tab is a login of its own, too.
  const [copy] = await Promise.all([one.waitForEvent('popup'), one.evaluate(() => { open(location.href); })]);
  await copy.getByRole('link', { name: 'Account' }).click();
  await copy.getByText('alma@example.com').nth(1).waitFor();
  await copy.getByRole('link', { name: 'Tokens' }).click();
  await copy.evaluate(() => sessionStorage.clear());
  await copy.reload();
  await world.signIn(copy, bob);
  await reloaded();
  assert.equal(await one.locator('.who').textContent(), 'alma@example.com');
  assert.deepEqual([...one.wrong, ...other.wrong], []);
});

/** A tab with one element alone, whose client keeps the session in that store. */
async function mounted(name, store, { session, beside }) {
  const page = await world.visit('/test/alone.html', { beside, expects: ['Content Security Policy', 'unsafe-eval', 'TrustedScript', 'TrustedHTML'] });
  await page.waitForFunction(() => globalThis.mount);
  await page.evaluate(([name, given]) => globalThis.mount(name, given), [name, { key: world.anonKey, session, store }]);
  return page;
}

/** A session of its own, which may be ended. */
async function begin({ email, password }) {
  const { data } = await world.request('POST', '/rpc/sign_in', { body: { email, password } });
  return data;
}

test('an element shows whom its own requests are made for, whoever signs in in another tab', async () => {
  const [alice, bob] = [await world.user('alicia@example.com'), await world.user('bruno@example.com')];
  const one = await mounted('pat-tokens', 'sessionStorage', { session: await begin(alice) });
  const { token } = await make(one, 'of Alicia');
  const other = await mounted('pat-account', 'sessionStorage', { session: await begin(bob), beside: one });
  await other.getByText('bruno@example.com').waitFor();
  await one.waitForResponse('**/rest/v1/api_keys*');
  await other.getByRole('button', { name: 'Sign out here' }).click();
  await other.getByText('Nobody is signed in.').waitFor();
  await one.waitForResponse('**/rest/v1/api_keys*');
  assert.equal(await one.getByRole('textbox', { name: 'Token', exact: true }).textContent(), token);
  // But who signs in in the same tab is somebody else.
  await one.evaluate((given) => document.querySelector('pat-tokens').client.auth.setSession(given), await begin(bob));
  await eventually(async () => !(await world.everywhere(one)).includes('of Alicia'), 'what Alicia has seen is gone');
  assert.ok(!(await world.everywhere(one)).includes(token));
  await one.getByText('There is no token yet').waitFor();
  assert.deepEqual([...one.wrong, ...other.wrong], []);
});

test('a token is nowhere once its user has signed out in another tab that shares the login', async () => {
  const one = await mounted('pat-tokens', 'localStorage', { session: await begin(await world.user('gwen@example.com')) });
  const { token } = await make(one, 'open');
  const other = await mounted('pat-account', 'localStorage', { beside: one });
  await other.getByText('gwen@example.com').waitFor();
  assert.ok((await world.everywhere(one)).includes(token), 'it is there until then');
  await other.getByRole('button', { name: 'Sign out here' }).click();
  await eventually(async () => !(await world.everywhere(one)).includes(token), 'it is gone');
  assert.deepEqual([...one.wrong, ...other.wrong], []);
});

test('hostile names and details stay text', async () => {
  const user = await world.user('hugo@example.com');
  for (const text of Object.values(HOSTILE)) {
    // By hand, since mint_pat takes no such names.
    world.cluster.psql('postgres', `insert into pat.api_keys (id, user_id, name, description, attributes, scopes, expires_at)
      values (gen_random_uuid(), '${user.id}', $x$${text}$x$, $x$${text}$x$, jsonb_build_object($x$${text}$x$, $x$${text}$x$), array['todos:read'], now() + interval '1 day');
      insert into pat.events (event, user_id, key_id, detail) select $x$${text}$x$, user_id, id, name from pat.api_keys where user_id = '${user.id}' and name = $x$${text}$x$`);
  }
  world.cluster.psql('postgres', `select pat.define_setting($x$${HOSTILE.script.slice(0, 90)}$x$, to_jsonb($x$${HOSTILE.script}$x$::text),
    jsonb_build_object('type', 'string', 'title', $x$${HOSTILE.script}$x$, 'description', $x$${HOSTILE['right to left']}$x$))`);
  const page = await world.visit('/', { viewport: { width: 320, height: 800 } });
  await world.signIn(page, user);
  for (const [what, text] of Object.entries(HOSTILE)) {
    const item = page.getByRole('listitem').filter({ has: page.getByText(text, { exact: true }) });
    await item.first().waitFor();
    await item.first().getByRole('button', { name: 'Details' }).click();
    await item.first().getByText('todos:read').waitFor();
    assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= 320), `${what} does not widen the page`);
    const name = item.first().locator('bdi').first();
    assert.equal(await name.textContent(), text);
    assert.equal(await name.evaluate((element) => getComputedStyle(element).unicodeBidi), 'isolate', what);
    await item.first().getByRole('button', { name: 'Less' }).click();
  }
  await page.getByRole('link', { name: 'Settings' }).click();
  await page.getByText(HOSTILE.script).first().waitFor();
  assert.equal(await page.evaluate(() => [...document.querySelector('pat-console').shadowRoot.querySelectorAll('img, script')].length), 0);
  await world.enterAsOperator(page);
  await page.getByRole('link', { name: 'Events' }).click();
  await page.getByText(HOSTILE.script).first().waitFor();
  assert.deepEqual(page.wrong, []);
  world.cluster.psql('postgres', `select pat.drop_setting($x$${HOSTILE.script.slice(0, 90)}$x$)`);
});

test('the operator sees how things stand, changes keys, and denies tokens', async () => {
  const page = await world.visit('/#/operator');
  await page.getByLabel('Key of the service role').fill(world.anonKey);
  await page.getByRole('button', { name: 'Go on' }).click();
  await page.getByRole('alert').getByText('permission denied for function status').waitFor();
  await world.enterAsOperator(page);
  await page.getByText('Everything is as it should be.').or(page.getByText('check fails').or(page.getByText('checks fail'))).waitFor();
  assert.equal(await page.locator('pat-doctor li').count(), Number(world.cluster.psql('postgres', 'select count(*) from pat.status()')));

  await page.getByRole('link', { name: 'Key inspector' }).click();
  await page.getByLabel('Key or token').fill(`"Bearer ${world.anonKey}"`);
  await page.getByRole('button', { name: 'Inspect' }).click();
  await page.getByText('There are quotation marks around the key.').waitFor();
  await page.getByText('An API key that is a JWT').waitFor();
  await page.getByRole('button', { name: 'Clear' }).click();
  assert.ok(!(await world.everywhere(page)).includes(`"Bearer ${world.anonKey}"`));

  await page.getByRole('link', { name: 'Denied tokens' }).click();
  await page.getByText('No token is denied.').waitFor();
  await page.getByRole('button', { name: 'Deny a token' }).click();
  const { session } = await world.user('ivan@example.com');
  await page.getByLabel('Token', { exact: true }).fill(session.access_token);
  await page.getByLabel('Reason').fill('in a public repository');
  await page.getByRole('button', { name: 'Deny', exact: true }).click();
  await page.getByRole('heading', { name: 'in a public repository' }).waitFor();
  const answer = () => world.request('GET', '/api_keys', { token: session.access_token });
  assert.equal((await answer()).status, 401);
  await page.getByRole('button', { name: 'Accept again…' }).click();
  await page.getByRole('button', { name: 'Accept again', exact: true }).click();
  await page.getByText('No token is denied.').waitFor();
  assert.equal((await answer()).status, 200);

  await page.getByRole('link', { name: 'Signing keys' }).click();
  await page.getByText('There are no keys').waitFor();
  for (const kid of ['first', 'second']) {
    await page.getByRole('button', { name: 'Add a key' }).click();
    await page.getByLabel('Key id').fill(kid);
    await page.getByRole('button', { name: 'Add', exact: true }).click();
    await row(page, kid).getByText('On standby').waitFor();
  }
  await row(page, 'first').getByRole('button', { name: 'Revoke…' }).click();
  await page.getByText('All personal access tokens that it has signed are revoked.').waitFor();
  await page.getByRole('button', { name: 'Revoke', exact: true }).click();
  await row(page, 'first').getByText('Revoked', { exact: true }).waitFor();
  await row(page, 'second').getByRole('button', { name: 'Make it current…' }).click();
  await page.getByText('publish the key set first').waitFor();
  await page.getByRole('button', { name: 'Cancel' }).click();
  assert.equal(world.cluster.psql('postgres', `select string_agg(kid || ' ' || status, ', ' order by kid) from pat.signing_keys`), 'first revoked, second standby');

  await page.getByRole('link', { name: 'Events' }).click();
  // Each event that the reference knows can be chosen, and has a name.
  const [table] = readFileSync(join(CONSOLE, '../docs/reference/gate.md'), 'utf8').split('### pat.events\n')[1].split('\n### ');
  const known = table.split('\n').filter((line) => line.startsWith('| `')).flatMap((line) => line.split('|')[1].match(/[a-z_]+/g));
  const offered = await page.getByLabel('Only these').locator('option').evaluateAll((all) => all.slice(1).map(({ value, textContent }) => [value, textContent]));
  assert.deepEqual(offered.map(([event]) => event).sort(), known.sort());
  assert.deepEqual(offered.filter(([event, name]) => event === name), []);
  await page.getByLabel('Only these').selectOption('token_denied');
  await page.getByText('in a public repository').waitFor();
  await page.getByRole('button', { name: 'Forget the key' }).click();
  await page.getByLabel('Key of the service role').waitFor();
  assert.ok(!(await world.everywhere(page)).includes(await world.serviceKey()));
  assert.deepEqual(page.wrong, []);
});

test('the operator sees how much all tokens are used, and which of them and whose most', async () => {
  const user = await world.user('olga@example.com');
  const names = Object.values(HOSTILE);
  const id = (at) => `dddddddd-0000-4000-8000-00000000000${at}`;
  world.cluster.psql('postgres', names.map((name, at) => `insert into pat.api_keys (id, user_id, name, expires_at) values ('${id(at)}', '${user.id}', $x$${name}$x$, now() + interval '1 day');
    insert into pat.api_key_days (day, key_id, user_id, requests, refused) values ((now() at time zone 'UTC')::date - ${at + 1}, '${id(at)}', '${user.id}', ${9 - at}000000, 0)`).join(';'));
  world.cluster.psql('postgres', `insert into pat.service_accounts (user_id, name) values ('${id(8)}', $x$${HOSTILE['right to left']}$x$);
    insert into pat.api_key_days (day, key_id, user_id, requests, refused)
      select (now() at time zone 'UTC')::date - ago, key::uuid, owner::uuid, requests, refused from (values
        (40, '${id(0)}', '${user.id}', 9223372036854775807, 0), (5, '${id(9)}', '${id(8)}', 1, 8000000), (6, '${id(9)}', '${id(8)}', 4000000, 0)) days (ago, key, owner, requests, refused);
    insert into pat.api_key_days (day, key_id, user_id, requests, refused)
      select (now() at time zone 'UTC')::date, ('dddddddd-0000-4000-8000-0000000001' || number)::uuid, '${id(7)}', 1, 1 from generate_series(10, 20) number`);
  const page = await world.visit('/#/operator', { viewport: { width: 320, height: 800 } });
  await world.enterAsOperator(page);
  await page.getByRole('link', { name: 'Usage' }).click();
  const sums = (days) => world.cluster.psql('postgres', `select sum(requests), sum(refused) from pat.usage_by_day where day > (now() at time zone 'UTC')::date - ${days}`).split('|')
    .map((count) => new Intl.NumberFormat('en').format(count));
  const says = (days) => eventually(async () => {
    const [requests, refused] = sums(days);
    if (await page.getByText(`In the last ${days} days: ${requests} let through, ${refused} refused.`).count() > 0) return true;
    await page.getByRole('button', { name: 'Look again' }).click();
    return false;
  }, `the sums of ${days} days`);
  await says(30);
  const list = (name) => page.getByRole('region', { name });
  const rows = (name) => list(name).locator('tbody tr').evaluateAll((all) => all.map(({ cells }) => [...cells].map((cell) => (cell.querySelector('bdi') ?? cell).textContent.trim())));
  const tokens = await rows('Tokens that made most requests');
  // A token that has been deleted has no name, and whatever is in a name is text.
  assert.deepEqual(tokens.slice(0, 4).map(([name]) => name), names);
  assert.deepEqual(tokens.slice(0, 5).map(([, requests]) => requests), ['9,000,000', '8,000,000', '7,000,000', '6,000,000', '4,000,001']);
  assert.match(tokens[4][0], /^deleted\s+dddddddd · user dddddddd$/);
  assert.deepEqual([tokens[4][2], tokens.length], ['8,000,000', 10]);
  const [most, account] = await rows('Users who made most requests');
  assert.equal(most[0].replace(/\s+/g, ' '), `${user.id} 4 tokens`);
  assert.deepEqual([most[1], account[0]], ['30,000,000', HOSTILE['right to left']]);
  assert.match(most[3], /^\d\d(\.\d)?%$/);
  for (const name of await list('Tokens that made most requests').locator('bdi').all()) {
    assert.equal(await name.evaluate((element) => getComputedStyle(element).unicodeBidi), 'isolate');
  }
  assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= 320), 'it fits 320 pixels');
  assert.equal(await page.getByRole('img', { name: 'In the last 30 days' }).evaluate((svg) => svg.querySelectorAll('g').length), 30);
  assert.deepEqual(await world.violations(page), []);

  // By refusals, and over other days. A number of any size is shown.
  await page.getByLabel('Order of the lists').selectOption('Most refused');
  await list('Tokens that were refused most').waitFor();
  assert.equal((await rows('Tokens that were refused most'))[0][2], '8,000,000');
  await page.getByLabel('Days', { exact: true }).selectOption('Last 90 days');
  await page.getByText(/^In the last 90 days: 9,223,372,/).waitFor();
  await page.getByLabel('Order of the lists').selectOption('Most let through');
  await eventually(async () => (await rows('Tokens that made most requests'))[0]?.[1].startsWith('9,223,372,'), 'the largest number that there is');
  assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= 320), 'it fits 320 pixels');
  await page.getByText('Day by day').click();
  assert.deepEqual(await page.getByRole('region', { name: 'Day by day' }).getByRole('row').first().evaluate(({ cells }) => [...cells].map((cell) => cell.textContent)), ['Day', 'Let through', 'Refused', 'Tokens']);
  world.cluster.psql('postgres', `delete from pat.api_key_days where key_id::text like 'dddddddd%'; delete from pat.api_keys where user_id = '${user.id}'; delete from pat.service_accounts`);

  // What the server says instead, and where there is nothing.
  await page.route('**/rest/v1/rpc/usage_by_user', (route) => route.fulfill({ status: 500, contentType: 'application/json', body: '{"message": "canceling statement due to statement timeout"}' }));
  await page.getByRole('button', { name: 'Look again' }).click();
  await page.getByRole('alert').getByText('statement timeout').waitFor();
  await page.unroute('**/rest/v1/rpc/usage_by_user');
  await page.route('**/rest/v1/rpc/usage_*', (route) => route.fulfill({ contentType: 'application/json',
    body: JSON.stringify(route.request().url().endsWith('totals') ? [1, 2, 3].map((at) => ({ day: `2026-01-0${at}`, requests: 0, refused: 0, tokens: 0 })) : []) }));
  await page.getByRole('button', { name: 'Try again' }).click();
  await page.getByText('No request was counted in the last 3 days.').waitFor();
  assert.equal(await page.getByRole('alert').or(page.locator('pat-usage .table')).count(), 0);
  assert.deepEqual(page.wrong, []);
});

test('it says when it is offline, and goes on when it is back', async () => {
  const page = await world.visit();
  await world.signIn(page, await world.user('jane@example.com'));
  await page.getByText('There is no token yet').waitFor();
  await page.context().setOffline(true);
  await page.getByRole('alert').getByText('The server cannot be reached.').waitFor({ timeout: 15_000 });
  await page.getByText('There is no token yet').waitFor();
  await page.context().setOffline(false);
  await eventually(async () => await page.getByRole('alert').count() === 0, 'the notice goes away');
  // Signing out elsewhere, a server that fails: its words are shown.
  await page.route('**/rest/v1/api_keys*', (route) => route.fulfill({ status: 503, contentType: 'application/json', body: '{"message": "the database is starting up", "hint": "Wait."}' }));
  await page.reload();
  await page.getByRole('alert').getByText('the database is starting up').waitFor();
  await page.getByRole('alert').getByText('Wait.').waitFor();
  await page.unroute('**/rest/v1/api_keys*');
  await page.getByRole('button', { name: 'Try again' }).click();
  await page.getByText('There is no token yet').waitFor();
  assert.deepEqual(page.wrong, []);
});

test('a token is made and revoked with the keyboard alone', async () => {
  const page = await world.visit();
  await world.signIn(page, await world.user('kira@example.com'));
  const press = async (...keys) => { for (const key of keys) await page.keyboard.press(key); };
  const focused = () => page.evaluate(() => {
    let element = document.activeElement;
    while (element?.shadowRoot?.activeElement) element = element.shadowRoot.activeElement;
    return element?.textContent?.trim() || element?.id || element?.localName;
  });
  const tabTo = async (text) => {
    for (let step = 0; step < 60; step += 1) {
      if (await focused() === text) return;
      await press('Tab');
    }
    assert.fail(`${text} is not reached by Tab`);
  };
  await tabTo('New token');
  await press('Enter');
  await eventually(async () => await focused() === 'name', 'the first field has the focus');
  await page.keyboard.type('by keyboard');
  await press('Enter');
  await eventually(async () => await focused() === 'Copy the token', 'the button to copy has the focus');
  await press('Escape');
  await eventually(async () => await page.getByRole('dialog').count() === 0, 'Escape closes it');
  await tabTo('Details');
  await press('Enter');
  await tabTo('Revoke…');
  await press('Enter');
  await page.getByRole('dialog', { name: 'Revoke this token?' }).waitFor();
  await tabTo('Revoke');
  await press('Enter');
  await page.getByText('There is no token yet').waitFor();
  assert.deepEqual(page.wrong, []);
});

test('each element works alone, and tells what has happened', async () => {
  const { session } = await world.user('lena@example.com');
  const token = await world.serviceKey();
  const user = { key: world.anonKey, session };
  const operator = { key: world.anonKey, token };
  const alone = {
    'pat-sign-in': [{ key: world.anonKey }, (page) => page.getByRole('heading', { name: 'Sign in' })],
    'pat-reset-password': [{ key: world.anonKey }, (page) => page.getByRole('heading', { name: 'Forgotten password' })],
    'pat-tokens': [user, (page) => page.getByText('There is no token yet')],
    'pat-settings': [user, (page) => page.getByRole('spinbutton', { name: 'Temperature' })],
    'pat-account': [user, (page) => page.getByText('lena@example.com')],
    'pat-doctor': [operator, (page) => page.getByRole('heading', { name: 'library' })],
    'pat-usage': [operator, (page) => page.getByRole('heading', { name: 'Usage' })],
    'pat-signing-keys': [operator, (page) => page.getByRole('heading', { name: 'Signing keys' })],
    'pat-key-inspector': [operator, (page) => page.getByLabel('Key or token')],
    'pat-events': [operator, (page) => page.getByRole('cell', { name: 'Signed up' }).first()],
    'pat-denied-tokens': [operator, (page) => page.getByText('No token is denied.')],
  };
  // The file of supabase-js for plain pages looks for a global by what the policy forbids, and does without.
  const page = await world.visit('/test/alone.html', { expects: ['Content Security Policy', 'unsafe-eval', 'TrustedScript', 'TrustedHTML'] });
  for (const [name, [given, sight]] of Object.entries(alone)) {
    await page.reload();
    await page.waitForFunction(() => globalThis.mount);
    await page.evaluate(([name, given]) => globalThis.mount(name, given), [name, given]);
    await sight(page).waitFor();
    assert.deepEqual(await world.violations(page), [], name);
  }
  await page.reload();
  await page.waitForFunction(() => globalThis.mount);
  await page.evaluate((given) => globalThis.mount('pat-tokens', given), user);
  const { token: minted } = await make(page, 'told');
  const told = await page.evaluate(() => globalThis.told);
  assert.deepEqual(told.map(({ type, detail }) => [type, detail.name]), [['pat-token-minted', 'told']]);
  assert.ok(!JSON.stringify(told).includes(minted), 'the token is in no event');
  // Without its client it shows nothing of what that one has brought.
  await page.evaluate(() => {
    const tokens = document.querySelector('pat-tokens');
    Object.assign(globalThis, { client: tokens.client });
    tokens.client = undefined;
  });
  await page.getByRole('dialog').waitFor({ state: 'detached' });
  assert.ok(!/told|sbpat_|eyJ/.test(await page.locator('pat-tokens').evaluate((element) => element.shadowRoot.textContent)));
  await page.evaluate(() => { document.querySelector('pat-tokens').client = globalThis.client; });
  await page.getByRole('heading', { name: 'told' }).waitFor();
  // It is themed from outside.
  await page.evaluate(() => {
    const sheet = new CSSStyleSheet();
    sheet.replaceSync('pat-tokens { --pat-accent: rgb(1, 2, 3); } pat-tokens::part(new) { text-transform: uppercase; }');
    document.adoptedStyleSheets.push(sheet);
  });
  assert.deepEqual(await page.getByRole('button', { name: 'New token' }).evaluate((button) => {
    const { backgroundColor, textTransform } = getComputedStyle(button);
    return [backgroundColor, textTransform];
  }), ['rgb(1, 2, 3)', 'uppercase']);
  assert.deepEqual(page.wrong, []);
});

test('it speaks Spanish, all of it', async () => {
  const { texts } = await import('../../console/src/locales/es.js');
  const used = new Set();
  for (const file of ['src', 'app'].flatMap((folder) => readdirSync(join(CONSOLE, folder), { recursive: true }).map((path) => join(CONSOLE, folder, path)))) {
    if (!file.endsWith('.js') || file.includes('locales')) continue;
    for (const [, text, template] of readFileSync(file, 'utf8').matchAll(/\bmsg\((?:'((?:[^'\\]|\\.)*)'|str`((?:[^`$]|\$\{(?:[^{}]|\{[^}]*\})*\})*)`)/g)) {
      let place = 0;
      used.add(text ?? template.replace(/\$\{(?:[^{}]|\{[^}]*\})*\}/g, () => `{${place++}}`));
    }
  }
  assert.deepEqual([...used].sort(), [...texts].sort());

  const page = await world.visit('/', { locale: 'es-ES' });
  await page.getByRole('heading', { name: 'Iniciar sesión' }).waitFor();
  assert.equal(await page.evaluate(() => document.documentElement.lang), 'es');
  await page.getByLabel('Correo electrónico').fill('nobody@example.com');
  await page.getByLabel('Contraseña', { exact: true }).fill('wrong');
  await page.getByRole('button', { name: 'Iniciar sesión' }).click();
  await page.getByRole('alert').getByText('La dirección o la contraseña no es correcta.').waitFor();
  await page.getByLabel('Idioma').selectOption('en');
  await page.getByRole('heading', { name: 'Sign in' }).waitFor();
  await page.reload();
  await page.getByRole('heading', { name: 'Sign in' }).waitFor();
  assert.deepEqual(page.wrong, []);
});

test('every page is accessible, fits 320 pixels, and looks as in docs/console', async () => {
  const user = await world.user('maria@example.com');
  // What other tests have used is not in the pictures.
  world.cluster.psql('postgres', `
    delete from pat.api_key_days;
    update pat.api_key_usage set day = null, requests = 0, refused = 0;
    insert into pat.api_keys (id, user_id, name, kind, token_digest, scopes, hint, created_at, expires_at, revoked_at, disabled_at, rate_limit, rate_window, quota, quota_window, description) values
      ('cccccccc-0000-4000-8000-000000000001', '${user.id}', 'Backup script', 'jwt', null, '{todos:read,invoices:read}', 'x7Kd2Q', now() - interval '40 days', now() + interval '50 days', null, null, 1000, '1 hour', 10000, '1 day', 'Runs each night on the office server.'),
      ('cccccccc-0000-4000-8000-000000000002', '${user.id}', 'Zapier', 'opaque', sha256('zapier'), null, 'P0qk1z', now() - interval '12 days', now() + interval '78 days', null, null, null, null, null, null, null),
      ('cccccccc-0000-4000-8000-000000000003', '${user.id}', 'Old laptop', 'jwt', null, null, 'mm3TyA', now() - interval '60 days', now() + interval '30 days', null, now(), null, null, null, null, null);
    insert into pat.api_key_usage (key_id, user_id, last_used_at, last_used_ip) values
      ('cccccccc-0000-4000-8000-000000000001', '${user.id}', now() - interval '3 hours', '203.0.113.7'),
      ('cccccccc-0000-4000-8000-000000000002', '${user.id}', now() - interval '2 minutes', '198.51.100.20');
    insert into pat.api_key_days (day, key_id, user_id, requests, refused)
      select (now() at time zone 'UTC')::date - ago, 'cccccccc-0000-4000-8000-000000000001', '${user.id}', 180 + 37 * ago % 90 + 9 * (30 - ago), case when ago in (4, 5) then 140 else 0 end
      from generate_series(0, 38) ago where ago % 7 not in (2, 3);
    select create_service_account('Deployments');
    insert into pat.api_key_days (day, key_id, user_id, requests, refused)
      select (now() at time zone 'UTC')::date - ago, key::uuid, owner::uuid, base + (spread * (1 + sin(ago * 1.7)))::int, case when ago % 11 = 3 then refused else 0 end
      from (values ('cccccccc-0000-4000-8000-000000000002', '${user.id}', 40, 60, 0), ('cccccccc-0000-4000-8000-000000000007', (select user_id::text from pat.service_accounts where name = 'Deployments'), 210, 40, 60),
        ('cccccccc-0000-4000-8000-000000000008', 'cccccccc-0000-4000-8000-00000000000a', 5, 12, 25)) keys (key, owner, base, spread, refused), generate_series(0, 38) ago;
    select pat.add_signing_key(kid => '2026-12');
    select pat.deny_token(pat.sign_jwt('{"role": "authenticated", "sub": "${user.id}"}', '30 days'), 'in a public repository');`);
  mkdirSync(SHOTS, { recursive: true });
  const taken = [];
  for (const scheme of ['light', 'dark']) {
    const page = await world.visit('/', { colorScheme: scheme });
    // What only the demo has is not in the pictures.
    await page.evaluate(() => document.querySelector('#mailbox').remove());
    const look = async (name, path, top) => {
      if (path !== undefined) await page.evaluate((hash) => { location.hash = hash; }, `#/${path}`);
      await page.getByRole('progressbar').first().waitFor({ state: 'detached' });
      await page.locator('pat-console main > *').first().waitFor();
      // In the dark nothing but the colours is different.
      assert.deepEqual(await world.violations(page, scheme === 'dark' ? ['color-contrast'] : undefined), [], `${name}, ${scheme}`);
      await page.setViewportSize({ width: 320, height: 700 });
      assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= 320), `${name} fits 320 pixels`);
      await page.setViewportSize({ width: 900, height: 640 });
      await page.mouse.move(0, 0);
      await top?.evaluate((element) => element.scrollIntoView());
      const file = join(SHOTS, `${name}-${scheme}.png`);
      const picture = await page.screenshot(makesShots ? { path: file } : {});
      assert.ok(picture.length < 100_000, `${name} has ${picture.length} bytes`);
      taken.push(`${name}-${scheme}.png`);
    };
    await look('sign-in');
    await look('forgotten', 'forgotten');
    await page.evaluate(() => { location.hash = '#/sign-in'; });
    await world.signIn(page, user);
    await page.getByRole('button', { name: 'Details of Backup script' }).click();
    await page.getByRole('img', { name: 'In the last 30 days' }).waitFor();
    await look('tokens');
    await page.getByRole('button', { name: 'New token' }).click();
    await page.getByLabel('Name').fill('Dashboard');
    await page.getByLabel('Only what is chosen here').check();
    await page.getByLabel('todos: read').check();
    await look('new-token');
    await page.getByRole('button', { name: 'Cancel' }).click();
    await look('usage', undefined, row(page, 'Backup script'));
    await look('settings', 'settings');
    await look('account', 'account');
    await look('operator', 'operator');
    await world.enterAsOperator(page);
    await page.getByRole('heading', { name: 'library' }).waitFor();
    await look('doctor', 'operator/doctor');
    await look('all-usage', 'operator/usage');
    await look('signing-keys', 'operator/keys');
    await page.getByRole('link', { name: 'Key inspector' }).click();
    await page.getByLabel('Key or token').fill('"sb_secret_0123456789abcdefghijkl_01234567"');
    await page.getByRole('button', { name: 'Inspect' }).click();
    await page.getByText('There are quotation marks').waitFor();
    await look('key-inspector');
    await look('events', 'operator/events');
    await look('denied-tokens', 'operator/denied');
    assert.deepEqual(page.wrong, []);
  }
  assert.deepEqual(readdirSync(SHOTS).sort(), taken.sort());
  for (const file of taken) assert.ok(statSync(join(SHOTS, file)).size < 100_000, file);
});

test('the server of the demo refreshes sessions, and answers nobody who calls it by another name', async () => {
  const { session } = await world.user('nora@example.com');
  const call = (path, { token = session.access_token, body } = {}) => fetch(world.origin + path, {
    method: body ? 'POST' : 'GET', headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' }, body: body && JSON.stringify(body),
  });
  assert.equal((await (await call('/auth/v1/user')).json()).email, 'nora@example.com');
  const refreshed = await (await call('/auth/v1/token?grant_type=refresh_token', { token: world.anonKey, body: { refresh_token: session.refresh_token } })).json();
  assert.equal((await call('/rest/v1/api_keys', { token: refreshed.access_token })).status, 200);
  assert.equal((await call('/auth/v1/logout?scope=global', { token: refreshed.access_token, body: {} })).status, 200);
  assert.equal((await call('/rest/v1/api_keys', { token: refreshed.access_token })).status, 401);
  assert.equal((await call('/%')).status, 400);
  assert.equal((await call('/..%2f..%2fpackage.json')).status, 404);
  const [answer] = await once(get(`${world.origin}/demo/mails`, { headers: { host: 'example.com' } }), 'response');
  assert.equal(answer.resume().statusCode, 421);
});

test('the licences of all packages that are built in are passed on', async () => {
  const { packages } = JSON.parse(readFileSync(join(CONSOLE, 'package-lock.json'), 'utf8'));
  // What is there without the tools that build it; and supabase-js, which the package leaves to whoever uses it.
  const own = Object.entries(packages).filter(([path, { dev }]) => path !== '' && !dev).map(([path]) => path.replace(/^.*node_modules\//, ''));
  assert.ok(own.includes('lit') && own.includes('@lit/localize'), `${own}`);
  const supabase = ['auth', 'functions', 'postgrest', 'realtime', 'storage', 'supabase'].map((name) => `@supabase/${name}-js`);
  const served = await fetch(`${world.origin}/THIRD-PARTY.txt`);
  assert.equal(served.headers.get('content-type'), 'text/plain; charset=utf-8');
  const elements = readFileSync(join(CONSOLE, 'dist/elements/THIRD-PARTY.txt'), 'utf8');
  for (const [text, names] of [[await served.text(), [...own, ...supabase]], [elements, own]]) {
    for (const name of names) {
      const { version, license } = packages[`node_modules/${name}`];
      assert.ok(text.includes(`\n${name} ${version}: ${license}\n`), `${name} is listed`);
      assert.match(text, new RegExp(`^-{78}\\n(.*, )?${name} ${version.replaceAll('.', '\\.')}(, .*)?\\n-{78}\\n\\n *\\S`, 'm'), `${name} has a text`);
    }
    assert.match(text, /Redistribution and use in source and binary forms/);
  }
  // The package for npm has the file, since it has all that is beside the elements.
  assert.ok(JSON.parse(readFileSync(join(CONSOLE, 'package.json'), 'utf8')).files.includes('dist/elements'));
});

test('no package runs a script of its own when it is installed', async () => {
  const root = join(CONSOLE, '..');
  const { stdout } = await promisify(execFile)('git', ['-c', 'safe.directory=*', '-C', root, 'grep', '-n', 'npm ci',
    '--', 'Makefile', 'scripts', 'packaging', '.ci', '.github', 'docs/console.md']);
  const lines = stdout.trim().split('\n');
  assert.ok(lines.length >= 4, stdout);
  assert.deepEqual(lines.filter((line) => !line.includes('--ignore-scripts')), []);
});

test('what is served is small, and needs nothing of others', async () => {
  const assets = join(CONSOLE, 'dist/page/assets');
  const own = readdirSync(assets).filter((file) => !file.startsWith('supabase-'));
  const size = own.reduce((sum, file) => sum + gzipSync(readFileSync(join(assets, file)), { level: 9 }).length, 0);
  assert.ok(size < 60_000, `${size} bytes`);
  assert.ok(gzipSync(readFileSync(join(CONSOLE, 'dist/elements/pat-console.js')), { level: 9 }).length < 60_000);
  const answer = await fetch(world.origin);
  const policy = answer.headers.get('content-security-policy');
  assert.match(policy, /default-src 'none'; script-src 'self';/);
  assert.match(policy, /connect-src 'self'/);
  assert.doesNotMatch(policy, /unsafe|https?:/);
  assert.doesNotMatch(await answer.text(), /<script(?![^>]*\bsrc=)|\son\w+=|\sstyle=/);
  const lock = readFileSync(join(CONSOLE, 'package-lock.json'), 'utf8');
  assert.doesNotMatch(lock, /"resolved"/);
  assert.ok(existsSync(join(CONSOLE, 'dist/page/index.html')));
});
