-- In the same session, whose plans and caches know the old tables.
call tests.log_in('alice');
select token as token, id as id from mint_pat(name => 'x') \gset
call tests.use_token(:'token');
select is_valid_api_token();
reset role;
drop extension supabase_pat cascade;
select to_regclass('public.api_keys'), to_regclass('pat.api_keys'), to_regtype('public.minted_pat'), to_regproc('pat.uid');
create extension supabase_pat;
call tests.use_token(:'token');
select is_valid_api_token();
reset role;
call tests.log_in('alice');
select name from mint_pat(name => 'y');
select id as z, name from mint_pat(name => 'z') \gset
select revoke_pat(:'z');
select revoke_all_pats();
select name, is_active from api_keys order by created_at;

-- The users stay: they are not the extension's.
reset role;
select email from auth.users order by email;
select pat.install_auth_schema();
