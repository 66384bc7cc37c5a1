set local search_path = pg_catalog, pg_temp;

-- What users are told by mail of their tokens, and has not been sent yet, or was lately. There is neither an address
-- nor a secret in it. A row without a token stands for all others of its kind, user and day. Rows are added and
-- removed, and only mail workers change them: so no two transactions that write notices wait for each other.
create table pat.notices (
    id bigint primary key generated always as identity,
    kind text not null check (kind in ('minted', 'expiring', 'revoked', 'leaked')),
    user_id uuid not null,
    happened_at timestamptz not null,
    -- From when on it may be sent.
    due_at timestamptz not null,
    key_id uuid,
    name text,
    hint text,
    is_rotation boolean not null default false,
    -- Who did it: user, token, operator or leak report.
    actor text,
    by_key uuid,
    found_at text,
    expires_at timestamptz,
    -- How many days before.
    days smallint,
    claimed_until timestamptz,
    attempts integer not null default 0,
    last_error text,
    ended_at timestamptz,
    -- sent, or why it was not.
    outcome text
);
comment on table pat.notices is
    'The notices that users get by mail about their tokens. No address and no secret is in it.';

create index notices_user_id_idx on pat.notices (user_id, happened_at);
create index notices_waiting_idx on pat.notices (due_at) where ended_at is null;

alter table pat.notices enable row level security;

select pg_extension_config_dump('pat.notices', '');
select pg_extension_config_dump('pat.notices_id_seq', '');

-- Up to which expiry tokens have been looked at, for each number of days before it. A mark only moves on.
create table pat.notice_marks (
    days smallint primary key,
    reached timestamptz not null
);
comment on table pat.notice_marks is
    'For each number of days before an expiry, up to which expiry notices have been written.';

alter table pat.notice_marks enable row level security;

select pg_extension_config_dump('pat.notice_marks', '');

-- By it the tokens that expire soon are found.
create index api_keys_expires_at_idx on pat.api_keys (expires_at);

-- Tells of a token that is revoked, whoever does it and however. A rotation revokes too, and is told of by the new token.
create function pat.key_revoked() returns trigger
    language c
    as 'MODULE_PATHNAME', 'supabase_pat_key_revoked';
comment on function pat.key_revoked() is
    'Trigger: writes a notice for the user of a token that is revoked, if supabase_pat.notices asks for one.';

create trigger tell_of_the_revocation
    after update of revoked_at on pat.api_keys
    for each row
    when (old.revoked_at is null and new.revoked_at is not null and new.replaced_by is not distinct from old.replaced_by)
    execute function pat.key_revoked();

comment on function pat.claim_notices(integer) is
    'Hands out up to max notices to be sent, and keeps them from other workers for supabase_pat.outbox_lease. A '
    'notice says what happened to which token, who did it, and the present address and language of the user. Notices '
    'that no longer apply are left out. A notice that is neither confirmed nor returned is handed out again. For '
    'trusted roles.';
comment on function pat.notice_sent(bigint) is
    'Confirms that a claimed notice was sent, and deletes its content. False if there is no such notice. For trusted '
    'roles.';
comment on function pat.notice_failed(bigint, text) is
    'Returns a claimed notice that could not be sent, for another try after a pause that grows to an hour. error: the '
    'reason, for last_error. False if there is no such notice. For trusted roles.';

set local search_path = pat, pg_temp;
