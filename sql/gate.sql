-- Tells every backend to read the denied tokens anew, whoever changes them and however.
create function pat.denied_tokens_changed() returns trigger
    language c
    as 'MODULE_PATHNAME', 'supabase_pat_denied_tokens_changed';

create trigger tell_every_backend
    after insert or update or delete or truncate on pat.denied_tokens
    for each statement execute function pat.denied_tokens_changed();

-- Also where session_replication_role is replica.
alter table pat.denied_tokens enable always trigger tell_every_backend;

-- What a subscription applies fires no triggers but those for each row.
create trigger tell_every_backend_of_a_row
    after insert or update or delete on pat.denied_tokens
    for each row execute function pat.denied_tokens_changed();

alter table pat.denied_tokens enable replica trigger tell_every_backend_of_a_row;

create policy trusted_roles_see_the_denied_tokens on pat.denied_tokens for select using (pat.is_trusted());
create policy trusted_roles_accept_tokens_again on pat.denied_tokens for delete using (pat.is_trusted());

-- A key that is deleted leaves its last event behind.
create function pat.key_deleted() returns trigger
    language c
    as 'MODULE_PATHNAME', 'key_deleted_wrapper';

create trigger record_the_deletion
    after delete on pat.api_keys
    for each row execute function pat.key_deleted();

-- It may refuse, so it is a function without pgrx's wrapper, which knows only Postgres's own SQLSTATEs.
create function pat.gate() returns void
    language c volatile
    as 'MODULE_PATHNAME', 'supabase_pat_gate';
