set local search_path = pg_catalog, pg_temp;

-- Users without a login, whose tokens machines use. src/users/accounts.rs counts on the columns. Nobody but the owner
-- writes here: what makes a user a service account is a row of this table, and nothing that others can write.
create table pat.service_accounts (
    user_id uuid primary key,
    name text not null,
    description text,
    -- Null for a trusted role that stands for no user. It may name a user who is gone.
    created_by uuid,
    created_at timestamptz not null default now()
);
comment on table pat.service_accounts is
    'Which users are service accounts. Change it with create_service_account() and delete_service_account().';
comment on column pat.service_accounts.created_by is 'The user who created it; null for a trusted role.';

create index service_accounts_created_by_idx on pat.service_accounts (created_by) where created_by is not null;

alter table pat.service_accounts enable row level security;

select pg_extension_config_dump('pat.service_accounts', '');

-- The operator's function is asked last.
create policy managers_see_their_accounts on pat.service_accounts for select
    using (pat.is_trusted() or public.has_scope('service_accounts:read') and public.is_active_session()
        and pat.manages_service_account(user_id));

create view public.service_accounts with (security_invoker, security_barrier) as
select
    user_id as id,
    name,
    description,
    created_by,
    created_at
from pat.service_accounts;
comment on view public.service_accounts is
    'The service accounts that the caller manages, as the function in supabase_pat.service_account_manager decides.';
comment on column public.service_accounts.id is 'The user id of the account, as in auth.users.';

comment on function public.create_service_account(text, text) is
    'Creates a user for a machine, who has tokens and no login, and returns the id. Trusted roles may call it; for '
    'other callers the function in supabase_pat.service_account_manager decides, which is asked with null. name: up '
    'to 100 characters. description: for people. Whoever manages the account passes the id as user_id to mint_pat and '
    'similar functions. A request made with a token needs the scope service_accounts:write.';
comment on function public.delete_service_account(uuid) is
    'Deletes a service account that the caller manages: revokes its tokens, and deletes its user from auth.users, '
    'with what refers to that user there. False if there is no such account, or the caller does not manage it. A '
    'request made with a token needs the scope service_accounts:delete.';
comment on function public.service_account_tokens(uuid) is
    'The tokens of a service account that the caller manages, as api_keys shows one''s own. A request made with a token '
    'needs the scope service_accounts:read.';
comment on function public.is_service_account() is
    'For policies: whether the user of the request is a service account. It does not say whether the token is valid.';
comment on function pat.manages_service_account(uuid) is
    'For policies: whether the caller manages that service account, as the function in '
    'supabase_pat.service_account_manager decides; for a trusted role, whether it is a service account.';
comment on function pat.created_service_account(uuid) is
    'For supabase_pat.service_account_manager: whether the caller has created that service account; for null, whether '
    'the request has a user. With it, each user manages the accounts that they have created.';
comment on function pat.service_account_problem() is
    'What is wrong with service accounts, or null. For pat.status(); for trusted roles.';

set local search_path = pat, pg_temp;
