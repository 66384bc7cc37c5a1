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
    'How many wrong codes were tried with each token and, for a day, how likely the tries at short codes were to '
    'succeed.';

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
    'Puts a message with a code for a new password into the outbox if the address belongs to a user, and returns the '
    'token that goes with the code. The answer is the same whether or not there is such a user.';
comment on function pat.issue_reset_code(text) is
    'A token and its code, for a backend that sends the mail itself. For trusted roles.';
comment on function pat.reset_code_digits() is
    'How many digits a code has that is issued now: supabase_pat.reset_code_length, or 16 after too many wrong codes, '
    'and where wrong codes cannot be counted because the library is not preloaded. The claim digits of a token says '
    'how many its own code has.';
comment on function public.verify_reset_code(text, text) is
    'Whether the code belongs to the token, and both are still valid. A wrong code is counted: after '
    'supabase_pat.reset_max_attempts of them the token is no longer valid, and after too many for an address, from '
    'one client or from everybody together, short codes are refused. The code stays valid for reset_password.';
comment on function public.reset_password(text, text, text) is
    'Sets a new password for whoever has the token and its code, and ends the sessions of that user. False for a '
    'wrong code or token; an error for a password that is not acceptable.';
comment on function pat.take_password_hash() is
    'For the statement that stores a password hash. Null at any other time.';

comment on function pat.claim_messages(integer) is
    'Hands out up to max messages of the outbox to be sent, with address and code in the clear, and keeps them from '
    'other workers for supabase_pat.outbox_lease. A message that is neither confirmed nor returned is handed out '
    'again. For trusted roles; NOTIFY supabase_pat_outbox says that there is one.';
comment on function pat.message_sent(uuid) is
    'Confirms that a claimed message was sent, and deletes its content. False if there is no such message. For '
    'trusted roles.';
comment on function pat.message_failed(uuid, text) is
    'Returns a claimed message that could not be sent, for another try after a pause that grows to a minute. error: '
    'the reason, for last_error. False if there is no such message. For trusted roles.';

comment on function public.sign_up(text, text, jsonb) is
    'Creates a user with an address and a password; data becomes their user_metadata. With '
    'supabase_pat.confirm_sign_up it returns a confirmation_token, which confirm_sign_up takes with the code that '
    'comes by e-mail; otherwise it returns a session. Signing up again replaces the password of a user whom sign_up '
    'has created and to whom nothing has happened since, such as a confirmation or a login. Off unless '
    'supabase_pat.enable_sign_up is on.';
comment on function public.confirm_sign_up(text, text) is
    'Confirms the address of a new user with the token of sign_up and the code that came by e-mail, and begins a '
    'session. Null, with status 401 over REST, for a wrong token or code.';
comment on function public.sign_in(text, text) is
    'Begins a session for an address and its password. Null if the password is wrong: over REST with status 401, or '
    '429 after too many wrong ones. Off unless supabase_pat.enable_sign_in is on.';

set local search_path = pat, pg_temp;
