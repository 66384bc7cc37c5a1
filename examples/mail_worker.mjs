// Sends the codes that supabase_pat puts into its outbox, and the notices about tokens, by SMTP.
// Usage: copy this file and the folder mail_templates to where it shall run, and
//   npm install pg nodemailer
//   export DATABASE_URL='postgresql://mail_worker:…@db.example.com/postgres' ROLE=mail_worker
//   export SMTP_URL='smtp://user:…@mail.example.com:587?requireTLS=true'
//   export MAIL_FROM='Example <no-reply@example.com>'
//   node mail_worker.mjs
// TEMPLATES names another folder with the texts of the notices: a module for each language, as en.mjs is one, which
// must be there. Without the folder, and without the right to claim notices, codes alone are sent.
// docs/operations.md says how to make that role, which may do nothing else. ROLE is service_role if not told
// otherwise, and the user of DATABASE_URL must be allowed to become it. The connection must not go through a
// pooler of transactions, where LISTEN and SET ROLE do not last.
// Several workers share the work. Each mail is sent at least once: twice, if a worker or the database
// goes away after the mail was sent and before that was noted.
import { existsSync, readdirSync } from 'node:fs';
import { resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath, pathToFileURL } from 'node:url';
import nodemailer from 'nodemailer';
import pg from 'pg';

const {
  DATABASE_URL, SMTP_URL, MAIL_FROM, ROLE = 'service_role', POLL_SECONDS = '30',
  TEMPLATES = fileURLToPath(new URL('mail_templates', import.meta.url)),
} = process.env;
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
/** The texts of notices by language. */
const templates = new Map();
if (existsSync(TEMPLATES) || process.env.TEMPLATES) {
  for (const file of readdirSync(TEMPLATES).filter((name) => name.endsWith('.mjs'))) {
    templates.set(file.slice(0, -'.mjs'.length).toLowerCase(), await import(pathToFileURL(resolve(TEMPLATES, file))));
  }
  if (!templates.has('en')) {
    console.error(`${TEMPLATES} must have a file en.mjs`);
    process.exit(1);
  }
}
let sendsNotices = templates.size > 0;
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
      while (!ending.signal.aborted && (await sendMessage(db) || await sendNotice(db)));
      pause = 1;
      await sleep(POLL_SECONDS * 1000, undefined, { signal: round.signal }).catch(() => {});
    }
  } finally {
    ending.signal.removeEventListener('abort', wake);
    await db.end();
  }
}

/** Sends one message, if there is one. No more than that is claimed, so that the lease is for one mail. */
async function sendMessage(db) {
  const { rows: [message] } = await db.query('select * from pat.claim_messages(1)');
  if (message === undefined) return false;
  const { id, purpose, email, code, expires_at: end } = message;
  const reason = await send(id, email, () => MAILS[purpose](code, end.toUTCString()));
  if (reason === undefined) await db.query('select pat.message_sent($1)', [id]);
  else await db.query('select pat.message_failed($1, $2)', [id, reason]);
  return true;
}

/** Sends one notice, if there is one. Codes come first: somebody waits for them. */
async function sendNotice(db) {
  if (!sendsNotices) return false;
  let notice;
  try {
    ({ rows: [notice] } = await db.query('select * from pat.claim_notices(1)'));
  } catch (error) {
    // A database of 0.1.0 has no such function, and a role may be for codes alone.
    if (error.code !== '42883' && error.code !== '42501') throw error;
    console.log(`notices are not sent: ${error.message}`);
    sendsNotices = false;
  }
  if (notice === undefined) return false;
  const { id, email, kind, language } = notice;
  const reason = await send(id, email, () => {
    const { subject, text } = template(kind, language)(notice, quoted);
    return { subject: oneLine(subject), text: `${text.filter(Boolean).join('\n\n')}\n` };
  });
  if (reason === undefined) await db.query('select pat.notice_sent($1)', [id]);
  else await db.query('select pat.notice_failed($1, $2)', [id, reason]);
  return true;
}

/** The text in the language of the user, or in a wider one (es for es-mx), or in English. */
function template(kind, language) {
  for (let tag = language ?? ''; tag !== ''; tag = tag.slice(0, Math.max(tag.lastIndexOf('-'), 0))) {
    const found = templates.get(tag)?.[kind];
    if (found) return found;
  }
  return templates.get('en')[kind];
}

/** Nothing that ends a line, or turns the direction of what follows. */
function oneLine(text) {
  return String(text ?? '').replace(/[\p{Cc}\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]+/gu, ' ').trim();
}

/** A text of somebody else's, for the middle of a line: cut, in quotes that it cannot end, and with a direction of its own. */
function quoted(text) {
  const letters = [...oneLine(text).replace(/["\p{Pi}\p{Pf}\u201a\u201e\uff02]/gu, "'")];
  return `\u201c\u2068${letters.length > 100 ? `${letters.slice(0, 100).join('')}\u2026` : letters.join('')}\u2069\u201d`;
}

/** Sends a mail, and returns why that has failed if it has. */
async function send(id, email, compose) {
  let reason;
  try {
    // As an object, the address is taken as it is: a comma in it makes no second recipient.
    await smtp.sendMail({ to: { address: email }, headers: { 'Auto-Submitted': 'auto-generated' }, ...compose() });
  } catch (error) {
    reason = explain(error);
  }
  console.log(reason === undefined ? `${id} sent` : `${id} failed: ${reason}`);
  return reason;
}

/** Why it failed. A server's answer to a mail is cut to its numbers: it may repeat the address and the code. */
function explain({ command, message, code, response }) {
  if (command === 'CONN') return message;
  const [answer] = response?.match(/^\d{3}([ -]\d\.\d+\.\d+)?/) ?? [];
  return [code ?? message, answer].filter(Boolean).join(' ');
}
