-- Tells every backend to read the keys anew, whoever changes them and however: see src/pg/kept.rs.
create function pat.signing_keys_changed() returns trigger
    language c
    as 'MODULE_PATHNAME', 'supabase_pat_signing_keys_changed';

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

create trigger keep_a_current_key_on_update
    after update on pat.signing_keys referencing old table as before
    for each statement execute function pat.keep_a_current_signing_key();

create trigger keep_a_current_key_on_delete
    after delete on pat.signing_keys referencing old table as before
    for each statement execute function pat.keep_a_current_signing_key();

create policy trusted_roles_see_the_keys on pat.signing_keys for select using (pat.is_trusted());
