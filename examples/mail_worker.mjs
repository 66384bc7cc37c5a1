// Sends the codes that supabase_pat puts into its outbox, by SMTP.
// Usage: copy this file to where it shall run, and
//   npm install pg nodemailer
//   export DATABASE_URL='postgresql://mail_worker:…@db.example.com/postgres' ROLE=mail_worker
//   export SMTP_URL='smtp://user:…@mail.example.com:587?requireTLS=true'
//   export MAIL_FROM='Example <no-reply@example.com>'
//   node mail_worker.mjs
// docs/operations.md says how to make that role, which may do nothing else. ROLE is service_role if not told
// otherwise, and the user of DATABASE_URL must be allowed to become it. The connection must not go through a
// pooler of transactions, where LISTEN and SET ROLE do not last.
// Several workers share the work. Each mail is sent at least once: twice, if a worker or the database
// goes away after the mail was sent and before that was noted.
import { setTimeout as sleep } from 'node:timers/promises';
import nodemailer from 'nodemailer';
import pg from 'pg';

const { DATABASE_URL, SMTP_URL, MAIL_FROM, ROLE = 'service_role', POLL_SECONDS = '30' } = process.env;
if (!DATABASE_URL || !URL.canParse(SMTP_URL) || !MAIL_FROM) {
  console.error('DATABASE_URL, SMTP_URL and MAIL_FROM must be set, the first two to URLs');
  process.exit(1);
}
const MAILS = {
  recovery: (code, end) => ({
    subject: 'Your code to reset your password',
    text: `${code} is your code to reset your password.\n\nIt is good until ${end}.\n`
      + 'If you did not ask for it, there is nothing that you need to do.\n',
  }),
  signup: (code, end) => ({
    subject: 'Your code to confirm your address',
    text: `${code} is your code to confirm your address.\n\nIt is good until ${end}.\n`
      + 'If you did not sign up, there is nothing that you need to do.\n',
  }),
};
// In sum less than the lease of a message, after which another worker may send it again.
const TIMEOUTS = { connectionTimeout: 10_000, greetingTimeout: 10_000, socketTimeout: 20_000 };
const smtpUrl = new URL(SMTP_URL);
for (const [name, milliseconds] of Object.entries(TIMEOUTS)) smtpUrl.searchParams.set(name, milliseconds);
const smtp = nodemailer.createTransport(smtpUrl.href, { from: MAIL_FROM });
const ending = new AbortController();
for (const signal of ['SIGTERM', 'SIGINT']) {
  process.once(signal, () => {
    console.log(`${signal}: ending`);
    ending.abort();
  });
}

let pause = 1;
while (!ending.signal.aborted) {
  await work().catch((error) => console.error(`database: ${error.message || error.code}; again in ${pause} s`));
  await sleep(pause * 1000, undefined, { signal: ending.signal }).catch(() => {});
  pause = Math.min(2 * pause, 30);
}

/** Sends what there is and what comes, until the worker is to end or the database is away. */
async function work() {
  const db = new pg.Client({
    connectionString: DATABASE_URL, application_name: 'mail_worker', connectionTimeoutMillis: 10_000, query_timeout: 10_000,
  });
  let round = new AbortController();
  const wake = () => round.abort();
  db.on('notification', wake).on('error', wake);
  ending.signal.addEventListener('abort', wake);
  try {
    await db.connect();
    await db.query(`set role ${db.escapeIdentifier(ROLE)}`);
    await db.query('listen supabase_pat_outbox');
    while (!ending.signal.aborted) {
      round = new AbortController(); // before claiming, so that no notification is missed
      while (!ending.signal.aborted && await sendNext(db));
      pause = 1;
      await sleep(POLL_SECONDS * 1000, undefined, { signal: round.signal }).catch(() => {});
    }
  } finally {
    ending.signal.removeEventListener('abort', wake);
    await db.end();
  }
}

/** Sends one message, if there is one. No more than that is claimed, so that the lease is for one mail. */
async function sendNext(db) {
  const { rows: [message] } = await db.query('select * from pat.claim_messages(1)');
  if (message === undefined) return false;
  const { id, purpose, email, code, expires_at: end } = message;
  let reason;
  try {
    // As an object, the address is taken as it is: a comma in it makes no second recipient.
    await smtp.sendMail({ to: { address: email }, headers: { 'Auto-Submitted': 'auto-generated' }, ...MAILS[purpose](code, end.toUTCString()) });
  } catch (error) {
    reason = explain(error);
  }
  console.log(reason === undefined ? `${id} sent` : `${id} failed: ${reason}`);
  if (reason === undefined) await db.query('select pat.message_sent($1)', [id]);
  else await db.query('select pat.message_failed($1, $2)', [id, reason]);
  return true;
}

/** Why it failed. A server's answer to a mail is cut to its numbers: it may repeat the address and the code. */
function explain({ command, message, code, response }) {
  if (command === 'CONN') return message;
  const [answer] = response?.match(/^\d{3}([ -]\d\.\d+\.\d+)?/) ?? [];
  return [code ?? message, answer].filter(Boolean).join(' ');
}
