// Reads out of the sources what the extension can raise, for comparison with the documentation.
import { readFileSync, readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../../', import.meta.url));
const read = (path) => readFileSync(root + path, 'utf8');

/** Postgres's names of SQLSTATEs, as far as our PL/pgSQL uses them. */
const CONDITIONS = {
  check_violation: '23514', duplicate_object: '42710', duplicate_table: '42P07', insufficient_privilege: '42501', feature_not_supported: '0A000',
  object_not_in_prerequisite_state: '55000', lock_not_available: '55P03',
};

/** A Rust or SQL literal as text, with … for what is filled in. */
const textOf = (literal) => literal
  .replace(/\\\n\s*/g, '').replace(/'\s*\n\s*'/g, '').replaceAll("''", "'")
  .replaceAll('\\"', '"').replace(/\{[^}]*\}/g, '…').replace(/%[sI]?(?=$|[ "':.])/g, '…').trim();

/** The variants of an error enum, each with its message. */
function variantsOf(source, name) {
  const body = source.match(new RegExp(`pub enum ${name} \\{\\n([^]*?)\\n\\}`))[1];
  const found = [...body.matchAll(/#\[error\(\s*"((?:[^"\\]|\\[^])*)"[^]*?\)\]\s*(\w+)/g)];
  const count = body.split('#[error(').length - 1;
  if (found.length !== count) throw new Error(`${found.length} of ${count} messages of ${name} can be read`);
  return found.map(([, literal, variant]) => ({ variant, message: textOf(literal) }));
}

/** Which variants each arm of the `match` in a function names, with what it gives. */
function armsOf(source, name) {
  const body = source.match(new RegExp(`pub fn ${name}\\([^]*?match [^]*? \\{\\n([^]*?)\\n        \\}`))[1];
  return [...body.matchAll(/((?:[^"=]|"[^"]*"(?!,\n)|=(?!>))*?) =>\s*(?:\{\s*)?"((?:[^"\\]|\\[^])*)"/g)]
    .map(([, pattern, literal]) => ({ variants: [...pattern.matchAll(/\b[A-Z]\w+/g)].map(([variant]) => variant), literal: textOf(literal) }));
}

/** All errors of the sources: SQLSTATE and message; and all hints. */
export function errorsOfTheSource() {
  const core = read('crates/core/src/error.rs');
  const codes = armsOf(core, 'sqlstate');
  const errors = variantsOf(core, 'Error').flatMap(({ variant, message }) => {
    const own = [...new Set(codes.filter(({ variants }) => variants.includes(variant)).map(({ literal }) => literal))];
    if (own.length === 0) throw new Error(`there is no SQLSTATE of ${variant}`);
    return own.map((sqlstate) => ({ sqlstate, message }));
  });

  const gate = read('crates/core/src/refusal.rs');
  const places = Object.fromEntries([...gate.matchAll(/^ {12}(\w+)(?:\(_\)| \{ \.\. \})? => (\d+),$/gm)].map(([, variant, place]) => [variant, Number(place)]));
  for (const { variant, message } of variantsOf(gate, 'Refusal')) {
    errors.push({ sqlstate: `PT${places[variant] <= 9 ? 401 : places[variant] <= 14 ? 403 : places[variant] <= 16 ? 429 : 503}`, message });
  }

  const settings = read('src/pg/settings.rs') + read('src/pg/guc.rs');
  const ofHooks = (field) => [...settings.matchAll(new RegExp(`GUC_check_${field}_string\\s*=\\s*c"([^"]*)"`, 'g'))].map(([, text]) => text);
  for (const message of ofHooks('errmsg')) errors.push({ sqlstate: '22023', message });

  const hints = [...ofHooks('errhint'), ...[...armsOf(core, 'hint'), ...armsOf(gate, 'hint')].map(({ literal }) => literal)];
  // An upgrade script raises again what the functions raise that it replaces.
  const seen = new Set();
  for (const file of readdirSync(root + 'sql').filter((name) => name.endsWith('.sql'))) {
    for (const [, raised] of read(`sql/${file}`).matchAll(/raise exception using([^;]*);/g)) {
      const literal = (name) => raised.match(new RegExp(`${name} = (?:format\\()?('(?:[^']|''|'\\s*\\n\\s*')*')`))?.[1];
      const error = { sqlstate: CONDITIONS[literal('errcode').slice(1, -1)], message: textOf(literal('message').slice(1, -1)) };
      const key = `${error.sqlstate} ${error.message}`;
      if (!seen.has(key)) errors.push(error);
      seen.add(key);
      const hint = literal('hint');
      if (hint) hints.push(textOf(hint.slice(1, -1)));
    }
  }
  return { errors, hints: [...new Set(hints)] };
}

/** Why a token is not valid, which an error may go on to say. */
export const rejectionsOfTheSource = () => variantsOf(read('crates/core/src/rejection.rs'), 'Rejection').map(({ message }) => message);

/** What the functions say that they do where a caller may not: what only trusted roles may, and what has to write. */
export function guardedActions() {
  const files = readdirSync(root + 'src', { recursive: true }).filter((file) => file.endsWith('.rs')).map((file) => read(`src/${file}`));
  const guards = files.flatMap((source) => [...source.matchAll(/require_(trusted|mail_worker|writable)\("([^"]+)"\)/g)]);
  // A pattern that finds nothing any more would let everything pass.
  const expected = { trusted: 15, mail_worker: 3, writable: 25 };
  for (const [guard, least] of Object.entries(expected)) {
    const found = guards.filter(([, name]) => name === guard).length;
    if (found < least) throw new Error(`${found} calls of require_${guard} can be read, of ${least} or more`);
  }
  return guards.map(([, guard, action]) => (guard === 'writable' ? `25006 ${action} is not possible in a read-only transaction` : `42501 only a trusted role may ${action}`));
}

/** Every setting that the library defines. */
export const settingsOfTheSource = () => [...new Set([...read('src/pg/settings.rs').matchAll(/c"(supabase_pat\.\w+)",/g)].map(([, name]) => name))];

/** Why the gate refuses, as events say it. */
export const refusalReasons = () => read('crates/core/src/refusal.rs').match(/REASONS: [^=]*= \[([^]*?)\];/)[1].match(/\w+/g);
