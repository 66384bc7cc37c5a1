-- Messages that wait to be sent, or that were sent within the hour, which the limit counts. An address
-- that is nobody's has its row too, so that asking for it does the same work. Nothing here is kept
-- in a dump: a message is worth nothing after minutes.
create table pat.outbox (
    id uuid primary key,
    purpose text not null,
    address_digest bytea not null,
    signing_key text,
    sealed bytea,
    is_deliverable boolean not null,
    created_at timestamptz not null,
    expires_at timestamptz not null,
    claimed_until timestamptz,
    attempts integer not null default 0,
    last_error text,
    sent_at timestamptz,
    -- Who asked for it, as a digest, and whether they are no stranger to the account. Null for what a version
    -- before 0.2.0 wrote.
    asker_digest bytea,
    is_known_asker boolean
);

create index outbox_address_digest_idx on pat.outbox (address_digest, created_at);
-- Not only those that can be delivered: an entry more or less would tell.
create index outbox_waiting_idx on pat.outbox (is_deliverable, created_at) where sealed is not null;
create index outbox_sealed_idx on pat.outbox (expires_at) where sealed is not null;
create index outbox_created_at_idx on pat.outbox (created_at);

-- Wrong tries at the code of a token. What those at short codes were worth is kept for a day, for when shared
-- memory has forgotten it: chance is that of one try, in trillionths. Rows are written and removed, and no two
-- transactions meet in one unless they try the same token.
create table pat.code_attempts (
    token_id uuid primary key,
    attempts integer not null,
    expires_at timestamptz not null,
    chance bigint,
    address_digest bytea,
    account_digest bytea
);

create index code_attempts_expires_at_idx on pat.code_attempts (expires_at);
create index code_attempts_short_codes_idx on pat.code_attempts (expires_at) where chance operator(pg_catalog.>) 0;

alter table pat.outbox enable row level security;
alter table pat.code_attempts enable row level security;
