// Two versions that were never released, made of the install script that is there, with changes between them of
// every kind that a release may bring: what the test of upgrades is itself tested with.

/** What only the older one has. */
const DROPPED = `
create function pat.dropped() returns integer language sql stable as 'select 1';
revoke all on function pat.dropped() from public;
`;

const view = (install) => find(install, /create (view public\.api_keys with \([^)]*\) as\s+select[^;]*?)\s+(from pat\.api_keys;)/);

/** What is otherwise in the newer one, from its install script, and what changes it. */
const CHANGED = {
  'new column': {
    edit: [/(create table pat\.api_keys \([^;]*?)\n\)/, `$1,\n    note text not null default 'none' check (length(note) <= 100)\n)`],
    upgrade: () => `alter table pat.api_keys add column note text not null default 'none' check (length(note) <= 100);`,
  },
  'new column of a view': {
    edit: [/(create view public\.api_keys with \([^)]*\) as\s+select[^;]*?)(\s+from pat\.api_keys;)/, '$1,\n    note$2'],
    upgrade: (install) => { const [, head, tail] = view(install); return `create or replace ${head},\n    note\n${tail}`; },
  },
  'cost of a function': {
    edit: [/(create function public\.is_valid_api_token\(\)[^;]*cost )\d+/, (_, head) => `${head}42`],
    upgrade: () => 'alter function public.is_valid_api_token() cost 42;',
  },
  'body of a function': {
    edit: [/'no signing key would be current'/, `'no signing key is current'`],
    upgrade(install) {
      const [, rest] = find(install, /create (function pat\.keep_a_current_signing_key\(\).*?\n\$\$;)/s);
      return `create or replace ${rest.replace(...CHANGED['body of a function'].edit)}`;
    },
  },
  'roles of a policy': {
    edit: [/(create policy trusted_roles_see_the_attributes on pat\.key_attributes for select)/, '$1 to authenticated, service_role'],
    upgrade: () => 'alter policy trusted_roles_see_the_attributes on pat.key_attributes to authenticated, service_role;',
  },
};

/** What the newer one has besides, statement by statement: the same in both of its scripts. */
const ADDED = {
  'grant on the new column': 'grant select (note) on pat.api_keys to authenticated;',
  'comment on an old function': `comment on function pat.uid() is 'The user.';`,
  table: `create table pat.notes (
    id bigint generated always as identity primary key,
    key_id uuid not null references pat.api_keys on delete cascade,
    body text not null default ''
);`,
  'after the table': '', // here and below: a place for what an omission adds
  storage: 'alter table pat.notes alter column body set storage external;',
  index: 'create index notes_key_id_idx on pat.notes (key_id) where body <> \'\';',
  'row level security': 'alter table pat.notes enable row level security;',
  policy: `create policy owners_see_their_notes on pat.notes for select
    using (exists (select from pat.api_keys k where k.id = key_id and k.user_id = pat.uid()));
comment on policy owners_see_their_notes on pat.notes is 'Notes of your keys.';`,
  dump: `select pg_extension_config_dump('pat.notes', 'where body <> ''''');`,
  'dump of the sequence': `select pg_extension_config_dump('pat.notes_id_seq', '');`,
  'revoke on the table': 'revoke all on table pat.notes from public, anon, authenticated, service_role;',
  'grant on the table': 'grant select (key_id, body), delete on pat.notes to authenticated;',
  function: `create function public.note_of(key uuid, otherwise text default 'none') returns text
    language sql stable strict parallel safe cost 10
    set search_path = pg_catalog, pg_temp
    as 'select note from pat.api_keys where id = key';`,
  'after the function': '',
  'revoke on the function from everybody': 'revoke all on function public.note_of(uuid, text) from public;',
  // Supabase's default privileges give it to them.
  'revoke on the function from the API roles': 'revoke all on function public.note_of(uuid, text) from anon, authenticated, service_role;',
  'grant on the function': 'grant execute on function public.note_of(uuid, text) to authenticated;',
  'comment on the function': `comment on function public.note_of(uuid, text) is 'What is noted of a key.';`,
  'function of the library': `create function pat.user_again() returns uuid
    language c stable parallel safe
    as 'MODULE_PATHNAME', 'supabase_pat_uid';`,
  'trigger function': `create function pat.note_is_trimmed() returns trigger language plpgsql set search_path = pg_catalog, pg_temp
    as 'begin new.body := btrim(new.body); return new; end';`,
  trigger: `create trigger trim_the_note before insert or update on pat.notes
    for each row when (new.body <> '') execute function pat.note_is_trimmed();
alter table pat.notes enable always trigger trim_the_note;`,
  type: 'create type public.noted as (id uuid, note text);',
  'revoke on the type': 'revoke all on type public.noted from public;',
  enum: `create type pat.colour as enum ('red', 'green');`,
  domain: 'create domain pat.short as text check (length(value) <= 10);',
  'new view': 'create view public.noted_keys with (security_invoker) as select id, note from pat.api_keys;',
  'revoke on the view': 'revoke all on table public.noted_keys from public, anon, authenticated, service_role;',
  'function of the operator': `create function pat.is_same(one uuid, other text) returns boolean
    language sql immutable as 'select one::text = other';`,
  operator: 'create operator pat.=== (function = pat.is_same, leftarg = uuid, rightarg = text, restrict = eqsel);',
  'function of the cast': `create function pat.as_text(noted public.noted) returns text language sql immutable as 'select noted.note';`,
  cast: 'create cast (public.noted as text) with function pat.as_text(public.noted) as assignment;',
  'at the end': '',
};

/** How an upgrade script may fall short: what it has instead of a statement, and what is then found. */
export const OMISSIONS = {
  'no comment': ['comment on the function', '',
    /^function public\.note_of\(.*\): comment is null and should be "What is noted of a key\."$/],
  'the old comment': ['comment on an old function', '',
    /^function pat\.uid\(\): comment is ".+" and should be "The user\."$/],
  'no grant': ['grant on the function', '',
    /^function public\.note_of\(.*\): proacl lacks authenticated: EXECUTE by postgres$/],
  'no grant on a column': ['grant on the new column', '',
    /^table column pat\.api_keys\.note: attacl lacks authenticated: SELECT by postgres$/],
  'nothing revoked from everybody': ['revoke on the function from everybody', '',
    /^function public\.note_of\(.*\): proacl has public: EXECUTE by postgres$/],
  'nothing revoked from the API roles': ['revoke on the function from the API roles', '',
    /^function public\.note_of\(.*\): proacl has anon: EXECUTE by postgres, service_role: EXECUTE by postgres$/],
  'a type for everybody': ['revoke on the type', '',
    /^type public\.noted: typacl has public: USAGE by postgres$/],
  'a view for everybody': ['revoke on the view', '',
    /^view public\.noted_keys: relacl has anon: DELETE by postgres, /],
  'another default': ['new column', `alter table pat.api_keys add column note text not null default '' check (length(note) <= 100);`,
    /^default value for pat\.api_keys\.note: adbin is "''::text" and should be "'none'::text"$/],
  'a column that may be null': ['new column', `alter table pat.api_keys add column note text default 'none' check (length(note) <= 100);`,
    /^table column pat\.api_keys\.note: attnotnull is "false" and should be "true"$/],
  'no check': ['new column', `alter table pat.api_keys add column note text not null default 'none';`,
    /^table constraint api_keys_note_check on pat\.api_keys is missing$/],
  'a check that is not as strict': ['new column', `alter table pat.api_keys add column note text not null default 'none' check (length(note) <= 1000);`,
    /^table constraint api_keys_note_check on pat\.api_keys: conbin is .+1000.+ and should be .+100\)/],
  'a check that old rows need not meet': ['new column', `alter table pat.api_keys add column note text not null default 'none';
      alter table pat.api_keys add check (length(note) <= 100) not valid;`,
    /^table constraint api_keys_note_check on pat\.api_keys: convalidated is "false" and should be "true"$/],
  'a comment on a column that should have none': ['after the table', `comment on column pat.notes.body is 'What is noted.';`,
    /^table column pat\.notes\.body: comment is "What is noted\." and should be null$/],
  'another fill factor': ['after the table', 'alter table pat.notes set (fillfactor = 50);', /^table pat\.notes: reloptions has fillfactor=50$/],
  'other options for what is stored aside': ['after the table', 'alter table pat.notes set (toast.autovacuum_enabled = off);',
    /^table pat\.notes: toast_options has autovacuum_enabled=off$/],
  'a table whose owner is bound by policies': ['row level security', (sql) => `${sql} alter table pat.notes force row level security;`,
    /^table pat\.notes: relforcerowsecurity is "true" and should be "false"$/],
  'another type': ['new column', `alter table pat.api_keys add column note varchar not null default 'none' check (length(note) <= 100);`,
    /^table column pat\.api_keys\.note: atttypid is "type character varying" and should be "type pg_catalog\.text"$/],
  'a view that runs as its owner': ['new column of a view', (sql) => sql.replace(/ with \([^)]*\)/, ''),
    /^view public\.api_keys: reloptions lacks .*security_invoker=true$/],
  'a view without the column': ['new column of a view', '',
    /^view column public\.api_keys\.note is missing$/],
  'rows that are not dumped': ['dump', '', /^extension supabase_pat: dumped lacks pat\.notes where body <> ''$/],
  'a sequence that is not dumped': ['dump of the sequence', '', /^extension supabase_pat: dumped lacks pat\.notes_id_seq $/],
  'a dump without the condition': ['dump', `select pg_extension_config_dump('pat.notes', '');`,
    /^extension supabase_pat: dumped lacks pat\.notes where body <> '', and has pat\.notes $/],
  'no row level security': ['row level security', '', /^table pat\.notes: relrowsecurity is "false" and should be "true"$/],
  'no policy': ['policy', '', /^policy owners_see_their_notes on pat\.notes is missing$/],
  'a policy that lets more through': ['policy', 'create policy owners_see_their_notes on pat.notes for select using (true);',
    /^policy owners_see_their_notes on pat\.notes: polqual is "true" and should be /],
  'a policy for everybody': ['roles of a policy', '',
    /^policy trusted_roles_see_the_attributes on pat\.key_attributes: polroles lacks role authenticated, role service_role, and has -$/],
  'no index': ['index', '', /^index pat\.notes_key_id_idx is missing$/],
  'an index over all rows': ['index', 'create index notes_key_id_idx on pat.notes (key_id);',
    /^pg_index of index pat\.notes_key_id_idx: indpred is null and should be /],
  'no trigger': ['trigger', '', /^trigger trim_the_note on pat\.notes is missing$/],
  'a trigger that does not always fire': ['trigger', (sql) => sql.replace(/alter table.*/, ''),
    /^trigger trim_the_note on pat\.notes: tgenabled is "O" and should be "A"$/],
  'a reference that is in the way': ['after the table', `alter table pat.notes drop constraint notes_key_id_fkey,
      add constraint notes_key_id_fkey foreign key (key_id) references pat.api_keys;`,
    /^table constraint notes_key_id_fkey on pat\.notes: confdeltype is "a" and should be "c"$/],
  'columns in another order': ['table', `create table pat.notes (
      key_id uuid not null references pat.api_keys on delete cascade, body text not null default '', id bigint generated always as identity primary key);`,
    /^table column pat\.notes\.key_id: attnum is "1" and should be "2"$/],
  'other storage': ['storage', '', /^table column pat\.notes\.body: attstorage is "x" and should be "e"$/],
  'another sequence': ['after the table', 'alter table pat.notes alter column id set increment by 10;',
    /^pg_sequence of sequence pat\.notes_id_seq: seqincrement is "10" and should be "1"$/],
  'a table that is not logged': ['after the table', 'alter table pat.notes set unlogged;', /^table pat\.notes: relpersistence is "u" and should be "p"$/],
  'another volatility': ['after the function', 'alter function public.note_of(uuid, text) volatile;',
    /^function public\.note_of\(.*\): provolatile is "v" and should be "s"$/],
  'another strictness': ['after the function', 'alter function public.note_of(uuid, text) called on null input;',
    /^function public\.note_of\(.*\): proisstrict is "false" and should be "true"$/],
  'not for parallel workers': ['after the function', 'alter function public.note_of(uuid, text) parallel unsafe;',
    /^function public\.note_of\(.*\): proparallel is "u" and should be "s"$/],
  'other rights': ['after the function', 'alter function public.note_of(uuid, text) security definer;',
    /^function public\.note_of\(.*\): prosecdef is "true" and should be "false"$/],
  'leakproof': ['after the function', 'alter function public.note_of(uuid, text) leakproof;',
    /^function public\.note_of\(.*\): proleakproof is "true" and should be "false"$/],
  'a search path that callers choose': ['after the function', 'alter function public.note_of(uuid, text) reset search_path;',
    /^function public\.note_of\(.*\): proconfig lacks search_path=pg_catalog, pg_temp$/],
  'another owner': ['after the function', 'alter function public.note_of(uuid, text) owner to service_role;',
    /^function public\.note_of\(.*\): proowner is "role service_role" and should be "role postgres"$/],
  'another default of an argument': ['function', (sql) => sql.replace(`default 'none'`, `default ''`),
    /^function public\.note_of\(.*\): proargdefaults is .+''::text" and should be .+'none'::text"$/],
  'another name of an argument': ['function', (sql) => sql.replaceAll('key', 'api_key').replace('pat.api_api_keys', 'pat.api_keys'),
    /^function public\.note_of\(.*\): proargnames lacks key, and has api_key$/],
  'arguments in another order': ['function', (sql) => sql.replace('key uuid, otherwise text', 'otherwise uuid, key text').replace('= key', '= otherwise'),
    /^function public\.note_of\(.*\): proargnames is in another order: otherwise,key and should be key,otherwise$/],
  'another function of the library': ['function of the library', (sql) => sql.replace('supabase_pat_uid', 'supabase_pat_gate'),
    /^function pat\.user_again\(\): prosrc is "supabase_pat_gate" and should be "supabase_pat_uid"$/],
  'the old body': ['body of a function', '', /^function pat\.keep_a_current_signing_key\(\): prosrc is /],
  'the old cost': ['cost of a function', '', /^function public\.is_valid_api_token\(\): procost is "\d+" and should be "42"$/],
  'a function that was to go': ['dropped function', '', /^function pat\.dropped\(\) should not be there$/],
  'what is no longer the extension\'s': ['after the function', 'alter extension supabase_pat drop function public.note_of(uuid, text);',
    /^function public\.note_of\(.*\) is missing$/],
  'what is in the schema, and not the extension\'s': ['at the end', 'alter extension supabase_pat drop function pat.note_is_trimmed();',
    /^function pat\.note_is_trimmed\(\): depends_on lacks extension supabase_pat \(e\)$/],
  'a label too few': ['enum', `create type pat.colour as enum ('red');`, /^pg_enum of type pat\.colour 'green' is missing$/],
  'another domain': ['domain', 'create domain pat.short as text;', /^domain constraint short_check on pat\.short is missing$/],
  'another operator': ['operator', (sql) => sql.replace(', restrict = eqsel', ''), /^operator pat\.===\(.*\): oprrest is null and should be "function pg_catalog\.eqsel\(.*\)"$/],
  'another cast': ['cast', (sql) => sql.replace(' as assignment', ''), /^cast \(public\.noted AS .*text\): castcontext is "e" and should be "a"$/],
  'other default privileges': ['after the table', 'alter default privileges in schema pat grant select on tables to anon;',
    /^default acl for role postgres in schema pat on tables should not be there$/],
  'more of the schema': ['after the table', 'grant create on schema pat to authenticated;',
    /^schema pat: nspacl has authenticated: CREATE by postgres$/],
};

/** The scripts, from the install script that is there: of the older version, of the newer, and of the ways from one to the other. */
export function madeUp(install) {
  let newer = install;
  for (const [of, { edit }] of Object.entries(CHANGED)) {
    find(newer, edit[0], of);
    newer = newer.replace(...edit);
  }
  const steps = {
    ...Object.fromEntries(Object.entries(CHANGED).map(([of, { upgrade }]) => [of, upgrade(install)])),
    'dropped function': 'drop function pat.dropped();',
    ...ADDED,
  };
  const upgrade = Object.values(steps).join('\n');
  const falling = Object.fromEntries(Object.entries(OMISSIONS).map(([name, [step, instead]], n) => {
    if (!(step in steps)) throw new Error(`there is no ${step}`);
    const sql = typeof instead === 'function' ? instead(steps[step]) : instead;
    if (sql === steps[step]) throw new Error(`${name} omits nothing`);
    return [name, { version: `falls_short_${n}`, sql: Object.values({ ...steps, [step]: sql }).join('\n') }];
  }));
  return { older: install + DROPPED, newer: newer + Object.values(ADDED).join('\n'), upgrade, falling };
}

function find(script, pattern, of = pattern) {
  const found = script.match(pattern);
  if (!found) throw new Error(`the install script has no place for the change: ${of}`);
  return found;
}
