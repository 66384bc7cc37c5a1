// What a crowd asks a REST server for, and what whoever may ask is answered.
import { body } from './gate_world.mjs';

export const USERS = 8;
/** The SQLSTATE of what is refused to somebody, whatever the status. */
export const FORBIDDEN = '42501';
const mayWrite = ({ role, is_valid: isValid }) => role !== 'anon' && isValid;

export const SQL = `
  delete from todos;
  insert into auth.users (id, email, raw_app_meta_data)
      select md5('user ' || n)::uuid, 'user' || n || '@example.com', '{"plan": "plan 0"}'
      from generate_series(1, ${USERS}) n;
  insert into auth.users (email, raw_app_meta_data) values ('limited@example.com', '{"plan": "plan 0"}');
  insert into todos (user_id, title)
      select id, email || ' ' || n from auth.users, generate_series(1, 2) n where email like 'user%';
  grant select on todos to service_role;

  create table notes (
      marker text primary key,
      user_id uuid default pat.uid(),
      key_id uuid default current_api_key_id(),
      role name not null default current_user
  );
  alter table notes enable row level security;
  create policy owners on notes
      using (pat.uid() = user_id and is_valid_api_token())
      with check (pat.uid() = user_id and is_valid_api_token());
  grant select, insert on notes to authenticated, service_role;

  create function identity() returns json language sql as $$
      select json_build_object(
          'role', current_user, 'claimed_role', auth.role(), 'uid', auth.uid(), 'pat_uid', pat.uid(),
          'key', current_api_key_id(), 'plan', auth.jwt() -> 'app_metadata' ->> 'plan',
          'is_valid', is_valid_api_token(), 'is_active', is_active_session(), 'may_write', has_scope('notes:write'),
          'reads_only', current_setting('transaction_read_only'), 'timeout', current_setting('statement_timeout'),
          'seen', current_setting('app.seen', true), 'backend', pg_backend_pid())
  $$;
  create view whoami with (security_invoker = true) as select identity() as "is";
  grant select on whoami to anon, authenticated, service_role;
  create function report() returns json language sql as 'select identity()';
  create function fail(marker text) returns void language plpgsql as $$
      begin
          insert into notes (marker) values (marker);
          raise exception 'failed on purpose';
      end $$;
  create function hang(marker text, seconds float8) returns void language plpgsql as $$
      begin
          insert into notes (marker) values (marker);
          perform pg_sleep(seconds);
      end $$;

  -- What the gate calls for what it lets through.
  create function begin_request() returns void language plpgsql as $$
      declare
          headers json := current_setting('request.headers');
      begin
          perform set_config('app.seen', concat_ws(' ', headers ->> 'x-marker', current_user, auth.uid()), true);
          if headers ->> 'x-timeout' is not null then
              perform set_config('statement_timeout', headers ->> 'x-timeout', true);
          end if;
      end $$;
`;

/** What is asked for: a share of a thousand, how, the scope that it needs, and what somebody is answered. */
export const REQUESTS = {
  whoami: {
    share: 300, method: 'GET', path: () => '/whoami', scope: 'whoami:read',
    answer: (is) => [200, [{ is: { ...is, reads_only: 'on' } }]],
  },
  report: {
    share: 225, method: 'POST', path: () => '/rpc/report', body: () => ({}), scope: 'rpc/report:call',
    answer: (is) => [200, { ...is, reads_only: 'off' }],
  },
  todos: {
    share: 200, method: 'GET', path: () => '/todos?select=title&order=title', scope: 'todos:read',
    answer: (is, { titles }) => [200, titles(is).map((title) => ({ title }))],
  },
  note: {
    share: 150, method: 'POST', path: () => '/notes?select=marker,user_id,key_id,role', scope: 'notes:write',
    headers: { prefer: 'return=representation' }, body: (marker) => ({ marker }),
    answer: (is, { marker }) => (mayWrite(is)
      ? [201, [{ marker, user_id: is.uid, key_id: is.key, role: is.role }]] : FORBIDDEN),
  },
  fail: {
    share: 105, method: 'POST', path: () => '/rpc/fail', scope: 'rpc/fail:call', body: (marker) => ({ marker }),
    answer: (is) => (mayWrite(is) ? [400, body('P0001', 'failed on purpose')] : FORBIDDEN),
  },
  timeout: {
    share: 15, method: 'POST', path: () => '/rpc/hang', scope: 'rpc/hang:call',
    headers: { 'x-timeout': '20ms' }, body: (marker) => ({ marker, seconds: 60 }),
    answer: (is) => (mayWrite(is)
      ? [500, body('57014', 'canceling statement due to statement timeout')] : FORBIDDEN),
  },
  /** The client is gone before the answer comes, which may be anything. */
  hangUp: {
    share: 5, method: 'POST', path: () => '/rpc/hang', scope: 'rpc/hang:call',
    body: (marker) => ({ marker, seconds: 0.03 }), patience: 10,
  },
};
