-- Where the row of a token was found is kept in the session, so that the next look-up takes no index. What is read is
-- what stands there now: a row may move, go, come back, or leave its place to that of another token.
call tests.log_in('alice');
select token as one, id as one_id from mint_pat(name => 'one') \gset
select token as two, id as two_id from mint_pat(name => 'two') \gset
reset role;

create procedure tests.show(what text, one text, two text) language plpgsql as $$
declare
    answers boolean[];
begin
    call tests.use_token(one);
    answers := array[is_valid_api_token()];
    call tests.use_token(two);
    answers := answers || is_valid_api_token();
    raise info '%: %', rpad(what, 32), answers;
    perform set_config('role', 'none', false);
end
$$;
create function tests.index_scans() returns bigint[] language sql as $$
    select array[pg_stat_get_xact_numscans('pat.api_keys_pkey'::regclass), pg_stat_get_xact_numscans('auth.users_pkey'::regclass)]
$$;

call tests.show('as they are', :'one', :'two');

-- The rows are found without their indexes from the second time on.
begin;
select tests.index_scans() as before \gset
call tests.show('again', :'one', :'two');
select tests.index_scans() = :'before' as no_index_was_used;
rollback;

-- Updates that leave a row on its page, and what is left of them.
update auth.users set banned_until = now() - interval '1 day';
update auth.users set banned_until = now() - interval '2 days';
call tests.show('user updated', :'one', :'two');
vacuum auth.users;
call tests.show('user vacuumed', :'one', :'two');
update auth.users set banned_until = 'infinity' where email like 'alice%';
call tests.show('user banned', :'one', :'two');
update auth.users set banned_until = null;
call tests.show('ban over', :'one', :'two');

-- In a transaction of one's own, and after a savepoint.
begin;
savepoint before;
update pat.api_keys set revoked_at = now() where id = :'one_id';
call tests.show('the first one revoked', :'one', :'two');
rollback to before;
call tests.show('rolled back', :'one', :'two');
commit;

-- The place of a row that is gone is given to another one.
select ctid as place from pat.api_keys where id = :'two_id' \gset
create table tests.kept as select * from pat.api_keys where id = :'two_id';
delete from pat.api_keys where id = :'two_id';
call tests.show('the second one deleted', :'one', :'two');
vacuum (truncate off) pat.api_keys;
call tests.show('vacuumed', :'one', :'two');
call tests.log_in('alice');
select token as three, id as three_id from mint_pat(name => 'three') \gset
reset role;
select ctid = :'place' as has_the_place_of_the_second from pat.api_keys where id = :'three_id';
call tests.show('the first and the second', :'one', :'two');
call tests.show('the first and the third', :'one', :'three');
insert into pat.api_keys select * from tests.kept;
call tests.show('the second one is back', :'one', :'two');

-- Tables that are written anew, and pages that are cut off.
vacuum full pat.api_keys;
vacuum full auth.users;
call tests.show('written anew', :'one', :'two');
delete from pat.api_keys where id = :'two_id';
vacuum pat.api_keys;
truncate tests.kept;
insert into tests.kept select * from pat.api_keys;
delete from pat.api_keys;
vacuum pat.api_keys;
select pg_relation_size('pat.api_keys') as bytes;
call tests.show('cut off', :'one', :'two');
insert into pat.api_keys select * from tests.kept;
call tests.show('the first one is back', :'one', :'two');
