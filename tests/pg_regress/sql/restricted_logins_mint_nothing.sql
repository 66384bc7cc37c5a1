-- What a policy forbids to a login must be forbidden to the token that it mints, which lives longer. So a restricted
-- login mints none, unless a superuser allows it, and then its token carries the same restriction.
\set alice 11111111-1111-1111-1111-111111111111
create table posts (title text);
alter table posts enable row level security;
grant select on posts to authenticated;
insert into posts values ('for people');
create policy own_users on posts using (true);
create policy no_applications on posts as restrictive using (auth.jwt() ->> 'client_id' is null);
create policy no_deputies on posts as restrictive using (auth.jwt() -> 'act' is null);
create policy no_anonymous_users on posts as restrictive using ((auth.jwt() ->> 'is_anonymous')::boolean is not true);

create procedure pg_temp.log_in(claims jsonb) language sql as $$
    call tests.request('authenticated', jsonb_build_object('role', 'authenticated',
        'sub', '11111111-1111-1111-1111-111111111111', 'aal', 'aal1') || claims)
$$;
select id as key from mint_pat(:'alice', 'of the user') \gset
create function pg_temp.try(claims jsonb) returns table (login jsonb, code text, error text) language plpgsql as $$
begin
    login := claims;
    call pg_temp.log_in(claims);
    select e.code, e.error into code, error from tests.error($s$ select mint_pat(name => 'x') $s$) e;
    if code <> 'none' then
        return next;
        -- Rotating would be a way around it.
        login := null;
        select e.code, e.error into code, error from tests.error(format($s$ select rotate_pat(%L) $s$, current_setting('tests.key'))) e;
    end if;
    return next;
    perform set_config('role', session_user, false);
end
$$;
select set_config('tests.key', :'key', false) = :'key' as is_set;
select * from pg_temp.try('{"client_id": "7c1a"}');
select * from pg_temp.try('{"client_id": ""}');
select * from pg_temp.try('{"act": {"sub": "support"}}');
select * from pg_temp.try('{"is_anonymous": true}');
select * from pg_temp.try('{"client_id": null, "act": null, "is_anonymous": false}');
-- Claims that can be read in two ways, or not at all.
call tests.request('authenticated', '{}');
select set_config('request.jwt.claims', '{"role": "authenticated", "sub": "11111111-1111-1111-1111-111111111111", "client_id": "x", "client_id": null}', false) is null;
select * from tests.error($$select mint_pat(name => 'x')$$);
reset role;
-- Servers that set one setting for each claim.
call pg_temp.log_in('{}');
select set_config('request.jwt.claim.client_id', '7c1a', false) is null;
select * from tests.error($$select mint_pat(name => 'x')$$);
reset role;
set request.jwt.claim.client_id = '';

-- A session that was given to an OAuth application, even if the claims do not say so.
insert into auth.sessions (id, user_id, oauth_client_id) values ('cccccccc-0000-4000-8000-000000000001', :'alice', gen_random_uuid());
select * from pg_temp.try('{"session_id": "cccccccc-0000-4000-8000-000000000001"}');

-- An anonymous user, whatever the claims say.
update auth.users set is_anonymous = true where id = :'alice';
select * from pg_temp.try('{}');
select * from pg_temp.try('{"is_anonymous": false}');
-- A trusted role may mint for all of these, and the token carries the restriction.
select tests.claims(token) -> 'is_anonymous' as is_anonymous from mint_pat(:'alice', 'for nobody');
select * from tests.error(format($$select mint_pat(%L, 'for nobody', kind => 'opaque')$$, :'alice'));
update auth.users set is_anonymous = false where id = :'alice';

-- Tokens have the role of logged-in users, so a login with another role mints none.
create role intern;
grant authenticated to intern;
call tests.request('intern', '{"role": "intern", "sub": "11111111-1111-1111-1111-111111111111"}');
select * from tests.error($$select mint_pat(name => 'x')$$);
select * from tests.error(format($$select rotate_pat(%L)$$, :'key'));
reset role;
call tests.request('authenticated', '{"role": "intern", "sub": "11111111-1111-1111-1111-111111111111"}');
select * from tests.error($$select mint_pat(name => 'x')$$);
reset role;
drop role intern;

-- A login with scopes gives a token a list of some of them only; a token without a list would have more.
select * from pg_temp.try('{"scope": "openid todos:read"}');
call pg_temp.log_in('{"scope": "openid todos:read"}');
select tests.claims(token) ->> 'scope' as scope from mint_pat(name => 'x', scopes => '{todos:read}');
select * from tests.error($$select mint_pat(name => 'x', scopes => '{todos:write}')$$);
reset role;

-- A second factor, where the operator asks for one.
set supabase_pat.mint_requires_aal = 'aal2 ';
set supabase_pat.mint_requires_aal = 'aal2';
select * from pg_temp.try('{}');
select * from pg_temp.try('{"aal": null}');
select * from pg_temp.try('{"aal": "aal2"}');
set supabase_pat.mint_requires_aal = 'aal1';
select * from pg_temp.try('{}');
reset supabase_pat.mint_requires_aal;

-- If a superuser allows it, the restriction is in the token, and in those that are minted with it.
set supabase_pat.mint_for_restricted_logins = on;
call pg_temp.log_in('{"client_id": "7c1a", "act": {"sub": "support"}}');
select token, id as of_app from mint_pat(name => 'of an application', scopes => '{tokens:write,todos:read}') \gset
select tests.claims(:'token') - '{jti,session_id,iat,exp}'::text[] as claims;
select * from tests.error($$select mint_pat(name => 'x', kind => 'opaque')$$);
reset role;
begin;
call tests.use_judged_token(:'token');
select * from tests.error('select from posts');
select token as child from mint_pat(name => 'of the token', scopes => '{todos:read}') \gset
commit;
reset role;
select tests.claims(:'child') -> 'client_id' as client, tests.claims(:'child') -> 'act' as act;
select tests.claims(token) -> 'client_id' as client from rotate_pat(:'of_app');
call pg_temp.log_in('{"is_anonymous": true}');
select tests.claims(token) -> 'is_anonymous' as is_anonymous from mint_pat(name => 'of nobody');
reset role;
-- Rotated by the user, such a token keeps its restriction; the user's token gets one if the application rotates it.
select id as of_app from pat.api_keys where name = 'of an application' and revoked_at is null \gset
call pg_temp.log_in('{}');
select tests.claims(token) -> 'client_id' as client from rotate_pat(:'of_app');
reset role;
call pg_temp.log_in('{"client_id": "other"}');
select tests.claims(token) -> 'client_id' as client from rotate_pat(:'key');
reset role;
select code, error from pg_temp.try(jsonb_build_object('act', repeat('x', 1100))) where login is not null;
select k.name, o.claims, o.made_by is not null as made_by_a_token
from pat.api_key_origins o join pat.api_keys k on k.id = o.key_id order by k.created_at;
-- A token that was minted while the setting was on mints nothing once it is off.
reset supabase_pat.mint_for_restricted_logins;
select id from pat.api_keys where name = 'of an application' and revoked_at is null \gset
begin;
call tests.request('authenticated', jsonb_build_object('role', 'authenticated', 'sub', :'alice', 'type', 'personal_access_token',
    'jti', :'id', 'scope', 'tokens:write', 'client_id', '7c1a'));
call tests.judge();
select * from tests.error($$select mint_pat(name => 'x', scopes => '{tokens:write}')$$);
commit;
