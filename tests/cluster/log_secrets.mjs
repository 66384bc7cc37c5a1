// Finds secrets in the log of a server that logs all that it can: the settings that make Postgres log more, and a
// reader of the log that leaves out what the client itself sent.
import { closeSync, openSync, readSync } from 'node:fs';

/** Everything that Postgres and its own extensions can be made to log. */
export const LOUD = {
  log_min_messages: 'debug5',
  log_min_error_statement: 'debug5',
  log_error_verbosity: 'verbose',
  log_statement: 'all',
  log_duration: 'on',
  log_min_duration_statement: '0',
  log_parameter_max_length: '-1',
  log_parameter_max_length_on_error: '-1',
  log_line_prefix: '%m [%p] ',
  debug_print_parse: 'on',
  debug_print_rewritten: 'on',
  debug_print_plan: 'on',
  debug_pretty_print: 'off',
  track_activities: 'on',
  track_activity_query_size: '1MB',
  session_preload_libraries: 'auto_explain',
  'auto_explain.log_min_duration': '0',
  'auto_explain.log_nested_statements': 'on',
  'auto_explain.log_verbose': 'on',
};

/** The forms of secrets that the extension makes, stores or is given, with the part of each that cannot be guessed. */
const PATTERNS = [
  ['an opaque token', /(sbpat_[0-9A-Za-z]{42})/g],
  // A JWT: three parts, the last of them a whole signature. A test may send one with another signature than it had.
  ['a JWT', /(eyJ[\w-]{8,}\.[\w-]{8,})\.[\w-]{40,}/g],
  ['a private part of a JWK', /\\?"(?:d|k|p|q|dp|dq|qi)\\?":\s?\\?"([\w-]{20,})/g],
  ['a bcrypt hash', /(\$2[aby]\$\d\d\$[./0-9A-Za-z]{53})/g],
];

/** Finds all that looks like a secret, and these texts. */
export function patterns(known = []) {
  const exact = values(known.map((text) => ['a known secret', text]));
  return (text) => [
    ...PATTERNS.flatMap(([name, pattern]) => Array.from(text.matchAll(pattern), ([all, secret]) => [name, all, secret])
      .filter(([, all]) => !all.startsWith('sbpat_') || isOpaqueToken(all))),
    ...exact(text),
  ];
}

/** Whether the last six characters are the CRC-32 of those before them, in base62. Otherwise it is not a token. */
function isOpaqueToken(text) {
  let crc = 0xffffffff;
  for (const byte of Buffer.from(text.slice(0, -6))) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit += 1) crc = (crc >>> 1) ^ (0xedb88320 & -(crc & 1));
  }
  const digits = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
  let rest = ~crc >>> 0;
  let sum = '';
  for (let place = 0; place < 6; place += 1) {
    sum = digits[rest % 62] + sum;
    rest = Math.floor(rest / 62);
  }
  return text.endsWith(sum);
}

/**
 * Finds these secrets, each a name and a value, however they are written: as they are, in hex, and in base64 and
 * base64url, also as a part of something longer. The result is a list of name, text that was found, and value.
 */
export function values(secrets) {
  // The secrets are grouped by their first three characters, so that one pass over a text finds them all.
  const spellings = new Map();
  const starts = new Uint8Array(1 << 21);
  const start = (text, at) => ((text.charCodeAt(at) & 127) << 14) | ((text.charCodeAt(at + 1) & 127) << 7) | (text.charCodeAt(at + 2) & 127);
  for (const [name, value] of secrets) {
    for (const spelling of spellingsOf(value)) {
      const place = start(spelling, 0);
      starts[place] = 1;
      spellings.set(place, [...spellings.get(place) ?? [], [name, spelling, value]]);
    }
  }
  return (text) => {
    const found = [];
    for (let at = 0; at < text.length - 2; at += 1) {
      const place = start(text, at);
      if (starts[place]) found.push(...spellings.get(place).filter(([, spelling]) => text.startsWith(spelling, at) && isWhole(text, at, spelling)));
    }
    return found;
  };
}

/** Whether digits stand there as a whole number: a few digits are part of some longer number by chance. */
function isWhole(text, at, spelling) {
  return !/^\d+$/.test(spelling) || (!/\d/.test(text[at - 1] ?? '') && !/\d/.test(text[at + spelling.length] ?? ''));
}

function spellingsOf(value) {
  const bytes = Buffer.from(value);
  const raw = typeof value === 'string' ? [value] : [];
  // A few digits are found in any hex and base64 by chance.
  if (bytes.length < 8) return raw;
  const inBase64 = [0, 1, 2].map((shift) => {
    // Leaves out the characters at both ends that also encode bits of the text before or after.
    const text = Buffer.concat([Buffer.alloc(shift), bytes]).toString('base64').replace(/=*$/, '');
    return text.slice(shift === 0 ? 0 : shift + 1, (bytes.length + shift) % 3 === 0 ? undefined : -1);
  });
  const hex = bytes.toString('hex');
  return [...new Set([
    ...raw, hex, hex.toUpperCase(), ...inBase64, ...inBase64.map((text) => text.replaceAll('+', '-').replaceAll('/', '_')),
  ])];
}

/**
 * Reads a log and returns the secrets that `find` finds in it and that the client did not send: `{name, value, line}`.
 *
 * What the client sent is in the lines about its statements (statement, parse, bind, execute, with their parameters),
 * in STATEMENT, and in the context that repeats the parameters of a portal. Parse trees and plans contain the constants
 * of their statement, so each may repeat what its own client statement says, and nothing else.
 */
export function secretsIn(log, find) {
  const found = [];
  const sent = new Map(); // by process: its present statement with its parameters
  const finish = ({ pid, parts, bare }) => {
    let own = '';
    const rest = [];
    let isTree = false;
    for (const [label, text] of parts) {
      if (label === 'LOG' && OF_CLIENT.test(text)) {
        sent.set(pid, text);
      } else if (label === 'DETAIL' && /^(parameters|prepare): /i.test(text)) {
        sent.set(pid, `${sent.get(pid) ?? ''}\n${text}`);
      } else if (label === 'STATEMENT') {
        own += `\n${text}`;
      } else if (label === 'CONTEXT') {
        const portal = text.search(PORTAL);
        if (portal >= 0) own += `\n${text.slice(portal)}`;
        rest.push([label, portal >= 0 ? text.slice(0, portal) : text]);
      } else {
        isTree ||= label === 'LOG' && TREE.test(text);
        rest.push([label, text]);
      }
    }
    if (bare !== undefined) rest.push(['', bare]);
    const known = () => `${own}\n${sent.get(pid) ?? ''}`;
    for (const [label, text] of rest) {
      for (const [name, value, secret] of find(isTree ? text + constants(text) : text)) {
        if (isTree && find(known()).some(([, , known]) => known === secret)) continue;
        found.push({ name, value, line: `${label}: ${excerpt(text, value)}`, statement: known().trim().slice(0, 200) });
      }
    }
  };
  let entry;
  for (const line of lines(log)) {
    const [, pid, label, text] = BEGINNING.exec(line) ?? [];
    if (label === undefined && line.startsWith('\t') && entry) {
      const part = entry.parts.at(-1);
      if (part) part[1] += `\n${line.slice(1)}`;
    } else if (label === undefined) {
      // This line is not from Postgres's logger, but from a panic for instance.
      finish({ pid: '', parts: [], bare: line });
    } else if (PARTS.has(label) && entry?.pid === pid) {
      entry.parts.push([label, text]);
    } else {
      if (entry) finish(entry);
      entry = { pid, parts: [[label, text]] };
    }
  }
  if (entry) finish(entry);
  return found;
}

const BEGINNING = /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+ \S+ \[(\d+)\] ([A-Z]+\d?): {2}(.*)$/;
const PARTS = new Set(['DETAIL', 'HINT', 'QUERY', 'CONTEXT', 'LOCATION', 'BACKTRACE', 'STATEMENT']);
const OF_CLIENT = /^(\w{5}: )?(duration: [\d.]+ ms {2})?(statement|parse|bind|execute)\b[^:]*: /;
const PORTAL = /(?<=^|\n)(unnamed portal|portal "[^\n]*"|extended query)( "[^\n]*")? with parameters: /;
const TREE = /^(\w{5}: )?((rewritten )?parse tree:|plan:|duration: [\d.]+ ms {2}plan:)/;

/** The constants of a tree, which Postgres prints as lists of bytes. */
function constants(tree) {
  const lists = tree.matchAll(/:constvalue\s\d+\s\[\s([-\d\s]+)\]/g);
  return Array.from(lists, ([, bytes]) => `\n${Buffer.from(bytes.trim().split(/\s+/).map(Number))}`).join('');
}

function excerpt(text, value) {
  const at = Math.max(text.indexOf(value), 0);
  return text.slice(Math.max(0, at - 100), at + 100).replaceAll('\n', ' ');
}

/** The lines of a file that may be larger than memory. */
function* lines(path) {
  const file = openSync(path, 'r');
  try {
    const chunk = Buffer.alloc(1 << 22);
    let rest = Buffer.alloc(0);
    for (let size = readSync(file, chunk); size > 0; size = readSync(file, chunk)) {
      const text = Buffer.concat([rest, chunk.subarray(0, size)]);
      const end = text.lastIndexOf(10) + 1;
      if (end > 0) yield* text.subarray(0, end - 1).toString().split('\n');
      rest = Buffer.from(text.subarray(end));
    }
    if (rest.length > 0) yield rest.toString();
  } finally {
    closeSync(file);
  }
}
