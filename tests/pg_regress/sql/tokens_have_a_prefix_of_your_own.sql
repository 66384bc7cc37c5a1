-- What new opaque tokens begin with is a setting. Tokens with a former prefix stay valid.
call tests.log_in('alice');
select token as old from mint_pat(name => 'old', kind => 'opaque') \gset
reset role;
set supabase_pat.token_prefix = 'acme_live_';
call tests.log_in('alice');
select token as new, id as new_id from mint_pat(name => 'new', kind => 'opaque') \gset
select :'new' ~ '^acme_live_[0-9A-Za-z]{42}$' as has_the_prefix, hint = right(:'new', 6) as hint from api_keys where id = :'new_id';
select id as rotated_id, token as rotated from rotate_pat(:'new_id', '1 hour') \gset
select left(:'rotated', 10);
call tests.request('anon', '{"role": "anon"}');
select name, code, role from (values ('old', :'old'), ('new', :'new'), ('rotated', :'rotated')) t (name, token),
    tests.pass(headers => jsonb_build_object('x-api-key', token));
-- Also when the prefix is the former one again, and when it is a third one.
reset role;
reset supabase_pat.token_prefix;
call tests.request('anon', '{"role": "anon"}');
select code from tests.pass(headers => jsonb_build_object('x-api-key', :'new'));
reset role;
set supabase_pat.token_prefix = 'third_';
call tests.request('anon', '{"role": "anon"}');
select code from tests.pass(headers => jsonb_build_object('x-api-key', :'new'));
-- A token that is cut is called that if its prefix is the present or the default one. Others may be somebody else's.
select code, error from tests.pass(headers => jsonb_build_object('x-api-key', left(:'old', -1)));
select code from tests.pass(headers => jsonb_build_object('x-api-key', left(:'new', -1)));
reset role;
set supabase_pat.token_prefix = 'acme_live_';
call tests.request('anon', '{"role": "anon"}');
select code, error from tests.pass(headers => jsonb_build_object('x-api-key', left(:'new', -1)));
-- The prefix of one token cannot be put before another: the checksum covers it.
select code from tests.pass(headers => jsonb_build_object('x-api-key', replace(:'old', 'sbpat_', 'acme_live_')));
select code, error from tests.pass(headers => jsonb_build_object('x-api-key', replace(:'new', 'acme_live_', 'sbpat_')));

-- The other functions know it too.
reset role;
reset supabase_pat.token_prefix;
select pat.jwt_status(:'new'), pat.jwt_status(left(:'new', -1)), pat.jwt_status(overlay(:'new' placing '00' from 20));
select pat.deny_token(:'new', 'leaked');
select pat.jwt_status(:'new');
call tests.request('anon', '{"role": "anon"}');
select code from tests.pass(headers => jsonb_build_object('x-api-key', :'new'));

-- A prefix cannot be what other keys begin with, nor what no scanner finds.
reset role;
set supabase_pat.token_prefix = 'sb_secret_';
set supabase_pat.token_prefix = 'sb_publishable_';
set supabase_pat.token_prefix = 'eyj_';
set supabase_pat.token_prefix = 'Acme_';
set supabase_pat.token_prefix = 'acme';
set supabase_pat.token_prefix = '';
set supabase_pat.token_prefix = 'a_';
set supabase_pat.token_prefix = 'acme; drop table todos; --_';
-- Only superusers set it.
call tests.log_in('alice');
set supabase_pat.token_prefix = 'mine_';
