set local search_path = pg_catalog, pg_temp;

-- The keys that tokens are signed with. src/signing_keys/ring.rs counts on the order of the columns.
create table pat.signing_keys (
    kid text primary key,
    status text not null default 'standby'
        check (status in ('standby', 'current', 'previous', 'revoked')),
    algorithm text not null,
    created_at timestamptz not null default now(),
    activated_at timestamptz,
    revoked_at timestamptz,
    -- An exclusion constraint can wait for the end of a statement, which a rotation needs.
    constraint one_signing_key_is_current exclude using btree (status with =)
        where (status = 'current') deferrable initially immediate
);
comment on table pat.signing_keys is
    'The keys that tokens are signed with. Change them with pat.add_signing_key() and similar functions.';
comment on column pat.signing_keys.status is
    'standby: verifies, does not sign yet. current: signs. previous: verifies what it signed. revoked: neither.';

-- Their private parts, for the owner alone. They have a table to themselves, with no constraint that
-- a row could fail for more than its kid: Postgres prints the row that fails one. And ANALYZE takes
-- no samples. A foreign key would be there before the rows in a restore, and pg_restore with several jobs
-- keeps no order among tables: the trigger forget_private_keys stands in for it.
create table pat.private_keys (
    kid text primary key,
    jwk text not null
);
comment on table pat.private_keys is
    'The private parts of the signing keys, in the clear: guard the owner''s account, backups and dumps.';

alter table pat.private_keys alter column jwk set statistics 0;

alter table pat.signing_keys enable row level security;
alter table pat.private_keys enable row level security;

select pg_extension_config_dump('pat.signing_keys', '');
select pg_extension_config_dump('pat.private_keys', '');

create policy trusted_roles_see_the_keys on pat.signing_keys for select using (pat.is_trusted());

-- Tells every backend to read the keys anew, whoever changes them and however: see src/pg/kept.rs.
create function pat.signing_keys_changed() returns trigger
    language c
    as 'MODULE_PATHNAME', 'supabase_pat_signing_keys_changed';
comment on function pat.signing_keys_changed() is 'Trigger: tells every backend to read the signing keys again.';

create trigger tell_every_backend
    after insert or update or delete or truncate on pat.signing_keys
    for each statement execute function pat.signing_keys_changed();

create trigger tell_every_backend
    after insert or update or delete or truncate on pat.private_keys
    for each statement execute function pat.signing_keys_changed();

-- Also where session_replication_role is replica.
alter table pat.signing_keys enable always trigger tell_every_backend;
alter table pat.private_keys enable always trigger tell_every_backend;

-- What a subscription applies fires no triggers but those for each row.
create trigger tell_every_backend_of_a_row
    after insert or update or delete on pat.signing_keys
    for each row execute function pat.signing_keys_changed();

create trigger tell_every_backend_of_a_row
    after insert or update or delete on pat.private_keys
    for each row execute function pat.signing_keys_changed();

alter table pat.signing_keys enable replica trigger tell_every_backend_of_a_row;
alter table pat.private_keys enable replica trigger tell_every_backend_of_a_row;

-- A private part goes with its key.
create function pat.forget_private_keys() returns trigger
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    delete from pat.private_keys p where not exists (select from pat.signing_keys k where k.kid = p.kid);
    return null;
end
$$;
comment on function pat.forget_private_keys() is 'Trigger: deletes the private part of a signing key that is deleted.';

create trigger forget_private_keys
    after delete or truncate on pat.signing_keys
    for each statement execute function pat.forget_private_keys();

-- The constraint on the table lets no two keys be current. This lets none follow one only if no key is
-- left at all: else signing would fall back to the configured secret unnoticed.
create function pat.keep_a_current_signing_key() returns trigger
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    if exists (select from before where status = 'current')
        and exists (select from pat.signing_keys)
        and not exists (select from pat.signing_keys where status = 'current')
    then
        raise exception using
            errcode = 'check_violation',
            message = 'no signing key would be current',
            hint = 'Make another one current with pat.rotate_signing_key(). Deleting all keys brings '
                'the configured secret back.';
    end if;
    return null;
end
$$;
comment on function pat.keep_a_current_signing_key() is
    'Trigger: refuses a change after which there are signing keys, but no current one.';

create trigger keep_a_current_key_on_update
    after update on pat.signing_keys referencing old table as before
    for each statement execute function pat.keep_a_current_signing_key();

create trigger keep_a_current_key_on_delete
    after delete on pat.signing_keys referencing old table as before
    for each statement execute function pat.keep_a_current_signing_key();

comment on function pat.add_signing_key(text, text, text) is
    'Adds a signing key on standby and returns its kid. alg: HS256, HS384, HS512, ES256, RS256 or EdDSA. secret: for '
    'the HMAC algorithms, null to have one generated. kid: null for a random UUID. For trusted roles.';
comment on function pat.import_signing_key(jsonb) is
    'Adds a private JSON Web Key (oct, EC P-256, RSA of 2048 bits or more, OKP Ed25519) as a signing key on standby '
    'and returns its kid. For trusted roles.';
comment on function pat.rotate_signing_key(text) is
    'Makes a key that is on standby, or was current before, the current one, which signs from now on. The key that '
    'was current still verifies. For trusted roles.';
comment on function pat.revoke_signing_key(text) is
    'Revokes a signing key: from the next statement on it verifies nothing, and the personal access tokens minted '
    'with it are revoked. Refused for the current key. Publish the keys to the REST server again. For trusted roles.';
comment on function pat.jwks() is
    'The public signing keys that verify, as a JSON Web Key Set (RFC 7517). Shared secrets are not in it.';
comment on function pat.jwks_for_verifier() is
    'All keys that verify, shared secrets and the configured one included, as a JSON Web Key Set: for the jwt-secret '
    'of PostgREST. Granted to nobody; whoever has it can forge tokens.';
comment on function pat.take_private_jwk() is
    'For the statement that stores a signing key. Null at any other time.';

set local search_path = pat, pg_temp;
