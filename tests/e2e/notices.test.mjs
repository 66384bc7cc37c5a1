// Notices by e-mail: the REST server, pat.notices, examples/mail_worker.mjs with its templates, and an SMTP server.
import assert from 'node:assert/strict';
import { copyFileSync, cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { SMTPServer } from 'smtp-server';
import { freePort } from '../cluster/cluster.mjs';
import { ALICE, BOB, start } from './fixture.mjs';
import { startMailWorker } from './mail_workers.mjs';

const path = (relative) => fileURLToPath(new URL(relative, import.meta.url));

// The worker is copied out beside its packages and templates, as its header says.
const folder = mkdtempSync(join(tmpdir(), 'supabase_pat-notices-'));
const script = join(folder, 'mail_worker.mjs');
copyFileSync(path('../../examples/mail_worker.mjs'), script);
cpSync(path('../../examples/mail_templates'), join(folder, 'mail_templates'), { recursive: true });
symlinkSync(path('../node_modules'), join(folder, 'node_modules'));

let world;
let smtp;
let smtpPort;
let mails = [];
/** What the SMTP server does with a mail before it accepts it. */
let onMail = () => {};
const workers = [];
before(async () => {
  world = await start({
    settings: {
      'supabase_pat.notices': 'minted, expiring, revoked, leaked', 'supabase_pat.enable_leak_reports': 'on',
      'supabase_pat.outbox_lease': '2s', 'supabase_pat.max_name_length': 10_000, 'supabase_pat.max_keys_per_user': 1000,
    },
    sql: `update auth.users set email_confirmed_at = now();
      update auth.users set raw_user_meta_data = '{"locale": "es_MX"}' where id = '${BOB}';`,
  });
  smtpPort = await freePort();
  smtp = new SMTPServer({
    disabledCommands: ['AUTH', 'STARTTLS'],
    async onData(stream, { envelope }, done) {
      try {
        const mail = parse(Buffer.concat(await stream.toArray()).toString());
        mail.recipients = envelope.rcptTo.map(({ address }) => address);
        await onMail(mail);
        mails.push(mail);
        done();
      } catch (error) {
        done(error);
      }
    },
  });
  await new Promise((resolve, reject) => {
    smtp.once('error', reject);
    smtp.listen(smtpPort, '127.0.0.1', resolve);
  });
});
afterEach(async () => {
  onMail = () => {};
  for (const { child } of workers.splice(0)) child.kill('SIGKILL');
  sql('delete from pat.api_keys; delete from pat.notices');
  mails = [];
});
after(async () => {
  await new Promise((resolve) => smtp.close(resolve));
  world.stop();
  rmSync(folder, { recursive: true });
});

/** Header lines as they came, subject and text as they are read. */
function parse(raw) {
  const [head, body] = raw.split(/\r\n\r\n([^]*)/);
  const lines = head.replace(/\r\n[ \t]+/g, ' ').split('\r\n');
  const headers = Object.fromEntries(lines.map((line) => [line.slice(0, line.indexOf(':')).toLowerCase(), line.slice(line.indexOf(':') + 1).trim()]));
  const quotedPrintable = (text) => Buffer.from(text.replace(/=([0-9A-F]{2})/g, (_, hex) => String.fromCharCode(parseInt(hex, 16))), 'latin1').toString();
  const word = (_, kind, text) => (kind === 'Q' ? quotedPrintable(text.replaceAll('_', ' ')) : Buffer.from(text, 'base64').toString());
  const subject = headers.subject.replace(/\?= =\?/g, '?==?').replace(/=\?UTF-8\?([QB])\?([^?]*)\?=/g, word);
  const text = {
    '7bit': () => body,
    'quoted-printable': () => quotedPrintable(body.replace(/=\r\n/g, '')),
    base64: () => Buffer.from(body, 'base64').toString(),
  }[headers['content-transfer-encoding']]();
  return { names: Object.keys(headers).sort(), headers, to: headers.to, subject, text: text.replaceAll('\r\n', '\n') };
}

function startWorker(env = {}) {
  const worker = startMailWorker(script, world.cluster, smtpPort, { POLL_SECONDS: '0.2', ...env });
  workers.push(worker);
  return worker;
}

async function until(condition, what) {
  for (const deadline = Date.now() + 20_000; Date.now() < deadline;) {
    const answer = await condition();
    if (answer) return answer;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`after 20 seconds not yet: ${what}\n${workers.map(({ output }) => output).join('--\n')}`);
}

const sql = (statement) => world.cluster.psql('postgres', statement);
const waiting = () => sql('select count(*) from pat.notices where ended_at is null and due_at <= now()');
const nothingWaits = () => until(() => waiting() === '0', 'nothing that waits');
const mint = async (user, name, args = '') => {
  const row = JSON.parse(sql(`select to_jsonb(m) from mint_pat('${user}', $name$${name}$name$ ${args}) m`));
  return row;
};
const subjects = (email) => mails.filter(({ recipients }) => recipients.includes(email)).map(({ subject }) => subject).sort();
/** A token that ends in so many days, made a year ago. */
const old = (user, name, days) => sql(`insert into pat.api_keys (id, user_id, name, created_at, expires_at)
  values (gen_random_uuid(), '${user}', '${name}', now() - interval '1 year', now() + interval '${days} days') returning id`);

test('each kind arrives once with two workers, in Spanish for who wants it', async () => {
  for (const user of [ALICE, BOB]) {
    sql('delete from pat.notice_marks');
    old(user, 'soon', 5);
    const { id } = await mint(user, 'laptop');
    assert.equal(sql(`select revoke_pat('${id}')`), 't');
    const { token } = await mint(user, 'in a repository', `, kind => 'opaque'`);
    const { status } = await world.request('POST', '/rpc/report_leaked_tokens', { body: { tokens: [token], found_at: 'https://example.com/.env#L3' } });
    assert.equal(status, 204);
  }
  const pair = [startWorker(), startWorker()];
  await until(() => mails.length >= 10, 'ten mails');
  await nothingWaits();
  assert.deepEqual(subjects('alice@example.com'), [
    'A new access token for your account', 'A new access token for your account', 'An access token of yours expires soon',
    'An access token of yours had leaked and was revoked', 'An access token of yours was revoked',
  ]);
  assert.deepEqual(subjects('bob@example.com'), [
    'Se revocó un token de acceso tuyo', 'Un nuevo token de acceso para tu cuenta', 'Un nuevo token de acceso para tu cuenta',
    'Un token de acceso tuyo caduca pronto', 'Un token de acceso tuyo se había filtrado y se revocó',
  ]);
  assert.equal(sql(`select count(*) from pat.notices where outcome = 'sent' and name is null and hint is null and found_at is null`), '10');

  const of = (email, subject) => mails.find((mail) => mail.recipients.includes(email) && subject.test(mail.subject));
  const made = of('alice@example.com', /^A new/);
  assert.deepEqual([made.to, made.headers.from, made.headers['auto-submitted']], ['alice@example.com', 'Todos <no-reply@example.com>', 'auto-generated']);
  assert.match(made.text, /^The access token “\u2068(laptop|in a repository)\u2069” \(it ends in “\u2068.{6}\u2069”\) was made for your account on \w+ \d+, \d{4} at \d+:\d\d [AP]M UTC\.\n\nIt was done by an operator\.\n/);
  assert.match(of('alice@example.com', /leaked/).text, /“\u2068in a repository\u2069”.*\n\nWhoever found it says that it was here: “\u2068https:\/\/example\.com\/\.env#L3\u2069”\./);
  assert.match(of('bob@example.com', /caduca/).text, /^Tu token de acceso “\u2068soon\u2069” caduca el \d+ de \w+ de \d{4}(,| a las) \d+:\d\d UTC\.\n/);
  for (const worker of pair) {
    worker.child.kill('SIGTERM');
    assert.equal(await worker.ended, 0, worker.output);
    assert.match(worker.output, /^(\d+ sent\n)*SIGTERM: ending\n$/);
  }
  assert.equal(pair.map(({ output }) => output).join('').match(/ sent$/gm).length, 10);
});

test('a token tells which token has made it', async () => {
  const maker = await mint(ALICE, 'the maker', `, scopes => '{tokens:write}'`);
  await startWorker();
  await until(() => mails.length === 1, 'a mail');
  const { status, data } = await world.request('POST', '/rpc/mint_pat', { token: maker.token, body: { name: 'the made', scopes: ['tokens:write'] } });
  assert.equal(status, 200, JSON.stringify(data));
  await until(() => mails.length === 2, 'another mail');
  assert.match(mails[1].text, /“\u2068the made\u2069”.*\n\nIt was done with your token “\u2068the maker\u2069”\.\n/);
});

test('nothing is sent that is over by then, nor to whom nobody should write', async () => {
  sql('delete from pat.notice_marks');
  const [revoked, disabled, rotated, kept] = ['revoked', 'disabled', 'rotated', 'kept'].map((name) => old(ALICE, name, 6));
  sql('select count(*) from pat.claim_notices(0)');
  assert.equal(waiting(), '4');
  sql(`set supabase_pat.notices = ''; select revoke_pat('${revoked}'), edit_pat('${disabled}', disabled => true), rotate_pat('${rotated}', '1 day')`);
  await mint(BOB, 'of a banned user');
  sql(`update auth.users set banned_until = 'infinity' where id = '${BOB}'`);
  sql(`insert into auth.users (id, email) values (gen_random_uuid(), 'stranger@example.com'), (gen_random_uuid(), null)`);
  for (const id of sql(`select id from auth.users where id not in ('${ALICE}', '${BOB}')`).split('\n')) await mint(id, 'unconfirmed');
  const worker = startWorker();
  await nothingWaits();
  assert.deepEqual(mails.map(({ recipients, subject, text }) => [recipients, subject, text.includes('kept')]),
    [[['alice@example.com'], 'An access token of yours expires soon', true]]);
  assert.equal(worker.output.match(/ sent$/gm).length, 1);
  sql(`update auth.users set banned_until = null where id = '${BOB}'; delete from auth.users where id not in ('${ALICE}', '${BOB}')`);
  assert.ok(kept);
});

test('hostile names stay within a line of the text', async () => {
  const names = [
    'a\r\nBcc: mallory@example.com\r\n\r\nforged', '=?utf-8?B?QmNjOiB4?=', '\u202egnp.exe', '<script>alert(1)</script>', '.', '"; DROP TABLE x; --',
    '\u05d0'.repeat(10_000), '\u{1f511}'.repeat(10_000), '\u2029\u2028line', '\u2069\u2069\u201d was made by us, and there is nothing to do. \u201cThis',
  ];
  for (const name of names) {
    sql(`insert into pat.api_keys (id, user_id, name, hint, expires_at) values (gen_random_uuid(), '${ALICE}', $name$${name}$name$, E'\\r\\nX: y', 'infinity')`);
  }
  sql(`select revoke_all_pats('${ALICE}')`);
  startWorker();
  await until(() => mails.length === names.length, `${names.length} mails`);
  await nothingWaits();
  for (const { names: headers, recipients, subject, text } of mails) {
    assert.deepEqual(headers, ['auto-submitted', 'content-transfer-encoding', 'content-type', 'date', 'from', 'message-id', 'mime-version', 'subject', 'to']);
    assert.deepEqual(recipients, ['alice@example.com']);
    assert.equal(subject, 'An access token of yours was revoked');
    const [first, blank, second] = text.split('\n');
    assert.match(first, /^Your access token “\u2068[^“”\u2066-\u2069\u202a-\u202e\u2028\u2029\p{Cc}]*\u2069” \(it ends in “\u2068X: y\u2069”\) was revoked on .* UTC\. What used it has stopped working\.$/u);
    assert.deepEqual([blank, second], ['', 'It was done by an operator.']);
    assert.ok([...first].length < 300, first);
  }
});

test('a server that refuses gets the notice again, and a revocation in between ends it', async () => {
  sql('delete from pat.notice_marks');
  const id = old(ALICE, 'refused', 6);
  let refused = 0;
  onMail = () => {
    refused += 1;
    throw Object.assign(new Error('5.7.1 <alice@example.com> not now'), { responseCode: 454 });
  };
  const worker = startWorker();
  await until(() => refused === 2, 'two tries');
  sql(`set supabase_pat.notices = ''; select revoke_pat('${id}')`);
  onMail = () => {};
  await nothingWaits();
  assert.deepEqual(mails, []);
  assert.equal(sql('select outcome from pat.notices'), 'the token was revoked');
  assert.ok(!worker.output.includes('alice@example.com'), worker.output);
});

test('what a worker claimed and did not finish comes again when its lease is over', async () => {
  await mint(ALICE, 'left behind');
  assert.equal(sql('select count(*) from pat.claim_notices()'), '1');
  startWorker();
  await until(() => mails.length === 1, 'a mail');
  await nothingWaits();
  assert.equal(sql('select attempts from pat.notices'), '2');
});

test('templates can be replaced, and English is there for languages that are not', async () => {
  const own = join(folder, 'own');
  mkdirSync(own);
  writeFileSync(join(own, 'en.mjs'), `export const minted = ({ token_name }, quoted) => ({ subject: 'Made\\r\\nBcc: x@example.com', text: ['It is ' + quoted(token_name)] });`);
  sql(`update auth.users set raw_user_meta_data = '{"locale": "../own/en"}' where id = '${ALICE}'`);
  await mint(ALICE, 'x');
  await mint(BOB, 'y');
  startWorker({ TEMPLATES: own });
  await until(() => mails.length === 2, 'two mails');
  assert.deepEqual(mails.map(({ subject, text, names }) => [subject, text, names.includes('bcc')]).sort(), [
    ['Made Bcc: x@example.com', 'It is “\u2068x\u2069”\n', false], ['Made Bcc: x@example.com', 'It is “\u2068y\u2069”\n', false],
  ]);
  const without = join(folder, 'without');
  mkdirSync(without);
  const worker = startWorker({ TEMPLATES: without });
  assert.equal(await worker.ended, 1);
  assert.match(worker.output, /must have a file en\.mjs/);
});

test('a role without the right to claim notices sends codes alone', async () => {
  const { cluster } = world;
  sql(`create role codes_only login password '${cluster.password}';
    grant execute on function pat.claim_messages(integer), pat.message_sent(uuid), pat.message_failed(uuid, text) to codes_only;
    alter database postgres set supabase_pat.mail_worker_role = 'codes_only';`);
  await mint(ALICE, 'not told');
  const worker = startWorker({ DATABASE_URL: cluster.url('postgres', 'codes_only', cluster.password), ROLE: 'codes_only' });
  await until(() => worker.output.includes('notices are not sent: permission denied for function claim_notices'), 'what it does not do');
  sql(`select request_password_reset('alice@example.com')`);
  await until(() => mails.length === 1, 'a code');
  assert.equal(mails[0].subject, 'Your code to reset your password');
  assert.equal(worker.output.match(/not sent/g).length, 1);
  assert.equal(waiting(), '1');
  sql('alter database postgres reset supabase_pat.mail_worker_role');
});
