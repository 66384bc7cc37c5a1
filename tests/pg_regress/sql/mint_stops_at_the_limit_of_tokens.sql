set supabase_pat.max_keys_per_user = 2;
call tests.log_in('alice');
select id as first from mint_pat(name => 'one') \gset
select name from mint_pat(name => 'two');
select * from tests.error($$select mint_pat(name => 'three')$$);

-- Tokens of another user and dead tokens do not count.
reset role;
call tests.log_in('bob');
select name from mint_pat(name => 'one');
reset role;
call tests.log_in('alice');
select revoke_pat(:'first');
select id as three from mint_pat(name => 'three') \gset
select * from tests.error($$select mint_pat(name => 'four')$$);

-- Rotating replaces a token. With a grace both live for a while, so that one more must be allowed.
select name, id as rotated from rotate_pat(:'three') \gset
select * from tests.error(format($$select rotate_pat(%L, grace => '1 day')$$, :'rotated'));

-- No user can change the limit.
set supabase_pat.max_keys_per_user = 100;
select set_config('supabase_pat.max_keys_per_user', '100', true);
