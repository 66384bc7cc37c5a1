// Codes by e-mail: the REST server, the outbox, examples/mail_worker.mjs and an SMTP server.
import assert from 'node:assert/strict';
import { copyFileSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { SMTPServer } from 'smtp-server';
import { freePort } from '../cluster/cluster.mjs';
import { start } from './fixture.mjs';
import { startMailWorker } from './mail_workers.mjs';

const LEASE_SECONDS = 2;
const path = (relative) => fileURLToPath(new URL(relative, import.meta.url));

// The worker is copied out beside its packages, as its header says.
const folder = mkdtempSync(join(tmpdir(), 'supabase_pat-mail-'));
const script = join(folder, 'mail_worker.mjs');
copyFileSync(path('../../examples/mail_worker.mjs'), script);
symlinkSync(path('../node_modules'), join(folder, 'node_modules'));

let world;
let smtpPort;
let mails = [];
let smtp;
/** What the SMTP server does with a mail before it accepts it. */
let onMail = () => {};
const workers = [];
before(async () => {
  world = await start({ settings: { 'supabase_pat.outbox_lease': `${LEASE_SECONDS}s` }, sql: 'create extension pgcrypto;' });
  smtpPort = await freePort();
  await startSmtp();
});
afterEach(() => {
  onMail = () => {};
  for (const { child } of workers.splice(0)) child.kill('SIGKILL');
});
after(async () => {
  await stopSmtp();
  world.stop();
  rmSync(folder, { recursive: true });
});

function startSmtp() {
  smtp = new SMTPServer({
    disabledCommands: ['AUTH', 'STARTTLS'],
    async onData(stream, { envelope }, done) {
      try {
        const mail = parse(Buffer.concat(await stream.toArray()).toString());
        mail.recipients = envelope.rcptTo.map(({ address }) => address);
        await onMail(mail);
        mails.push({ ...mail, at: Date.now() });
        done();
      } catch (error) {
        done(error);
      }
    },
  });
  return new Promise((resolve, reject) => {
    smtp.once('error', reject);
    smtp.listen(smtpPort, '127.0.0.1', resolve);
  });
}
const stopSmtp = () => new Promise((resolve) => smtp.close(resolve));

/** The worker sends ASCII, so the text stands in the mail as it is. */
function parse(raw) {
  const [head, text] = raw.split(/\r\n\r\n([^]*)/);
  const headers = Object.fromEntries(head.replace(/\r\n\s+/g, ' ').split('\r\n').map((line) => {
    const colon = line.indexOf(':');
    return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
  }));
  assert.equal(headers['content-transfer-encoding'], '7bit');
  return { headers, to: headers.to, subject: headers.subject, text, code: text.match(/\b\d{6}\b/)?.[0] };
}

/** A worker in a process of its own, and what it prints. */
function startWorker(env = {}) {
  const worker = startMailWorker(script, world.cluster, smtpPort, { POLL_SECONDS: '0.5', ...env });
  workers.push(worker);
  return worker;
}

/** Ends a worker, which must do so by itself and have kept its secrets. */
async function end(worker) {
  worker.child.kill('SIGTERM');
  assert.equal(await worker.ended, 0, worker.output);
  for (const { code, recipients } of mails) {
    for (const secret of [code, ...recipients]) assert.ok(!worker.output.includes(secret), `${secret} in ${worker.output}`);
  }
}

const shown = ({ output }) => output.replaceAll(/[0-9a-f-]{36}/g, 'ID');

async function until(condition, what) {
  for (const deadline = Date.now() + 20_000; Date.now() < deadline;) {
    const answer = await condition();
    if (answer) return answer;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  const outputs = workers.map(({ output }) => output).join('--\n');
  throw new Error(`after 20 seconds not yet: ${what}\n${outputs}`);
}

const sql = (statement) => world.cluster.psql('postgres', statement);
const rpc = (name, body) => world.request('POST', `/rpc/${name}`, { body });
const mailsTo = (email) => mails.filter(({ recipients }) => recipients.includes(email));
const mailTo = (email) => until(() => mailsTo(email)[0], `a mail to ${email}`);
const waiting = () => Number(sql('select count(*) from pat.outbox where sealed is not null and is_deliverable'));
const nothingWaits = () => until(() => waiting() === 0, 'an empty outbox');

/** A user of a test's own: how often a code may be asked for is limited by address. */
function newUser(name) {
  sql(`insert into auth.users (email) values ('${name}@example.com')`);
  return `${name}@example.com`;
}

async function requestCode(email) {
  const { status, data } = await rpc('request_password_reset', { email });
  assert.equal(status, 200, JSON.stringify(data));
  return data;
}

async function assertDelivered(email, token) {
  const { code } = await mailTo(email);
  await nothingWaits();
  assert.equal(mailsTo(email).length, 1);
  assert.deepEqual(await rpc('verify_reset_code', { token, code }), { status: 200, data: true });
}

test('a role that may do nothing else sends the mails', async () => {
  const { cluster } = world;
  sql(`create role mail_worker login password '${cluster.password}';
    grant execute on function pat.claim_messages(integer), pat.message_sent(uuid), pat.message_failed(uuid, text) to mail_worker;
    alter database postgres set supabase_pat.mail_worker_role = 'mail_worker';`);
  const worker = startWorker({ DATABASE_URL: cluster.url('postgres', 'mail_worker', cluster.password), ROLE: 'mail_worker' });
  const email = newUser('of-its-own');
  await assertDelivered(email, await requestCode(email));
  await end(worker);
  sql('alter database postgres reset supabase_pat.mail_worker_role');
});

test('a forgotten password is reset with the code that comes by mail', async () => {
  // Within the deadline, only a notification wakes it.
  const worker = startWorker({ POLL_SECONDS: '600' });
  await until(() => sql(`select count(*) from pg_stat_activity
    where application_name = 'mail_worker' and query like '%claim_messages%' and state = 'idle'`) === '1', 'a worker that waits');
  const email = 'alice@example.com';
  const token = await requestCode(email);

  const { code, subject, text, to, headers } = await mailTo(email);
  assert.match(code, /^\d{6}$/);
  assert.equal(to, email);
  assert.equal(headers.from, 'Todos <no-reply@example.com>');
  assert.equal(subject, 'Your code to reset your password');
  assert.match(text, /^\d{6} is your code to reset your password\.\r\n\r\nIt is good until \w{3}, \d\d \w{3} \d{4} [\d:]{8} GMT\.\r\n/);
  const [, expiry] = text.match(/good until (.*)\./);
  assert.ok(Date.parse(expiry) > Date.now());

  const wrong = String((Number(code) + 1) % 1_000_000).padStart(6, '0');
  assert.deepEqual(await rpc('verify_reset_code', { token, code: wrong }), { status: 200, data: false });
  assert.deepEqual(await rpc('verify_reset_code', { token, code }), { status: 200, data: true });
  const reset = { token, code, new_password: 'correct horse battery staple' };
  assert.deepEqual(await rpc('reset_password', reset), { status: 200, data: true });
  assert.equal(sql(`select encrypted_password = public.crypt('correct horse battery staple', encrypted_password)
    from auth.users where email = '${email}'`), 't');
  assert.equal((await rpc('verify_reset_code', { token, code })).data, false);
  assert.equal((await rpc('reset_password', { ...reset, new_password: 'another horse, same token' })).data, false);

  await nothingWaits();
  assert.equal(sql('select count(*) from pat.outbox where sealed is not null'), '0');
  assert.equal(mailsTo(email).length, 1);
  await end(worker);
  assert.equal(shown(worker), 'ID sent\nSIGTERM: ending\n');
});

test('what a worker claimed and did not finish is delivered once, when its lease is over', async () => {
  const email = newUser('lease');
  const token = await requestCode(email);
  const claimed = Date.now();
  const dead = JSON.parse(sql(`set role service_role;
    select to_jsonb(message) from pat.claim_messages(1) as message`));
  assert.deepEqual([dead.email, dead.purpose, dead.attempt], [email, 'recovery', 1]);
  const worker = startWorker();
  await assertDelivered(email, token);
  const [{ at, code }] = mailsTo(email);
  assert.equal(code, dead.code);
  assert.ok(at - claimed >= LEASE_SECONDS * 1000, `after ${at - claimed} ms`);
  assert.equal(sql(`set role service_role; select pat.message_sent('${dead.id}')`), 'f');
  await end(worker);
});

test('two workers send a message once', async () => {
  const pair = [startWorker(), startWorker()];
  await until(() => sql(`select count(*) from pg_stat_activity where application_name = 'mail_worker'`) === '2', 'two workers');
  const users = ['ada', 'ben', 'cid', 'dan', 'eve', 'fay'].map(newUser);
  const tokens = await Promise.all(users.map(requestCode));
  for (const [i, email] of users.entries()) await assertDelivered(email, tokens[i]);
  for (const worker of pair) await end(worker);
});

test('a message is not lost while there is no SMTP server', async () => {
  const email = newUser('smtp');
  const worker = startWorker();
  await stopSmtp();
  const token = await requestCode(email);
  await until(() => /^[0-9a-f-]{36} failed: .*ECONNREFUSED/m.test(worker.output), 'a failure');
  assert.equal(waiting(), 1);
  await until(() => sql('select count(*) from pat.outbox where last_error is not null') === '1', 'the reason in the outbox');
  assert.deepEqual(mailsTo(email), []);
  await startSmtp();
  await assertDelivered(email, token);
  await end(worker);
  assert.match(shown(worker), /^(ID failed: .*ECONNREFUSED.*\n)+ID sent\nSIGTERM: ending\n$/);
});

test('an answer of the SMTP server that repeats code and address goes neither to the log nor to the outbox', async () => {
  const email = newUser('refused');
  let refused;
  onMail = (mail) => {
    refused = mail;
    onMail = () => {};
    const error = new Error(`5.7.1 <${email}> may not have ${mail.text.replaceAll('\r\n', ' ')}`);
    throw Object.assign(error, { responseCode: 554 });
  };
  const worker = startWorker();
  const token = await requestCode(email);
  await assertDelivered(email, token);
  assert.equal(refused.code, mailsTo(email)[0].code);
  await end(worker);
  assert.match(worker.output, /^([0-9a-f-]{36}) failed: EMESSAGE 554 5\.7\.1\n\1 sent\nSIGTERM: ending\n$/);
  const outbox = sql('select to_jsonb(message) from pat.outbox as message');
  assert.ok(outbox.includes('EMESSAGE 554 5.7.1'));
  for (const secret of [email, refused.code]) assert.ok(!outbox.includes(secret), `${secret} in ${outbox}`);
});

test('an unknown address gets a token that looks like any other, and no mail', async () => {
  const worker = startWorker();
  const [known, unknown] = [newUser('known'), 'nosuc@example.com'];
  const tokenOfNobody = await requestCode(unknown);
  const token = await requestCode(known);
  const lengths = (text) => text.split('.').map((part) => part.length);
  assert.equal(lengths(token).length, 3);
  assert.deepEqual(lengths(tokenOfNobody), lengths(token));
  await assertDelivered(known, token);
  assert.deepEqual(mailsTo(unknown), []);
  const { code } = mailsTo(known)[0];
  assert.deepEqual(await rpc('verify_reset_code', { token: tokenOfNobody, code }), { status: 200, data: false });
  await end(worker);
  assert.equal(shown(worker), 'ID sent\nSIGTERM: ending\n');
});

test('SIGTERM lets the mail that is under way arrive, and no other', async () => {
  const [first, second] = ['first', 'second'].map(newUser);
  let accept;
  const underWay = new Promise((resolve) => {
    onMail = () => new Promise((done) => {
      accept = done;
      resolve();
    });
  });
  const worker = startWorker();
  const token = await requestCode(first);
  await underWay;
  const next = await requestCode(second);
  const ended = end(worker);
  await until(() => worker.output.includes('SIGTERM'), 'a worker that has heard it');
  assert.equal(waiting(), 2);
  accept();
  await ended;
  assert.equal(shown(worker), 'SIGTERM: ending\nID sent\n');
  assert.equal(waiting(), 1);
  assert.equal(mailsTo(first).length, 1);

  onMail = () => {};
  const successor = startWorker();
  await assertDelivered(second, next);
  await assertDelivered(first, token);
  await end(successor);
  assert.equal(shown(successor), 'ID sent\nSIGTERM: ending\n');
});

test('SIGTERM ends a worker that waits for the database', async () => {
  const port = await freePort();
  const worker = startWorker({ DATABASE_URL: `postgresql://authenticator:x@127.0.0.1:${port}/postgres` });
  await until(() => worker.output.includes('again in 2 s'), 'a longer pause');
  await end(worker);
  assert.match(worker.output, /^database: .*ECONNREFUSED.*; again in 1 s\n/);
});

test('a worker comes back when the database does', async () => {
  const email = newUser('restart');
  const worker = startWorker();
  await until(() => sql(`select count(*) from pg_stat_activity where application_name = 'mail_worker'`) === '1', 'a worker');
  world.cluster.control('stop');
  try {
    await until(() => /^database: .*ECONNREFUSED/m.test(worker.output), 'a worker that misses the database');
  } finally {
    world.cluster.control('start');
  }
  // The REST server's connections are gone, too.
  await until(async () => (await world.request('GET', '/todos')).status === 200, 'a REST server that is back');
  await assertDelivered(email, await requestCode(email));
  await end(worker);
});
