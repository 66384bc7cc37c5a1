set local search_path = pg_catalog, pg_temp;

-- Users whom sign_up has made, and who have not confirmed their address: see src/users/sign_ups.rs.
create table pat.pending_sign_ups (
    user_id uuid primary key,
    -- The SHA-256 of the password hash that sign_up has given them; null if version 0.1.0 has made them.
    password_digest bytea
);
comment on table pat.pending_sign_ups is
    'Users whom sign_up has created, until they confirm their address. Only theirs is replaced when somebody signs up '
    'again with the address.';

alter table pat.pending_sign_ups enable row level security;

select pg_extension_config_dump('pat.pending_sign_ups', '');

set local search_path = pat, pg_temp;
