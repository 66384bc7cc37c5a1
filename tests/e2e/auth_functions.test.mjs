// What stands for auth.uid() and its like in plans gives the same values and the same errors, in every place of a query.
// Two sessions do the same, one with the setting on and one without.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { ALICE, BOB, startCluster } from './fixture.mjs';

/** The functions: what they return, and the legacy setting that they read before the claims. */
const FUNCTIONS = {
  uid: { type: 'uuid', legacy: 'request.jwt.claim.sub' },
  role: { type: 'text', legacy: 'request.jwt.claim.role' },
  email: { type: 'text', legacy: 'request.jwt.claim.email' },
  jwt: { type: 'jsonb', legacy: 'request.jwt.claim' },
};
const CLAIMS = 'request.jwt.claims';
const UNSET = Symbol('unset');
const NESTED = `${'['.repeat(20_000)}1${']'.repeat(20_000)}`;

const LEGACY = [
  UNSET, '', ALICE, ALICE.toUpperCase().replaceAll('-', ''), `{${BOB}}`, 'no uuid', ' ', 'null', 'ålice@example.com 🦀',
  '{"sub": "x", "sub": "y"}', '{"a": ', 'x'.repeat(100_000),
];
const OF_CLAIMS = [
  UNSET, '', ' ', 'null', '{}', '[]', `["${ALICE}"]`, `"${ALICE}"`, '1', 'true', '{', '{"sub": }', 'no json', NESTED, `{"x": ${NESTED}`,
  ...[
    `"${ALICE}"`, 'null', '1', '1e400', '1.50', 'true', '""', '" "', '"no uuid"', '{}', `{"sub": "${BOB}"}`, `["${BOB}"]`, '"\\u0000"', '"\\ud800"',
    '"\\u00e5lice 🦀"', '"\\""', `"${'y'.repeat(100_000)}"`, `"{${BOB}}"`,
  ].map((value) => `{"a": 1, "sub": ${value}, "role": ${value}, "email": ${value}}`),
  `{"sub": "x", "role": "x", "email": "x", "sub": "${BOB}", "role": "y", "email": null}`,
  `{"Sub": "${BOB}", "s\\u0075b": "${ALICE}", "ROLE": 1}`,
];

/** Statements with a call of auth.f(), by where it stands. */
const places = (f) => ({
  'a select': `select auth.${f}()::text`,
  'a policy, using': `select id from policy_${f} order by id`,
  'a policy, with check': `insert into policy_${f} select id + 10, value from values_${f}`,
  'a default': `insert into default_${f} (id) values (1) returning value::text`,
  'a view': `select value::text from view_${f}`,
  'an index condition': `set local enable_seqscan = off; select id from indexed_${f} where value = auth.${f}()`,
  'a join': `select a.id from indexed_${f} a join indexed_${f} b on a.value = b.value and b.value = auth.${f}() order by 1`,
  'a function in SQL': `select of_sql_${f}()::text from generate_series(1, 2)`,
  'a function in SQL that is inlined': `select inlined_${f}()::text from generate_series(1, 2)`,
  'a function in SQL with a set of rows': `select * from rows_of_${f}()`,
  'a function in PL/pgSQL': `select of_plpgsql_${f}()::text from generate_series(1, 2)`,
  'a prepared statement, custom': `set local plan_cache_mode = force_custom_plan; execute prepared_${f}('x')`,
  'a prepared statement, generic': `set local plan_cache_mode = force_generic_plan; execute prepared_${f}('x')`,
  'a CTE': `with c as materialized (select auth.${f}() as value) select value::text from c`,
  'RETURNING': `insert into written_${f} (id) values (7) returning auth.${f}()::text`,
  'ON CONFLICT': `insert into written_${f} (id) values (1) on conflict (id) do update set value = auth.${f}() where auth.${f}() is not null returning value::text`,
  MERGE: `merge into written_${f} w using generate_series(1, 9) s on w.id = s when matched and auth.${f}() is null then delete
    when matched then update set value = auth.${f}() when not matched then insert values (s, auth.${f}()); select id, value::text from written_${f} order by id`,
  'UPDATE': `update written_${f} set value = auth.${f}() where value is distinct from auth.${f}() returning id, value::text`,
  'DELETE': `delete from written_${f} where value = auth.${f}() returning id`,
  FROM: `select f::text from auth.${f}() f, lateral (select auth.${f}() is null offset 0) l`,
  'what is not evaluated': `select case when i < 0 then auth.${f}() end::text from generate_series(1, 2) i where i > 0 or auth.${f}() is null`,
  'an aggregate': `select count(*) filter (where auth.${f}() is null), min(auth.${f}()::text) from generate_series(1, 3)`,
  'a window, a limit and an order': `select row_number() over (order by auth.${f}()::text), i from generate_series(1, 3) i order by auth.${f}()::text, i
    limit case when auth.${f}() is null then 1 else 2 end`,
  'a cursor': `declare c cursor for select auth.${f}()::text from generate_series(1, 3); fetch 2 from c`,
  COPY: `copy (select auth.${f}()::text where auth.${f}() is null) to '/dev/null'`,
  'a trigger': `insert into triggered_${f} values (1) returning value::text`,
  'a check': `insert into checked_${f} values (1) returning id`,
  'a table that is created': `create temp table made on commit drop as select auth.${f}() as value; select value::text from made`,
  'DO': `do $$ begin perform set_config('test.value', coalesce(auth.${f}()::text, 'null'), true); end $$; select current_setting('test.value')`,
});

const setup = Object.entries(FUNCTIONS).map(([f, { type }]) => `
  create table values_${f} (id int, value ${type});
  insert into values_${f} select n, v::${type} from unnest(array[${f === 'jwt' ? `'{}', 'null', '1', '{"sub": "y"}'` : f === 'uid' ? `'${ALICE}', '${BOB}'` : `'${ALICE}', 'no uuid', '1', ''`}]) with ordinality as v (v, n);
  create table policy_${f} as select * from values_${f};
  alter table policy_${f} enable row level security;
  create policy p on policy_${f} using (auth.${f}() = value);
  create table default_${f} (id int, value ${type} default auth.${f}());
  create view view_${f} as select auth.${f}() as value;
  create table indexed_${f} as select * from values_${f};
  ${type === 'text' || type === 'uuid' || type === 'jsonb' ? `create index on indexed_${f} (value);` : ''}
  create function of_sql_${f}() returns ${type} language sql volatile as 'select auth.${f}() limit 1';
  create function inlined_${f}() returns ${type} language sql stable as 'select auth.${f}()';
  create function rows_of_${f}() returns table (value text) language sql stable as 'select auth.${f}()::text from generate_series(1, 2)';
  create function of_plpgsql_${f}() returns ${type} language plpgsql stable as $$
    declare found ${type};
    begin
      if auth.${f}() is null then
        return null;
      end if;
      select auth.${f}() into found from generate_series(1, 1);
      return case when found = auth.${f}() then found end;
    end $$;
  create table written_${f} (id int primary key, value ${type});
  insert into written_${f} values (1), (2);
  create table triggered_${f} (id int, value ${type});
  create function before_${f}() returns trigger language plpgsql as $$ begin new.value := auth.${f}(); return new; end $$;
  create trigger t before insert on triggered_${f} for each row execute function before_${f}();
  create table checked_${f} (id int check (auth.${f}() is null or auth.${f}()::text <> 'x'));
  grant all on values_${f}, policy_${f}, default_${f}, view_${f}, indexed_${f}, written_${f}, triggered_${f}, checked_${f} to authenticated;`).join('');

let cluster;
before(async () => {
  cluster = await startCluster({ sql: `${setup}
    grant pg_write_server_files to authenticated;
    create function become_by_query(i int) returns void language plpgsql as $$
      begin perform set_config('${CLAIMS}', json_build_object('sub', format('00000000-0000-0000-0000-%s', lpad(i::text, 12, '0')))::text, true) from generate_series(1, 1); end $$;
    create function become(i int) returns void language plpgsql as $$
      declare ignored text;
      begin ignored := set_config('${CLAIMS}', json_build_object('sub', format('00000000-0000-0000-0000-%s', lpad(i::text, 12, '0')))::text, true); end $$;
    create function become_legacy(i int) returns void language plpgsql as $$
      declare ignored text;
      begin ignored := set_config('request.jwt.claim.sub', format('00000000-0000-0000-0000-%s', lpad(i::text, 12, '0')), true); end $$;
    create function become_by_set(i int) returns void language plpgsql as $$
      begin execute format('set local "request.jwt.claim.sub" = %L', format('00000000-0000-0000-0000-%s', lpad(i::text, 12, '0'))); end $$;
    create function become_and_back(i int) returns uuid language plpgsql as $$
      declare found uuid;
      begin
        perform become(i), become_legacy(i);
        found := auth.uid();
        raise exception 'back';
      exception when others then return found; end $$;
    create function as_somebody(i int) returns uuid language sql set "request.jwt.claim.sub" = '${BOB}' as 'select auth.uid() limit 1';
    create function become_inlined(i int) returns text language sql as
      $$ select set_config('request.jwt.claim.sub', format('00000000-0000-0000-0000-%s', lpad(i::text, 12, '0')), true) $$;
    create aggregate become_by_aggregate(text, bool) (sfunc = set_config, stype = text, initcond = 'request.jwt.claim.sub');
    create domain becoming as text check (set_config('request.jwt.claim.sub', value, true) is not null);
    create function uid_now() returns uuid language plpgsql stable as $$ begin return auth.uid(); end $$;
    create function uid_of_bob() returns uuid language plpgsql stable set "request.jwt.claim.sub" = '${BOB}' as $$ begin return uid_now(); end $$;
    create function nobody(i int) returns void language sql as
      $$ select set_config('${CLAIMS}', '', true), set_config('request.jwt.claim.sub', '', true) $$;
  ` });
});
after(() => cluster.stop());

/** A session with the setting on or off. */
async function session(isOn, prepares = true) {
  const db = await cluster.connect('postgres');
  await db.query(`set supabase_pat.fast_auth_functions = ${isOn ? 'on' : 'off'}`);
  if (prepares) {
    for (const f of Object.keys(FUNCTIONS)) {
      await db.query(`prepare prepared_${f}(text) as select id, auth.${f}()::text from values_${f} where value = auth.${f}() or $1 = 'y'`);
    }
  }
  await db.query('set role authenticated');
  return db;
}

/** What a statement comes to, in a transaction that is rolled back. */
async function outcome(db, sql) {
  try {
    const results = await db.query(`begin; ${sql}; rollback`);
    return JSON.stringify(results.map(({ rows }) => rows));
  } catch (error) {
    await db.query('rollback');
    return JSON.stringify([error.code, error.message, error.detail, error.hint]);
  }
}

test('with any settings, in any place, the value or the error is the same', async () => {
  let count = 0;
  const kinds = new Set();
  for (const isLegacyUnset of [true, false]) {
    for (const areClaimsUnset of [true, false]) {
      // A setting that has had a value is never again as if it had not.
      const both = [await session(true), await session(false)];
      for (const legacy of LEGACY.filter((value) => (value === UNSET) === isLegacyUnset)) {
        for (const claims of OF_CLAIMS.filter((value) => (value === UNSET) === areClaimsUnset)) {
          // With both set it is enough to see which of them counts.
          const isPair = !isLegacyUnset && !areClaimsUnset && legacy !== '' && claims !== '';
          for (const [f, { legacy: name }] of Object.entries(FUNCTIONS)) {
            for (const db of both) {
              if (legacy !== UNSET) await db.query('select set_config($1, $2, false)', [name, legacy]);
              if (claims !== UNSET) await db.query('select set_config($1, $2, false)', [CLAIMS, claims]);
            }
            for (const [place, sql] of Object.entries(places(f)).slice(0, isPair ? 3 : undefined)) {
              const [on, off] = [await outcome(both[0], sql), await outcome(both[1], sql)];
              assert.equal(on, off, `auth.${f}() in ${place}, legacy ${String(legacy).slice(0, 50)}, claims ${String(claims).slice(0, 80)}`);
              count += 1;
              kinds.add(on.match(/^\["(\w+)"/)?.[1] ?? 'a value');
            }
          }
        }
      }
      for (const db of both) await db.end();
    }
  }
  assert.ok(count > 5_000, `${count} comparisons`);
  for (const kind of ['a value', '22P02', '54001', '42501']) assert.ok(kinds.has(kind), `${[...kinds]} without ${kind}`);
});

test('calls are replaced in each place but in expressions that are never planned, and functions that are inlined', async () => {
  const db = await session(true);
  await db.query(`select set_config('${CLAIMS}', '{"sub": "${ALICE}"}', false)`);
  const left = [];
  for (const [place, sql] of Object.entries(places('uid'))) {
    const statement = sql.split(';').map((part) => part.trim()).find((part) => /^(select|insert|with|merge|update|delete|execute)/.test(part));
    if (!statement || /^(a trigger|a check|a function in PL|DO|a cursor|COPY|a table that)/.test(place)) continue;
    const plan = (await db.query(`explain (verbose, costs off) ${statement}`)).rows.map((row) => row['QUERY PLAN']).join('\n');
    if (/current_setting/.test(plan)) left.push(place);
  }
  assert.deepEqual(left, ['a function in SQL that is inlined', 'a function in SQL with a set of rows']);
  await db.end();
});

test('who changes the settings in the middle of a statement is somebody else from there on', async () => {
  const rows = 'from generate_series(1, 40) i';
  const statements = [
    'select i, auth.uid(), become(i), auth.uid()',
    'select i, auth.uid(), become(i), auth.uid(), become(i + 100), auth.uid()',
    'select i, auth.uid(), become_legacy(i), auth.uid(), become(i + 100)',
    'select i, auth.uid(), become_by_query(i), auth.uid(), become(i + 100)',
    'select i, auth.uid(), become_by_set(i), auth.uid(), nobody(i), auth.uid()',
    'select i, auth.uid(), become_and_back(i), auth.uid()',
    'select i, auth.uid(), as_somebody(i), auth.uid()',
    'select i, auth.uid(), as_somebody(i), become_legacy(i), nobody(i)',
    `select i, auth.uid(), set_config('request.jwt.claim.sub', case i % 3 when 0 then '' when 1 then '${ALICE}' else '${BOB}' end, true)`,
    `select i, case when auth.uid() is not null then auth.uid() end, case when i = 20 then become_legacy(i) end`,
    `select i, case when auth.jwt() is not null then auth.jwt() end, auth.role(), case when i % 7 = 0 then become(i) end`,
    'select i, auth.uid(), become_inlined(i), auth.uid()',
    `select i, auth.uid(), ('${ALICE}'::text::becoming)::text, auth.uid()`,
    `select i, auth.uid(), (select become_by_aggregate('${BOB}', true) from generate_series(1, i)), auth.uid()`,
    'select i, uid_now(), uid_of_bob(), uid_now()',
    'select i, (select auth.uid()), (select auth.uid() where i > 0), become(i)',
    'select i, of_plpgsql_uid(), of_sql_uid(), become(i), of_plpgsql_uid(), of_sql_uid()',
  ];
  for (const statement of statements) {
    const outcomes = [];
    for (const isOn of [true, false]) {
      // In a new session nothing is set, and nothing is planned.
      const db = await session(isOn, false);
      const found = [];
      for (let time = 0; time < 2; time += 1) found.push(await outcome(db, `${statement} ${rows}`), await outcome(db, 'select auth.uid()'));
      await db.query(`select set_config('${CLAIMS}', '{"sub": "${BOB}"}', false)`);
      found.push(await outcome(db, `${statement} ${rows}`), await outcome(db, `${statement} ${rows}; rollback; begin; select auth.uid()`));
      outcomes.push(found);
      await db.end();
    }
    assert.deepEqual(outcomes[0], outcomes[1], statement);
  }
});

test('savepoints, transactions and pooled connections bring back who was there before', async () => {
  const outcomes = [];
  for (const isOn of [true, false]) {
    const db = await session(isOn);
    const found = [];
    const see = async (sql) => {
      await db.query(sql);
      found.push((await db.query('select of_plpgsql_uid(), auth.uid()')).rows[0], (await db.query(`execute prepared_uid('y')`)).rows);
    };
    await see('set plan_cache_mode = force_generic_plan');
    for (const [index, user] of [ALICE, BOB, ALICE].entries()) {
      await see(`begin; select set_config('${CLAIMS}', '{"sub": "${user}"}', true)`);
      await see('savepoint s');
      await see(`select set_config('${CLAIMS}', '{"sub": "${index === 1 ? ALICE : BOB}"}', true)`);
      await see('rollback to s');
      await see(`set local request.jwt.claim.sub = '${BOB}'`);
      await see(index === 2 ? 'rollback' : 'commit');
    }
    await see(`set request.jwt.claims = '{"sub": "${BOB}"}'`);
    await see('reset request.jwt.claims');
    await see('reset role; discard plans; reset all; set role authenticated');
    outcomes.push(found);
    await db.end();
  }
  assert.deepEqual(outcomes[0], outcomes[1]);
  assert.ok(outcomes[0].some((row) => row.uid === ALICE) && outcomes[0].some((row) => row.uid === BOB) && outcomes[0].some((row) => row.uid === null));
});

test('a new body counts at once in plans that other sessions keep, and the old one after it was rolled back', async () => {
  const [db, other] = [await session(true), await cluster.connect('postgres')];
  const NEW = '44444444-4444-4444-4444-444444444444';
  await db.query(`set plan_cache_mode = force_generic_plan; select set_config('${CLAIMS}', '{"sub": "${ALICE}"}', false)`);
  const [{ rows: [{ body }] }] = [await other.query(`select pg_get_functiondef('auth.uid()'::regprocedure) as body`)];
  const seen = async () => [
    (await db.query(`execute prepared_uid('y')`)).rows[0].auth ?? Object.values((await db.query(`execute prepared_uid('y')`)).rows[0])[1],
    ...Object.values((await db.query('select of_plpgsql_uid()::text as a, of_sql_uid()::text as b, (select value::text from view_uid) as c')).rows[0]),
    (await db.query({ name: 'kept', text: 'select auth.uid()::text' })).rows[0].uid ?? (await db.query({ name: 'kept', text: 'select auth.uid()::text' })).rows[0].auth,
  ];
  const all = (value) => [value, value, value, value, value];
  const plan = async () => (await db.query(`explain (verbose, costs off) execute prepared_uid('y')`)).rows.map((row) => row['QUERY PLAN']).join('\n');
  for (let time = 0; time < 3; time += 1) {
    assert.deepEqual(await seen(), all(ALICE));
    assert.match(await plan(), /pat\.auth_uid/);
    await other.query(`create or replace function auth.uid() returns uuid language sql stable as $$ select '${NEW}'::uuid $$`);
    assert.deepEqual(await seen(), all(NEW));
    assert.doesNotMatch(await plan(), /pat\.auth_uid/);
    await other.query('begin');
    await other.query(body);
    assert.deepEqual(await seen(), all(NEW));
    await other.query('rollback');
    assert.deepEqual(await seen(), all(NEW));
    await other.query(body);
  }
  assert.deepEqual(await seen(), all(ALICE));
  // In the transaction that makes it.
  await db.query('reset role; begin');
  await db.query(`create or replace function auth.uid() returns uuid language sql stable as $$ select '${NEW}'::uuid $$`);
  assert.deepEqual(await seen(), all(NEW));
  await db.query('rollback');
  assert.deepEqual(await seen(), all(ALICE));
  // Who may not execute it any more is told so, by a plan that was made before.
  await db.query('set role authenticated');
  assert.deepEqual(await seen(), all(ALICE));
  await other.query('revoke execute on function auth.uid() from public');
  await assert.rejects(db.query(`execute prepared_uid('y')`), { code: '42501' });
  await other.query('grant execute on function auth.uid() to public');
  assert.deepEqual(await seen(), all(ALICE));
  await db.end();
  await other.end();
});

test('parallel workers give the answer of their leader', async () => {
  const outcomes = [];
  for (const isOn of [true, false]) {
    const db = await cluster.connect('postgres');
    await db.query(`set supabase_pat.fast_auth_functions = ${isOn ? 'on' : 'off'}`);
    if (isOn) {
      await db.query(`create table many as select i as id, case when i % 10 = 0 then '${ALICE}' else '${BOB}' end::uuid as user_id from generate_series(1, 50000) i;
        alter table many enable row level security; create policy p on many using (auth.uid() = user_id and auth.role() = 'authenticated');
        grant select on many to authenticated; analyze many`);
    }
    await db.query(`set role authenticated; set min_parallel_table_scan_size = 0; set parallel_setup_cost = 0; set parallel_tuple_cost = 0;
      set parallel_leader_participation = off`);
    const found = [];
    for (const claims of [`{"sub": "${ALICE}", "role": "authenticated"}`, `{"sub": "${BOB}"}`, '', '{"role": "authenticated"}', '{"sub": "no uuid"}', '{']) {
      await db.query('begin');
      await db.query(`select set_config('${CLAIMS}', $1, true)`, [claims]);
      if (isOn && claims.includes(ALICE)) {
        const { rows } = await db.query('explain analyze select count(*) from many where id > 0');
        assert.match(JSON.stringify(rows), /Workers Launched: [1-9]/);
      }
      try {
        found.push((await db.query('select count(*), min(id), max(auth.jwt()::text) from many where id > 0')).rows);
      } catch (error) {
        found.push([error.code, error.message]);
      }
      await db.query('rollback');
    }
    outcomes.push(found);
    await db.end();
  }
  assert.deepEqual(outcomes[0], outcomes[1]);
});

test('a statement that is somebody else in each row keeps no memory for it', async () => {
  const sizes = [];
  for (const isOn of [true, false]) {
    const db = await session(isOn);
    await db.query('reset role');
    /** How much there is at the last of so many rows. */
    const bytes = async (count) => Number((await outcome(db, `select sum(size), count(uid), count(jwt) from (
      select auth.uid(), auth.jwt(), become(i), case when i = ${count} then (select sum(total_bytes) from pg_backend_memory_contexts) end as size
      from generate_series(1, ${count}) i offset 0) s`)).match(/"sum":"(\d+)"/)[1]);
    await bytes(1000);
    sizes.push(await bytes(50_000));
    await db.end();
  }
  const [on, off] = sizes;
  assert.ok(on < off + 1_500_000, `${on} bytes at the 50,000th row, without the setting ${off}`);
});

test('pat.uid() is whoever auth.uid() is, whoever that becomes in the middle of a statement', async () => {
  const changes = [
    'become(i)', 'become_legacy(i)', 'become_by_set(i)', 'become_inlined(i)', 'nobody(i)', 'become_and_back(i)',
    // Each second value has the address of the last but one.
    '(select count(become(2 * i + j)) from generate_series(1, 2) j)', '(select count(become_legacy(2 * i + j)) from generate_series(1, 2) j)',
    'case when i % 3 = 0 then become_legacy(i) else become(i) end',
  ];
  for (const change of changes) {
    for (const before of ['', `select set_config('${CLAIMS}', '{"sub": "${BOB}"}', true); `]) {
      const db = await session(false, false);
      const found = await outcome(db, `${before}select count(*) filter (where first is distinct from really or second is distinct from really2)
        from (select pat.uid() as first, auth.uid() as really, ${change} as changed, pat.uid() as second, auth.uid() as really2
          from generate_series(1, 9) i offset 0) s`);
      await db.end();
      assert.match(found, /"count":"0"/, `${before}${change}`);
    }
  }
});

test('a database in another encoding, which cannot have the extension, works as before', async () => {
  cluster.psql('postgres', "create database latin template template0 encoding 'LATIN1' locale 'C'");
  const answer = cluster.psql('latin', `set client_encoding = 'UTF8'; create schema auth;
    create function auth.uid() returns uuid stable language sql set application_name = 'é' as 'select null::uuid -- é';
    set supabase_pat.fast_auth_functions = on;
    select auth.uid() is null`);
  assert.equal(answer, 't');
});
