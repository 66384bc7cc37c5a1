// What the catalogues of Postgres say of the extension, so that two databases of a server can be compared:
// every row that belongs to it, with every column that the version of Postgres has. What refers to another row
// by its number is said by name, and what is kept as a tree is said in SQL.

const EXTENSION = 'supabase_pat';

/** What differs by chance: numbers, statistics, and marks that Postgres takes away later than it could. */
const BY_CHANCE = {
  pg_class: ['relfilenode', 'relpages', 'reltuples', 'relallvisible', 'relallfrozen', 'reltoastrelid', 'relfrozenxid',
    'relminmxid', 'relrewrite', 'relhasindex', 'relhasrules', 'relhastriggers', 'relhassubclass'],
  // A default that was given to rows that were there already.
  pg_attribute: ['atthasmissing', 'attmissingval', 'attcacheoff'],
  pg_index: ['indcheckxmin'],
  // The version is what is to differ. Which tables are dumped is said below, in an order.
  pg_extension: ['extversion', 'extconfig', 'extcondition'],
};

/** Catalogues whose rows are part of an object of another one. */
const PARTS = {
  pg_class: { pg_attribute: 'attrelid', pg_index: 'indexrelid', pg_sequence: 'seqrelid', pg_partitioned_table: 'partrelid', pg_inherits: 'inhrelid' },
  pg_type: { pg_enum: 'enumtypid', pg_range: 'rngtypid' },
  pg_proc: { pg_aggregate: 'aggfnoid' },
};

/** Trees, in SQL. */
const IN_SQL = {
  'pg_attrdef.adbin': 'pg_get_expr(t.adbin, t.adrelid)',
  'pg_class.relpartbound': 'pg_get_expr(t.relpartbound, t.oid)',
  'pg_constraint.conbin': 'pg_get_constraintdef(t.oid)',
  'pg_index.indexprs': 'pg_get_indexdef(t.indexrelid)',
  'pg_index.indpred': 'pg_get_expr(t.indpred, t.indrelid)',
  'pg_partitioned_table.partexprs': 'pg_get_partkeydef(t.partrelid)',
  'pg_policy.polqual': 'pg_get_expr(t.polqual, t.polrelid)',
  'pg_policy.polwithcheck': 'pg_get_expr(t.polwithcheck, t.polrelid)',
  'pg_proc.proargdefaults': 'pg_get_function_arguments(t.oid)',
  'pg_proc.prosqlbody': 'pg_get_function_sqlbody(t.oid)',
  'pg_rewrite.ev_action': 'pg_get_ruledef(t.oid)',
  'pg_rewrite.ev_qual': 'pg_get_ruledef(t.oid)',
  'pg_statistic_ext.stxexprs': 'pg_get_statisticsobjdef(t.oid)',
  'pg_trigger.tgqual': 'pg_get_triggerdef(t.oid)',
  'pg_type.typdefaultbin': 'pg_get_expr(t.typdefaultbin, 0)',
};

/** Lists of options. */
const UNORDERED = ['pg_attribute.attoptions', 'pg_class.reloptions', 'pg_proc.proconfig'];

/** Who owns an object, and the kind by which Postgres knows what its owner and PUBLIC may do by default. */
const DEFAULT_PRIVILEGES = {
  pg_class: `case t.relkind when 'S' then 's' else 'r' end::"char", t.relowner`,
  pg_language: `'l', t.lanowner`,
  pg_namespace: `'n', t.nspowner`,
  pg_proc: `'f', t.proowner`,
  pg_type: `'T', t.typowner`,
};

/** The extension, its schema, what is in either, and what cannot be without it: indexes, defaults, triggers, policies. */
const MEMBERS = `
  with recursive member (catalogue, number) as (
    select 'pg_extension'::regclass::oid, oid from pg_extension where extname = '${EXTENSION}'
    union
    select 'pg_namespace'::regclass::oid, extnamespace from pg_extension where extname = '${EXTENSION}'
    union
    select d.classid, d.objid
    from member m join pg_depend d on d.refclassid = m.catalogue and d.refobjid = m.number
    where (d.deptype in ('a', 'e', 'i', 'P', 'S') or m.catalogue = 'pg_namespace'::regclass)
      and not exists (select from pg_class where d.classid = 'pg_class'::regclass and oid = d.objid and relnamespace = 'pg_toast'::regnamespace)
  )
  select catalogue, number from member
  union
  select 'pg_default_acl'::regclass, oid from pg_default_acl`;

/** The name of an object. The triggers of constraints are named by numbers, so they are said by what they do. */
const name = (catalogue, number, column = '0') => `coalesce(
  (select format('trigger %s of %s', i.tgfoid::regproc, (pg_identify_object('pg_constraint'::regclass, i.tgconstraint, 0)).identity)
    || ' on ' || i.tgrelid::regclass from pg_trigger i where i.oid = ${number} and i.tgisinternal and ${catalogue} = 'pg_trigger'::regclass),
  (select o.type || ' ' || o.identity from pg_identify_object(${catalogue}, ${number}, ${column}) o),
  '-')`;

const privileges = (list) => `array(
  select format('%s: %s%s by %s', case a.grantee when 0 then 'public' else pg_get_userbyid(a.grantee) end, a.privilege_type,
    case when a.is_grantable then ' with grant option' end, pg_get_userbyid(a.grantor))
  from aclexplode(${list}) a order by 1)`;

/** What other catalogues say of a row. */
const aside = (catalogue, number, column) => ({
  comment: `(select description from pg_description where classoid = ${catalogue} and objoid = ${number} and objsubid = ${column})`,
  security_labels: `array(select provider || ': ' || label from pg_seclabel where classoid = ${catalogue} and objoid = ${number} and objsubid = ${column} order by 1)`,
  // What pg_dump takes for granted once the extension has been created.
  initial_privileges: `(select ${privileges('initprivs')} from pg_init_privs where classoid = ${catalogue} and objoid = ${number} and objsubid = ${column})`,
  depends_on: `array(
    select distinct format('%s (%s)', ${name('d.refclassid', 'd.refobjid', 'd.refobjsubid')}, d.deptype)
    from pg_depend d where d.classid = ${catalogue} and d.objid = ${number} and d.objsubid = ${column} order by 1)`,
});

/** All that belongs to the extension: a map from names to what is said of each. */
export async function catalogue(client) {
  const rows = async (sql) => (await client.query(sql)).rows;
  const before = (await rows('show search_path'))[0].search_path;
  // So that names are said with their schemas.
  await rows(`set search_path = ''`);
  try {
    return await read(rows);
  } finally {
    await client.query(`select set_config('search_path', $1, false)`, [before]);
  }
}

async function read(rows) {
  const references = new Map();
  for (const { from, column, to, is_array: isArray } of await rows(`
    select fktable::regclass::text as from, fkcols[1] as column, pktable::regclass::text as to, is_array
    from pg_get_catalog_foreign_keys() where cardinality(fkcols) = 1`)) {
    references.set(`${bare(from)}.${column}`, { to, isArray });
  }
  const columns = {};
  for (const { table, column, type } of await rows(`
    select relname as table, attname as column, atttypid::regtype::text as type
    from pg_attribute join pg_class c on c.oid = attrelid
    where relnamespace = 'pg_catalog'::regnamespace and relkind = 'r' and attnum > 0 and not attisdropped order by attrelid, attnum`)) {
    (columns[table] ??= []).push({ column, type });
  }

  const value = (table, { column, type }) => {
    const here = `t.${column}`;
    if (table === 'pg_trigger' && column === 'tgname') return `case when not t.tgisinternal then ${here} end`;
    const reference = references.get(`${table}.${column}`);
    if (reference?.isArray) return `array(select ${name(`'${reference.to}'::regclass`, 'r')} from unnest(${here}::oid[]) with ordinality u (r, n) order by n)`;
    if (reference) return `nullif(${name(`'${reference.to}'::regclass`, here)}, '-')`;
    if (type === 'aclitem[]') return privileges(DEFAULT_PRIVILEGES[table] ? `coalesce(${here}, acldefault(${DEFAULT_PRIVILEGES[table]}))` : here);
    if (type === 'pg_node_tree') return `case when ${here} is not null then ${IN_SQL[`${table}.${column}`] ?? `pg_get_expr(${here}, 0)`} end`;
    if (UNORDERED.includes(`${table}.${column}`)) {
      // pg_attver numbers the changes of a table, in the back branches of Postgres.
      return `array(select o from unnest(${here}) o where o not like 'pg\\_attver=%' order by o)`;
    }
    if (type === 'text[]') return here;
    return `${here}::text`;
  };

  const found = new Map();
  const take = async (table, { key, identity, more, where = 'true' }) => {
    const wanted = columns[table].filter(({ column }) => column !== 'oid' && !(BY_CHANCE[table] ?? []).includes(column));
    const said = Object.fromEntries(wanted.map((column) => [column.column, value(table, column)]));
    const list = Object.entries({ ...said, ...more }).map(([as, sql]) => `${sql} as "${as}"`);
    for (const { identity: of, ...row } of await rows(`
      with m as materialized (${MEMBERS})
      select ${identity} as identity, ${list.join(', ')}
      from ${table} t join m on m.number = t.${key} and m.catalogue = '${owner(table)}'::regclass where ${where}`)) {
      if (found.has(of)) throw new Error(`there are two of ${of}`);
      found.set(of, row);
    }
  };

  for (const { table } of await rows(`select distinct relname as table from (${MEMBERS}) m join pg_class c on c.oid = m.catalogue order by 1`)) {
    const here = `'${table}'::regclass`;
    await take(table, { key: 'oid', identity: name(here, 't.oid'), more: { ...aside(here, 't.oid', '0'), ...MORE[table] } });
    for (const [part, key] of Object.entries(PARTS[table] ?? {})) {
      if (part === 'pg_attribute') {
        const more = aside(here, 't.attrelid', 't.attnum');
        await take(part, { key, identity: name(here, 't.attrelid', 't.attnum'), more, where: 't.attnum > 0 and not t.attisdropped' });
      } else {
        const label = { pg_enum: `' ' || quote_literal(t.enumlabel)`, pg_inherits: `' ' || t.inhseqno` }[part] ?? `''`;
        await take(part, { key, identity: `'${part} of ' || ${name(here, `t.${key}`)} || ${label}`, more: {} });
      }
    }
  }
  return found;
}

/** The tables whose rows are dumped, each with the condition on them. */
const dumped = `array(
  select format('%s %s', c.config::regclass, c.condition)
  from unnest(t.extconfig, t.extcondition) c (config, condition) order by 1)`;

/** What other rows of the same or another catalogue have, and belongs to these. */
const MORE = {
  pg_extension: { dumped },
  pg_class: { toast_options: `array(select o from pg_class a, unnest(a.reloptions) o where a.oid = t.reltoastrelid order by 1)` },
};

const bare = (table) => table.replace(/^pg_catalog\./, '');
const owner = (table) => Object.keys(PARTS).find((whole) => table in PARTS[whole]) ?? table;

/** In what one of two catalogues is not as it should be, a sentence each. */
export function differences(should, is) {
  const found = [];
  for (const of of new Set([...should.keys(), ...is.keys()])) {
    if (!is.has(of)) {
      found.push(`${of} is missing`);
    } else if (!should.has(of)) {
      found.push(`${of} should not be there`);
    } else {
      for (const [what, expected] of Object.entries(should.get(of))) {
        const actual = is.get(of)[what];
        if (JSON.stringify(expected) !== JSON.stringify(actual)) found.push(`${of}: ${what} ${contrast(expected, actual)}`);
      }
    }
  }
  return found.sort();
}

function contrast(expected, actual) {
  if (!Array.isArray(expected) || !Array.isArray(actual)) return `is ${JSON.stringify(actual)} and should be ${JSON.stringify(expected)}`;
  const lacks = expected.filter((one) => !actual.includes(one));
  const has = actual.filter((one) => !expected.includes(one));
  if (lacks.length + has.length === 0) return `is in another order: ${actual} and should be ${expected}`;
  return [lacks.length && `lacks ${lacks.join(', ')}`, has.length && `has ${has.join(', ')}`].filter(Boolean).join(', and ');
}
