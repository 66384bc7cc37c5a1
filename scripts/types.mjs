// Writes console/types/database.d.ts, the types of what the extension has for clients, from the catalogue.
// Usage: node scripts/types.mjs, with the extension installed
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Cluster } from '../tests/cluster/cluster.mjs';

export const FILE = fileURLToPath(new URL('../console/types/database.d.ts', import.meta.url));

const SCALARS = {
  bool: 'boolean', int2: 'number', int4: 'number', int8: 'number', float4: 'number', float8: 'number', numeric: 'number',
  json: 'Json', jsonb: 'Json', void: 'undefined',
};

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const cluster = await Cluster.start({ settings: { shared_preload_libraries: 'supabase_pat' } });
  cluster.psql('postgres', 'create extension supabase_pat; select pat.install_auth_schema()');
  writeFileSync(FILE, await databaseTypes(cluster, 'postgres'));
  cluster.stop();
}

/** The text of the file. It has what one of the API roles may use, and nothing that cannot be called by names. */
export async function databaseTypes(cluster, database) {
  const client = await cluster.connect(database);
  const rows = async (sql) => (await client.query(sql)).rows;
  const relations = await rows(`
    select n.nspname as schema, c.relname as name, c.relkind as kind, obj_description(c.oid, 'pg_class') as comment,
      (select json_agg(json_build_object('name', a.attname, 'type', t.typname, 'namespace', tn.nspname, 'array', coalesce(e.typname, ''),
          'isRequired', a.attnotnull, 'hasDefault', a.atthasdef or a.attidentity <> '') order by a.attname)
        from pg_attribute a join pg_type t on t.oid = a.atttypid join pg_namespace tn on tn.oid = t.typnamespace
          left join pg_type e on e.oid = t.typelem and t.typcategory = 'A'
        where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
          and (c.relkind = 'c' or has_column_privilege('service_role', c.oid, a.attnum, 'select'))) as columns
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
      join pg_depend d on d.objid = coalesce(nullif(c.reltype, 0), c.oid) and d.deptype in ('e', 'i') or d.objid = c.oid and d.deptype = 'e'
    where n.nspname in ('public', 'pat') and c.relkind in ('r', 'v', 'c')
      and (c.relkind = 'c' or has_any_column_privilege('service_role', c.oid, 'select'))
    group by n.nspname, c.oid, c.relname, c.relkind order by 1, 2`);
  const functions = await rows(`
    select n.nspname as schema, p.proname as name, obj_description(p.oid, 'pg_proc') as comment, p.proretset as is_set,
      t.typname as type, t.typtype as typtype, tn.nspname as namespace, coalesce(e.typname, '') as array,
      coalesce((select json_agg(json_build_object('name', a.name, 'mode', a.mode, 'type', at.typname, 'namespace', an.nspname, 'array', coalesce(ae.typname, ''),
          'isOptional', coalesce(a.mode, 'i') = 'i' and a.place > p.pronargs - p.pronargdefaults) order by a.place)
        from unnest(p.proargnames, p.proargmodes::text[], coalesce(p.proallargtypes, p.proargtypes::oid[])) with ordinality a (name, mode, type, place)
          join pg_type at on at.oid = a.type join pg_namespace an on an.oid = at.typnamespace
          left join pg_type ae on ae.oid = at.typelem and at.typcategory = 'A'), '[]') as arguments
    from pg_proc p join pg_namespace n on n.oid = p.pronamespace
      join pg_depend d on d.objid = p.oid and d.deptype = 'e' and d.refobjid = (select oid from pg_extension where extname = 'supabase_pat')
      join pg_type t on t.oid = p.prorettype join pg_namespace tn on tn.oid = t.typnamespace
      left join pg_type e on e.oid = t.typelem and t.typcategory = 'A'
    where n.nspname in ('public', 'pat') and t.typname <> 'trigger' and p.prokind = 'f'
      and (p.pronargs = 0 or p.proargnames is not null)
      and exists (select from unnest('{anon,authenticated,service_role}'::text[]) role where has_function_privilege(role, p.oid, 'execute'))
    order by 1, 2, p.pronargs, p.proargtypes::regtype[]::text[] collate "C"`);
  await client.end();

  const schema = (name) => {
    const own = relations.filter((relation) => relation.schema === name);
    const byName = new Map();
    for (const one of functions.filter((candidate) => candidate.schema === name)) byName.set(one.name, [...byName.get(one.name) ?? [], one]);
    return block(name, [
      block('Tables', own.filter(({ kind }) => kind === 'r').map((one) => described(one.comment, relation(one)))),
      block('Views', own.filter(({ kind }) => kind === 'v').map((one) => described(one.comment, relation(one)))),
      block('Functions', [...byName].map(([called, all]) => described(all.map(({ comment }) => comment).filter(Boolean).join('\n\nOr: '),
        `${called}: ${all.map(signature).join(' | ')}`))),
      block('Enums', []),
      block('CompositeTypes', own.filter(({ kind }) => kind === 'c').map(({ name: called, columns }) => `${called}: ${object(columns.map((column) => `${column.name}: ${typeOf(column)} | null`))}`)),
    ]);
  };
  return `// Made by scripts/types.mjs from the catalogue. A test compares it with that: do not change it by hand.
export type Json = string | number | boolean | null | { [key: string]: Json | undefined } | Json[];

/** What the extension has for clients: \`createClient<Database>(url, key)\`, or part of a type of your own. */
export type Database = {
${indented([schema('public'), schema('pat')].join('\n'))}
};
`;
}

function relation({ name, kind, columns }) {
  const nullable = (column) => (kind === 'v' || !column.isRequired ? ' | null' : '');
  const row = object(columns.map((column) => `${column.name}: ${typeOf(column)}${nullable(column)}`));
  if (kind === 'v') return `${name}: ${object([`Row: ${row}`, 'Relationships: []'])}`;
  return `${name}: ${object([`Row: ${row}`,
    `Insert: ${object(columns.map((column) => `${column.name}${column.isRequired && !column.hasDefault ? '' : '?'}: ${typeOf(column)}${nullable(column)}`))}`,
    `Update: ${object(columns.map((column) => `${column.name}?: ${typeOf(column)}${nullable(column)}`))}`, 'Relationships: []'])}`;
}

function signature({ arguments: all, ...result }) {
  const taken = all.filter(({ mode }) => mode === null || mode === 'i');
  const given = all.filter(({ mode }) => mode === 't' || mode === 'o');
  const args = taken.length === 0 ? 'Record<PropertyKey, never>' : object(taken.map((one) => `${one.name}${one.isOptional ? '?' : ''}: ${typeOf(one)}`));
  const one = given.length > 0 ? object(given.map((column) => `${column.name}: ${typeOf(column)}`)) : typeOf(result);
  return object([`Args: ${args}`, `Returns: ${result.is_set ? `${one.includes('{') ? one : `(${one})`}[]` : one}`]);
}

function typeOf({ type, namespace, array }) {
  if (array) return `${SCALARS[array] ?? 'string'}[]`;
  if (namespace === 'public' || namespace === 'pat') return `Database['${namespace}']['CompositeTypes']['${type}']`;
  return SCALARS[type] ?? 'string';
}

function described(comment, text) {
  return comment ? `/** ${comment.replaceAll('*/', '* /').replaceAll('\n', '\n * ')} */\n${text}` : text;
}

function block(name, parts) {
  return parts.length === 0 ? `${name}: { [_ in never]: never };` : `${name}: ${object(parts)};`;
}

function object(parts) {
  return `{\n${indented(parts.map((part) => (part.endsWith(';') ? part : `${part};`)).join('\n'))}\n}`;
}

function indented(text) {
  return text.replace(/^(?=.)/gm, '  ');
}
