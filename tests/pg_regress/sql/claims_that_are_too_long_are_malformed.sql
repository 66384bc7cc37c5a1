-- No REST server accepts so long claims, but a client with SQL can set them. They are not read, to take no time.
call tests.log_in('alice');
select id from mint_pat(name => 'x') \gset
select set_config('tests.claims', jsonb_build_object('role', 'authenticated', 'sub', pat.uid(), 'type', 'personal_access_token', 'jti', :'id')::text, false) is not null as is_set;
create function pg_temp.answers(claims text) returns table (uid uuid, is_valid boolean, may_read boolean, key uuid, is_active boolean) language plpgsql as $$
begin
    perform set_config('request.jwt.claims', claims, true);
    return query select pat.uid(), is_valid_api_token(), has_scope('a:read'), current_api_key_id(), is_active_session();
end
$$;
create function pg_temp.with_scope(scope text) returns text language sql as $$
    select rtrim(current_setting('tests.claims'), '}') || ', "scope": "' || scope || '"}'
$$;
create function pg_temp.answers_behind_the_gate(claims text) returns table (uid uuid, is_valid boolean, may_read boolean, key uuid, is_active boolean) language plpgsql as $$
begin
    perform set_config('request.jwt.claims', claims, true);
    call tests.judge();
    return query select * from pg_temp.answers(claims);
end
$$;
select uid, is_valid, may_read, key = :'id' as is_key, is_active from pg_temp.answers_behind_the_gate(pg_temp.with_scope('a:read'));
select uid, is_valid, may_read, key = :'id' as is_key, is_active from pg_temp.answers_behind_the_gate(pg_temp.with_scope('a:read' || repeat(' b:read', 140000)));
set statement_timeout = '5s';
select * from pg_temp.answers(pg_temp.with_scope('a:read' || repeat(' b:read', 150000)));
select * from pg_temp.answers(pg_temp.with_scope(repeat('b:read ', 1200000)));
-- The same is true of the legacy settings, whatever the other ones say.
begin;
select set_config('request.jwt.claim.scope', repeat('b:read ', 1200000), true) is null as is_set;
select * from pg_temp.answers(current_setting('tests.claims'));
rollback;
-- Such claims are no login either, and the gate refuses them.
select * from pg_temp.answers('{"role": "authenticated", "sub": "11111111-1111-1111-1111-111111111111", "x": "' || repeat('x', 8000000) || '"}');
begin;
select set_config('request.jwt.claims', '{"role": "anon", "x": "' || repeat('x', 8000000) || '"}', true) is null as is_set;
select * from tests.error('select pat.gate()');
rollback;
