set local search_path = pg_catalog, pg_temp;

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
comment on table pat.outbox is
    'Messages that wait to be sent, sealed, and the requests of the last hour.';

create index outbox_address_digest_idx on pat.outbox (address_digest, created_at);
-- Not only those that can be delivered: an entry more or less would tell.
create index outbox_waiting_idx on pat.outbox (is_deliverable, created_at) where sealed is not null;
create index outbox_sealed_idx on pat.outbox (expires_at) where sealed is not null;
create index outbox_created_at_idx on pat.outbox (created_at);

alter table pat.outbox enable row level security;

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
comment on table pat.code_attempts is
    'Wrong tries at the codes of tokens, and for a day what those at short codes were worth.';

create index code_attempts_expires_at_idx on pat.code_attempts (expires_at);
create index code_attempts_short_codes_idx on pat.code_attempts (expires_at) where chance > 0;

alter table pat.code_attempts enable row level security;

-- Wrong passwords of the last hour, by digests of account and address: see src/passwords/throttle.rs.
create table pat.wrong_passwords (
    key bytea primary key,
    wrong integer not null,
    last_at timestamptz not null
);
comment on table pat.wrong_passwords is 'Wrong passwords of the last hour, which slow down whoever guesses.';

create index wrong_passwords_last_at_idx on pat.wrong_passwords (last_at);

alter table pat.wrong_passwords enable row level security;

comment on function public.request_password_reset(text) is
    'Puts a message with a code for a new password into the outbox, if the address is that of a user, and returns the '
    'token that goes with the code. Whether it is cannot be seen from outside.';
comment on function pat.issue_reset_code(text) is
    'A token and its code, for a backend that sends the mail itself. For trusted roles.';
comment on function pat.reset_code_digits() is
    'How many digits a code has that is asked for now: supabase_pat.reset_code_length, or 16 while there are too many '
    'wrong codes, and where wrong codes cannot be counted, without preloading. A token says in its claim digits how '
    'many its own has.';
comment on function public.verify_reset_code(text, text) is
    'Whether the code is the one that belongs to the token, and both are still good. A wrong code is counted; after '
    'supabase_pat.reset_max_attempts of them the token is dead, and after too many for an address, for whoever tries '
    'or for all together short codes are not looked at. The code stays good for reset_password.';
comment on function public.reset_password(text, text, text) is
    'Sets a new password for whoever has the token and its code, and ends their sessions. False for a wrong code or '
    'token; an error for a password that is not fit.';
comment on function pat.take_password_hash() is
    'For the statement that stores a password hash. Null at any other time.';

comment on function pat.claim_messages(integer) is
    'Takes up to max messages out of the outbox for supabase_pat.outbox_lease, with address and code in the clear, to '
    'be sent. One that is neither confirmed nor returned comes again. For trusted roles; NOTIFY supabase_pat_outbox '
    'tells that there is one.';
comment on function pat.message_sent(uuid) is
    'Confirms that a claimed message was sent, and forgets what was in it. False if there is none. For trusted roles.';
comment on function pat.message_failed(uuid, text) is
    'Returns a claimed message that could not be sent, for another try after a pause that grows to a minute. error: '
    'why, for last_error. False if there is none. For trusted roles.';

comment on function public.sign_up(text, text, jsonb) is
    'Makes a user with an address and a password, data being their user_metadata. With supabase_pat.confirm_sign_up '
    'it returns a confirmation_token, for which confirm_sign_up takes the code that comes by e-mail; else a session. '
    'A user whom sign_up has made and who has shown nothing since gets the password of the latest who signed up. Off '
    'unless supabase_pat.enable_sign_up is on.';
comment on function public.confirm_sign_up(text, text) is
    'Confirms the address of a new user with the token of sign_up and the code that came by e-mail, and begins a '
    'session. Null, with status 401 over REST, for a wrong one.';
comment on function public.sign_in(text, text) is
    'Begins a session for an address and its password. Null for a wrong one, with status 401 over REST, or 429 for '
    'one of too many. Off unless supabase_pat.enable_sign_in is on.';

set local search_path = pat, pg_temp;
