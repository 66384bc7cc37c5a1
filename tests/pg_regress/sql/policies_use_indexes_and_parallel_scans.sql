-- A policy written plainly, without (select …): the user is looked up in the index.
insert into todos (user_id, title) select gen_random_uuid(), 'other' from generate_series(1, 20000);
create index on todos (user_id);
vacuum analyze todos;
call tests.log_in('alice');
select token as token, id as id from mint_pat(name => 'x') \gset
call tests.use_token(:'token');
explain (costs off) select title from todos;

-- In a scan the ids are compared before the token is asked for, and workers do it as well.
set enable_indexscan = off;
set enable_bitmapscan = off;
set min_parallel_table_scan_size = 0;
set parallel_setup_cost = 0;
set parallel_tuple_cost = 0;
set parallel_leader_participation = off;
explain (costs off) select title from todos;
select title from todos order by title;
select pat.uid(), is_valid_api_token(), has_scope('todos:read'), current_api_key_id() = :'id' as it from todos limit 1;

-- The leader's own change, which has not committed, is seen by the workers.
begin;
select revoke_pat(:'id');
select title from todos order by title;
rollback;
select title from todos order by title;
select revoke_pat(:'id');
select title from todos order by title;
