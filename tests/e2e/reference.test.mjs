// The reference: complete, as the catalogue has it, and each example prints what stands beside it.
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { ALICE, start } from './fixture.mjs';
import { docs, examplesOf, page, referencePages, runInOneSession, sections, startCluster } from './documentation.mjs';
import { errorsOfTheSource, guardedActions, refusalReasons, rejectionsOfTheSource, settingsOfTheSource } from './error_sources.mjs';

const FIXTURE = 'What the examples start from';
const reference = referencePages().flatMap(sections);
const flat = (text) => text.replace(/\s+/g, ' ').replace(/([([]) | (?=[)\]])/g, '$1').trim();

/** An entry has a declaration: what is documented, and how. */
const entries = reference.flatMap((section) => {
  const declaration = section.blocks.find(({ language }) => language === '');
  return declaration ? [{ ...section, declaration: flat(declaration.code) }] : [];
});

let cluster;
before(async () => { cluster = await startCluster(); });
after(() => cluster.stop());

const rows = (sql) => {
  const json = cluster.psql('documentation_template', `select coalesce(json_agg(r), '[]') from (${sql}) r`);
  return JSON.parse(json);
};

const MEMBERS = `select d.classid, d.objid from pg_depend d
  where d.refclassid = 'pg_extension'::regclass and d.deptype = 'e'
    and d.refobjid = (select oid from pg_extension where extname = 'supabase_pat')`;

/** What the extension has in the catalogue, as \df and \d show it, and who has been granted what. */
function objects() {
  const functions = rows(`
    select format('%s.%s(%s) → %s', n.nspname, quote_ident(p.proname), pg_get_function_arguments(p.oid), pg_get_function_result(p.oid)) as declaration,
      p.proname as name, array(select distinct case a.grantee when 0 then 'everybody' else a.grantee::regrole::text end
        from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a where a.grantee <> p.proowner order by 1) as grantees
    from (${MEMBERS}) m join pg_proc p on m.classid = 'pg_proc'::regclass and p.oid = m.objid join pg_namespace n on n.oid = p.pronamespace`);
  const relations = rows(`
    select c.relname as name, c.relkind as kind, format('%s %s.%s (%s)',
        case c.relkind when 'v' then 'view' when 'r' then 'table' else 'type' end, n.nspname, c.relname, string_agg(
          format('%s %s%s%s', quote_ident(attname), format_type(atttypid, atttypmod), case when attnotnull then ' not null' end,
            case when attidentity = 'a' then ' generated always as identity' else ' default ' || pg_get_expr(adbin, adrelid) end),
          ', ' order by attnum)) as declaration,
      (select json_object_agg(grantee, privileges) from (
        select a.grantee::regrole::text as grantee, array_agg(lower(privilege_type) order by array_position('{SELECT,INSERT,UPDATE,DELETE}', privilege_type)) as privileges
        from aclexplode(c.relacl) a where a.grantee <> c.relowner group by 1) by_role) as granted,
      (select json_object_agg(grantee, columns) from (
        select acl.grantee::regrole::text as grantee, format('select (%s)', string_agg(attname, ', ' order by attnum)) as columns
        from pg_attribute, aclexplode(attacl) acl where attrelid = c.oid and acl.grantee <> c.relowner group by 1) by_role) as columns
    from (${MEMBERS}) m
      join pg_class c on m.classid = 'pg_class'::regclass and c.oid = m.objid and c.relkind in ('r', 'v')
        or m.classid = 'pg_type'::regclass and c.reltype = m.objid and c.relkind = 'c'
      join pg_namespace n on n.oid = c.relnamespace
      join pg_attribute on attrelid = c.oid and attnum > 0 and not attisdropped
      left join pg_attrdef on adrelid = c.oid and adnum = attnum
    group by c.oid, n.nspname`);
  return [...functions, ...relations].map((object) => ({ ...object, declaration: flat(object.declaration) }));
}

const roles = (names) => names.map((name) => (name === 'everybody' ? name : `\`${name}\``)).join(', ').replace(/, ([^,]*)$/, ' and $1');

/** The sentence that says who has been granted what. A type is everybody's, and nothing is said of it. */
function grantOf({ kind, grantees, granted, columns }) {
  if (kind === 'c') return '';
  if (grantees) return `Granted to ${roles(grantees) || 'nobody'}`;
  const all = [...new Set([...Object.keys(granted ?? {}), ...Object.keys(columns ?? {})])].sort();
  const what = (role) => [...(granted?.[role] ?? []), ...(columns?.[role] ? [columns[role]] : [])].join(', ');
  return `Granted to ${all.map((role) => `\`${role}\`: ${what(role)}`).join('; to ') || 'nobody'}`;
}

test('everything that the extension has is documented as it is, and nothing else', () => {
  const expected = objects().map(({ declaration }) => declaration).sort();
  assert.ok(expected.length > 60);
  assert.deepEqual(entries.map(({ declaration }) => declaration).sort(), expected);
});

test('who may call and see what is documented as it has been granted', () => {
  const known = new Map(objects().map((object) => [object.declaration, grantOf(object)]));
  for (const { page: file, title, declaration, body } of entries) {
    const said = flat(body);
    const expected = known.get(declaration);
    assert.equal(said.split('Granted to ').length - 1, expected === '' ? 0 : 1, `${file}, ${title}`);
    assert.ok(expected === '' || said.includes(`${expected}.`) || said.includes(`${expected}: whoever`), `${file}, ${title}: ${expected}`);
  }
});

test('every entry stands under its name and has an example that uses it', () => {
  for (const section of entries) {
    const [, name] = section.declaration.match(/^(?:view |table |type )?(?:public\.)?([\w.]+)/);
    assert.equal(section.title.replace(' (type)', ''), name, section.page);
    const bare = section.declaration.startsWith('type ') ? '' : name.replace(/^pat\./, '');
    assert.ok(examplesOf(section).some(({ code, output }) => output !== '' && new RegExp(`\\b${bare}\\b`).test(code)), `${name} has no example`);
  }
});

test('every setting is documented as it is, and used in an example', () => {
  const page = sections('reference/settings.md');
  const documented = page.flatMap(({ body }) => [...body.matchAll(/^\| `(supabase_pat\.\w+)` \|([^|]*)\|([^|]*)\|([^|]*)\|/gm)])
    .map(([, name, ...cells]) => [name, ...cells.map((cell) => cell.replaceAll('`', '').trim())]);
  const known = rows(`select name, current_setting(name) as value, case context when 'sighup' then 'reload' when 'postmaster' then 'restart' else context end as by,
      case when vartype = 'enum' then array_to_string(enumvals, ', ')
        when min_val is not null then concat(min_val, ' ' || unit, ' .. ', max_val, ' ' || unit) else '' end as range
    from pg_settings where name like 'supabase\\_pat.%'`).map(({ name, value, range, by }) => [name, value, range, by]);
  // It is in no list of settings.
  known.push(['supabase_pat.jwt_secret', '', '', 'restart']);
  assert.deepEqual(documented.sort(), known.sort());

  const examples = page.flatMap(examplesOf).map(({ code }) => code).join('');
  for (const [name] of known) assert.match(examples, new RegExp(`set ${name} `), `${name} has no example`);
  for (const name of settingsOfTheSource()) assert.ok(known.some(([other]) => other === name), `${name} is not in pg_settings`);
});

/** The rows of the tables of errors: SQLSTATE and message, and the hints. */
function documentedErrors() {
  const errors = [];
  const hints = [];
  for (const { page: file, title, body } of reference.filter((section) => section.page === 'reference/errors.md' && section.level === 2)) {
    for (const [, line] of body.matchAll(/^\| (.*) \|$/gm)) {
      const cells = line.split(' | ').map((cell) => cell.trim().replace(/^\|$/, ''));
      if (/^(-|message|SQLSTATE)/.test(cells[0])) continue;
      const own = /^[0-9A-Z]{5}$/.test(cells[0]) ? cells.shift() : title.slice(0, 5);
      errors.push(`${own} ${cells[0].replace(/ \|$/, '')}`);
      assert.ok(cells.length <= 2, `${file}: ${line}`);
      hints.push(...(cells[1] ?? '').split(/ ?\*[^*]*:\* ?/).filter(Boolean));
    }
  }
  return { errors, hints };
}

test('every error of the source is documented with its SQLSTATE and hint, and no other', () => {
  const { errors, hints } = errorsOfTheSource();
  const documented = documentedErrors();
  assert.ok(errors.length > 80);
  assert.deepEqual(documented.errors.sort(), errors.map(({ sqlstate, message }) => `${sqlstate} ${message}`).sort());
  assert.deepEqual([...new Set(documented.hints)].sort(), hints.sort());
  const why = reference.find(({ title }) => title === 'Why a token is not valid').body;
  assert.deepEqual([...why.matchAll(/^- (.*)$/gm)].map(([, reason]) => reason), rejectionsOfTheSource().filter((reason) => reason !== '…'));
});

test('the REST server makes of them the HTTP statuses that are documented', async () => {
  const world = await start({
    sql: `create function fail(code text) returns void language plpgsql as $$ begin raise exception using errcode = code, message = 'failed'; end $$;`,
  });
  try {
    const token = await world.login(ALICE);
    const [{ body }] = sections('reference/errors.md');
    const rows = [...body.matchAll(/^\| ([0-9A-Z, ]{5,}) \| (\d[\d, ]*)/gm)].map(([, ...cells]) => cells.map((cell) => cell.trim().split(', ')));
    assert.ok(rows.length > 10);
    for (const [codes, statuses] of rows.filter(([[code]]) => code !== 'PGRST')) {
      for (const [place, code] of codes.entries()) {
        const { status } = await world.request('POST', '/rpc/fail', { token, body: { code } });
        // To 42501 postrust says 401, whoever asks.
        assert.equal(String(status), code.startsWith('PT') ? statuses[place] : code === '42501' ? '401' : statuses[0], code);
      }
    }
  } finally {
    world.stop();
  }
});

test('the errors that an entry names are among them', () => {
  const known = documentedErrors().errors.map((error) => new RegExp(`^${
    error.replace(/[.*+?^${}()|[\]\\]/g, '\\$&').replaceAll('…', '.+')}$`));
  const named = [];
  for (const { page: file, title, body } of entries) {
    for (const [, error] of flat(body).matchAll(/\b((?:[0-9][0-9A-Z]{4}|PT[45]\d\d) `[^`]+`)/g)) {
      const text = error.replaceAll('`', '');
      assert.ok(known.some((pattern) => pattern.test(text)), `${file}, ${title}: ${text}`);
      named.push(text);
    }
  }
  assert.ok(named.length > 100, `${named.length} found`);
  assert.deepEqual(guardedActions().filter((error) => !named.includes(error)), [], 'in no entry');
  const gate = entries.find(({ title }) => title === 'pat.gate').body;
  const said = [...gate.matchAll(/^\| (PT[45]\d\d)(?:, as PGRST)? \| (.*?) \|$/gm)].map(([, code, message]) => `${code} ${message}`);
  assert.deepEqual(said, documentedErrors().errors.filter((error) => error.startsWith('PT')));
});

test('every check of the doctor, event and reason for a refusal is documented', () => {
  const status = entries.find(({ title }) => title === 'pat.status').body;
  assert.deepEqual([...status.matchAll(/^\| `([^`]+)` \|/gm)].map(([, check]) => check), rows('select "check" from pat.status()').map(({ check }) => check));
  const events = entries.find(({ title }) => title === 'pat.events').body;
  for (const reason of refusalReasons()) assert.ok(events.includes(`\`${reason}\``), reason);
});

for (const file of referencePages()) {
  test(`the examples of ${file} print what stands beside them`, () => {
    let count = 0;
    for (const section of sections(file)) {
      const examples = examplesOf(section).filter(() => section.title !== FIXTURE);
      if (examples.length === 0) continue;
      const printed = runInOneSession(cluster, examples.map(({ code }) => code));
      examples.forEach(({ code, output }, place) => {
        assert.equal(printed[place], output, `${file}, ${section.title}:\n${code}`);
        count += 1;
      });
    }
    assert.ok(count > 0 || file === 'reference.md', 'there are none');
  });
}

test('the files and targets that CONTRIBUTING.md names are there', () => {
  const text = page('../CONTRIBUTING.md');
  const paths = [...text.matchAll(/`((?:crates|docs|examples|scripts|sql|src|tests)(?:\/[\w./-]+)?)`/g)];
  assert.ok(paths.length > 40, `${paths.length} found`);
  for (const [, path] of paths) assert.ok(existsSync(join(docs, '..', path)), path);
  const targets = page('../Makefile').match(/^[a-z-]+(?=:.*## )/gm);
  for (const [, name] of text.matchAll(/`make ([a-z-]+)/g)) assert.ok(targets.includes(name), `make ${name}`);
});
