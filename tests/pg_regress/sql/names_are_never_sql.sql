-- A text that a caller has stored is never run as SQL, in any function that reads it again.
select $$x'"; drop table todos; --\' %s %I $1 {} /*$$ as evil, $$x'";drop_table_todos;--\'%s%I$1{}/*@example.com$$ as address \gset
set supabase_pat.enable_sign_in = on;
set supabase_pat.enable_sign_up = on;
set supabase_pat.trusted_proxies = 1;
select set_config('request.headers', json_build_object('user-agent', :'evil', 'x-forwarded-for', :'evil')::text, false) is not null as sent;
call tests.log_in('alice');
select id as id, name = :'evil' as same from mint_pat(name => :'evil') \gset minted_
select :'minted_same' as same;
select id as id, name = :'evil' as same from rotate_pat(:'minted_id', '1 hour') \gset rotated_
select :'rotated_same' as same, revoke_pat(:'rotated_id');
select count(*) filter (where name = :'evil') as names, count(*) from api_keys;
select * from tests.error(format('select has_scope(%L)', :'evil'));
select * from tests.error(format('select mint_pat(name => %L, scopes => array[%L])', 'x', :'evil'));
select * from tests.error(format('select mint_pat(name => %L, kind => %L)', 'x', :'evil'));
select request_password_reset(:'address') is not null as requested;
select * from tests.error(format('select sign_up(%L, %L)', :'address', :'evil'));
select (sign_up($${}'--$1/*%s@example.com$$, :'evil', json_build_object(:'evil', :'evil')::jsonb)).confirmation_token is not null as signed_up;
select (sign_in(:'address', :'evil')) is null as refused;
reset role;
-- A user who has got such an address by other means.
insert into auth.users (id, email) values (gen_random_uuid(), lower(:'address'));
call tests.request('service_role', '{}');
select request_password_reset(:'address') is not null as requested;
select email = lower(:'address') as same, case when email <> lower(:'address') then email end as other, length(code) from pat.claim_messages() order by email;
select * from tests.error(format('select pat.add_signing_key(kid => %L)', :'evil'));
select pat.add_signing_key(kid => $$x';drop_table_todos;--\'$1%I$$) as kid \gset
select pat.rotate_signing_key(:'kid');
select (pat.decode_jwt(pat.sign_jwt('{}'))).header ->> 'kid' = :'kid' as same;
select pat.define_setting(:'evil', to_jsonb(:'evil'::text));
select get_settings() = jsonb_build_object(:'evil', :'evil') as same;
select pat.drop_setting(:'evil');
select pat.deny_token(pat.sign_jwt(jsonb_build_object('role', :'evil', 'sub', :'evil', 'x', :'evil')), :'evil');
select role = :'evil' and reason = :'evil' as same from pat.denied_tokens;
select pat.message_failed(gen_random_uuid(), :'evil');
select count(*) from pat.inspect_api_key(:'evil');
select * from tests.error(format('select pat.mint_api_key(%L)', :'evil'));
select * from tests.error(format('select pat.mint_api_key(%L, %L)', 'anon', :'evil'));
reset role;
-- Names of roles and functions, which become part of statements or are looked up.
create role "x'"";drop" nologin;
set supabase_pat.authenticated_role = $$x'";drop$$;
select * from pat.grant_api_roles();
select has_function_privilege($$x'";drop$$, 'public.mint_pat(uuid,text,interval,text[],text,cidr[],integer,interval,jsonb,text,integer,interval)', 'execute');
set supabase_pat.next_pre_request = $$public."x'"";drop"$$;
select code, error from tests.error('select pat.gate()');
reset supabase_pat.authenticated_role;
drop owned by "x'"";drop";
drop role "x'"";drop";
select count(*) from todos;
