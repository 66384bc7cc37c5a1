-- A request with a token gets a JWT for a while, for servers that take nothing but JWTs. It has the same id.
\set alice 11111111-1111-1111-1111-111111111111
create procedure pg_temp.pass_with(opaque text) language plpgsql as $$
begin
    perform set_config('request.jwt.claims', '{"role": "anon"}', true), set_config('role', 'anon', true), set_config('request.method', 'POST', true),
        set_config('request.path', '/rpc/exchange_token', true), set_config('request.headers', jsonb_build_object('x-api-key', opaque)::text, true);
    perform pat.gate();
end
$$;
select token as opaque, id as id from mint_pat(:'alice', 'short', kind => 'opaque') \gset
select token as scoped, id as scoped_id from mint_pat(:'alice', 'scoped', kind => 'opaque', scopes => '{todos:*,notes:read,tokens:write,tokens:delete,tokens:read}') \gset
select token as reader, id as reader_id from mint_pat(:'alice', 'reader', kind => 'opaque', scopes => '{todos:read}') \gset
begin;
call pg_temp.pass_with(:'opaque');
select current_user, current_api_key_id() = :'id' as with_the_token;
select access_token as jwt, token_type, expires_in, scope from exchange_token() \gset
select :'token_type' as token_type, :expires_in as expires_in, :{?scope} as has_scope;
rollback;
select key, case when key in ('iat', 'exp') then 'a time' when value = :'id' then 'the id' else value end as value from jsonb_each_text(tests.claims(:'jwt')) order by key;
select (c -> 'exp')::int - (c -> 'iat')::int as lifetime, pat.jwt_status(:'jwt') as status from tests.claims(:'jwt') c;
-- It is a token as any other: policies, the gate, and other services take it.
call tests.use_token(:'jwt');
select pat.uid(), is_valid_api_token(), current_api_key_id() = :'id' as by_key, has_scope('todos:write'), (select count(*) from todos);
select code, role, key_id = :'id' as by_key from tests.pass();
reset role;
select introspect_token(:'jwt') ->> 'kind' as kind, introspect_token(:'jwt') ->> 'name' as name;

-- Its scopes are those of the token, or fewer. Those over tokens are not exchanged: what lives for minutes makes nothing that lives for months.
begin;
call pg_temp.pass_with(:'scoped');
select scope from exchange_token();
select scope from exchange_token(scopes => '{todos:read}');
select access_token as narrow from exchange_token('1 hour', '{todos:read,tokens:read}') \gset
select * from tests.error($$select exchange_token(scopes => '{todos:read,other:read}')$$);
select * from tests.error($$select exchange_token(scopes => '{*}')$$);
select * from tests.error($$select exchange_token(scopes => '{tokens:write}')$$);
select * from tests.error($$select exchange_token(scopes => '{}')$$);
select * from tests.error($$select exchange_token(scopes => '{todos:read,null}')$$);
select * from tests.error($$select exchange_token(scopes => '{no scope}')$$);
rollback;
begin;
call pg_temp.pass_with(:'opaque');
select scope from exchange_token(scopes => '{*}');
select access_token as lesser from exchange_token(scopes => '{todos:read}') \gset
select * from tests.error($$select exchange_token(scopes => '{tokens:delete}')$$);
rollback;
select token as minter from mint_pat(:'alice', 'minter', kind => 'opaque', scopes => '{tokens:write}') \gset
begin;
call pg_temp.pass_with(:'minter');
select * from tests.error($$select exchange_token()$$);
rollback;
-- A token that only reads may, and needs no scope for it. Its transaction only reads.
begin;
call pg_temp.pass_with(:'reader');
show transaction_read_only;
select scope, expires_in from exchange_token('1 minute');
rollback;

-- Nobody takes the lesser one for more than it is. Its row has no list of scopes, and yet it counts only behind the gate, which knows its scopes.
call tests.use_token(:'lesser');
select is_valid_api_token() as without_the_gate, has_scope('todos:read') as scope, (select count(*) from todos) as todos;
select code from tests.error($$select mint_pat(name => 'x')$$);
select code, error from tests.pass('POST', '/todos');
begin;
select code from tests.pass('GET', '/todos');
select is_valid_api_token(), has_scope('todos:read') as read, has_scope('todos:write') as write, (select count(*) from todos) as todos;
select current_api_key() -> 'scopes' as scopes, (current_api_key() ->> 'expires_at')::timestamptz < now() + '10 minutes' as ends_soon;
rollback;
reset role;
select introspect_token(:'lesser', 'todos:read') -> 'active' as read, introspect_token(:'lesser', 'todos:write') -> 'active' as write;
-- Where its token has lost all that it was made with, nothing is left of it.
begin;
select edit_pat(:'id', scopes => '{todos:write}');
select introspect_token(:'lesser');
rollback;
-- It does not mint, rotate, or end others, though its token may. To end itself ends the token: whoever has found it may stop it.
create procedure pg_temp.judged(token text) language plpgsql as $$
begin
    call tests.use_judged_token(token);
end
$$;
begin;
call pg_temp.judged(:'narrow');
select set_config('tests.id', :'scoped_id', true) = :'scoped_id' as is_set;
select * from tests.error($$select mint_pat(name => 'x', scopes => '{todos:read}')$$);
select * from tests.error(format($$select rotate_pat(%L)$$, current_setting('tests.id')));
select * from tests.error($$select revoke_all_pats()$$);
select revoke_pat(:'scoped_id');
rollback;
begin;
call tests.use_token(:'jwt');
select * from tests.error(format($$select rotate_pat(%L)$$, current_api_key_id()));
select code from tests.error($$select mint_pat(name => 'x')$$);
rollback;

-- Exchanged again it becomes neither longer nor wider.
begin;
call pg_temp.judged(:'narrow');
select scope, expires_in <= 3600 as within from exchange_token('1 hour');
select code, error from tests.error($$select exchange_token(scopes => '{todos:write}')$$);
rollback;
call tests.use_token(:'jwt');
select expires_in between 200 and 300 as not_longer, tests.claims(access_token) -> 'exp' = tests.claims(:'jwt') -> 'exp' as same_end from exchange_token('1 hour');
reset role;

-- It ends when its claims say so, though a server gives it half a minute more and its row lives on.
select set_config('request.jwt.claims', (tests.claims(:'jwt') || jsonb_build_object('exp', extract(epoch from clock_timestamp())::int - 5))::text, false) is null;
set role authenticated;
select is_valid_api_token(), is_active_session(), has_scope('todos:read'), (select count(*) from todos);
select code, error from tests.pass();
select code, error from tests.error($$select exchange_token()$$);
reset role;
-- What is not said to end is not exchanged.
call tests.request('authenticated', tests.claims(:'jwt') - 'exp');
select is_valid_api_token();
select code, error from tests.error($$select exchange_token()$$);
-- Servers that set one setting for each claim say it there.
select set_config('request.jwt.claim.exp', (floor(extract(epoch from clock_timestamp()))::int + 60)::text, false) is null;
select expires_in <= 60 as within from exchange_token('1 hour');
select set_config('request.jwt.claim.exp', '', false);
reset role;

-- It lives no longer than its token, nor than an hour.
begin;
call pg_temp.pass_with(:'opaque');
select lifetime, code, error from unnest('{0,"-1 minute",0.9 s,1 hour 1 s,1 month,null}'::interval[]) lifetime,
    lateral tests.error(format('select exchange_token(%L)', lifetime));
select expires_in from exchange_token('1 hour');
select expires_in from exchange_token('1.9 s');
rollback;
update pat.api_keys set expires_at = date_trunc('second', clock_timestamp()) + interval '30 s' where id = :'id';
begin;
call pg_temp.pass_with(:'opaque');
select expires_in between 25 and 30 as no_longer_than_the_token from exchange_token();
rollback;

-- Whatever ends the token ends what was made of it: revoking, rotating, banning, denying either of them, and deleting the row.
create function pg_temp.is_live(token text) returns boolean language sql as $$
    select (introspect_token(token) -> 'active')::boolean
$$;
create function pg_temp.exchanged(kind text, out token text, out id uuid, out jwt text) language plpgsql as $$
begin
    update auth.users set banned_until = null;
    select m.token, m.id into token, id from mint_pat('11111111-1111-1111-1111-111111111111', 'x', kind => kind) m;
    if kind = 'opaque' then
        call pg_temp.pass_with(token);
    else
        call tests.use_token(token);
    end if;
    jwt := (exchange_token()).access_token;
    perform set_config('role', session_user, false);
end
$$;
create function pg_temp.after(way text) returns table (kind text, before boolean, after boolean) language plpgsql as $$
declare
    made record;
    done text;
begin
    foreach kind in array '{jwt,opaque}'::text[] loop
        made := pg_temp.exchanged(kind);
        before := pg_temp.is_live(made.jwt);
        case way
            when 'revoked' then done := revoke_pat(made.id);
            when 'rotated' then done := (rotate_pat(made.id)).name;
            when 'denied' then done := pat.deny_token(made.token);
            when 'the other denied' then done := pat.deny_token(made.jwt);
            when 'deleted' then delete from pat.api_keys k where k.id = made.id;
            when 'banned' then update auth.users set banned_until = 'infinity';
        end case;
        after := pg_temp.is_live(made.jwt) or pg_temp.is_live(made.token);
        return next;
    end loop;
end
$$;
select way, ended.* from unnest('{revoked,rotated,denied,the other denied,deleted,banned}'::text[]) way, lateral pg_temp.after(way) ended;
update auth.users set banned_until = null;

-- Tokens for certain addresses or with a limit are not exchanged, since what they are held to would be lost.
select token as office from mint_pat(:'alice', 'office', kind => 'opaque', allowed_ips => '{0.0.0.0/0}') \gset
select token as limited, id as limited_id from mint_pat(:'alice', 'limited', rate_limit => 1000) \gset
set supabase_pat.trusted_proxies = 1;
begin;
call tests.use_token(:'limited');
call tests.judge();
select * from tests.error($$select exchange_token()$$);
rollback;
begin;
select set_config('request.headers', jsonb_build_object('x-api-key', :'office', 'x-forwarded-for', '192.0.2.1')::text, true),
    set_config('request.method', 'POST', true), set_config('request.path', '/rpc/exchange_token', true) \gset ignored_
select pat.gate();
select * from tests.error($$select exchange_token()$$);
rollback;
-- Nor what is no token, or a dead one; a trusted role has none.
call tests.log_in('alice');
select * from tests.error($$select exchange_token()$$);
reset role;
call tests.request('anon', '{"role": "anon"}');
select * from tests.error($$select exchange_token()$$);
reset role;
select * from tests.as_each_role('select exchange_token()', '{service_role,nobody}');
call tests.request('authenticated', tests.claims(:'jwt') || '{"jti": "x"}');
select code, error from tests.error($$select exchange_token()$$);
reset role;
-- The claims of another user's token, or of another role.
call tests.request('authenticated', tests.claims(:'jwt') || '{"sub": "22222222-2222-2222-2222-222222222222"}');
select code, error from tests.error($$select exchange_token()$$);
reset role;
call tests.request('authenticated', tests.claims(:'jwt') || '{"role": "service_role"}');
select code, error from tests.error($$select exchange_token()$$);
reset role;
-- A token of a restricted login says so in exchange too, and is not exchanged where those are no longer allowed.
set supabase_pat.mint_for_restricted_logins = on;
call tests.request('authenticated', jsonb_build_object('role', 'authenticated', 'sub', :'alice', 'client_id', 'an-app', 'act', jsonb_build_object('sub', 'support')));
select token as of_an_app from mint_pat(name => 'of an application') \gset
reset role;
call tests.use_token(:'of_an_app');
select tests.claims(access_token) - '{iat,exp,jti,session_id,sub,type,aud,iss}'::text[] as says from exchange_token();
reset role;
set supabase_pat.mint_for_restricted_logins = off;
call tests.use_token(:'of_an_app');
select code, error from tests.error($$select exchange_token()$$);
reset role;
-- Nothing is written down.
select count(*) from pat.events where event !~ 'minted|rotated|revoked|denied|deleted';
