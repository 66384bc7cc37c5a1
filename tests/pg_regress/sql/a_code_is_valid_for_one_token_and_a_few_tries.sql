update auth.users set email = 'alice@example.com', encrypted_password = '$2a$10$x' where id = '11111111-1111-1111-1111-111111111111';
create function pg_temp.wrong(code text) returns text language sql as $$ select translate(left(code, 1), '0123456789', '1234567890') || substr(code, 2) $$;
select token, code from pat.issue_reset_code('alice@example.com') \gset
select token as other_token, code as other_code from pat.issue_reset_code('alice@example.com') \gset
call tests.request('anon', '{}');

-- Nothing is written as long as no code is wrong.
select verify_reset_code(:'token', :'code') as right;
reset role;
select count(*) from pat.code_attempts;
call tests.request('anon', '{}');
select verify_reset_code(:'token', null) as no_code, verify_reset_code(null, :'code') as no_token, verify_reset_code(:'token', '') as empty,
    verify_reset_code(:'token', 'abcdef') as letters, verify_reset_code('', :'code') as empty_token, verify_reset_code('a.b.c', :'code') as no_jwt,
    verify_reset_code(left(:'token', -2), :'code') as cut, verify_reset_code(:'token' || :'token', :'code') as doubled;
reset role;
select count(*) from pat.code_attempts;

-- After five wrong codes not even the right one is accepted.
call tests.request('anon', '{}');
select verify_reset_code(:'token', pg_temp.wrong(:'code')) from generate_series(1, 4);
select verify_reset_code(:'token', :'code') as still_good;
select reset_password(:'token', pg_temp.wrong(:'code'), 'a new password') as fifth;
select verify_reset_code(:'token', :'code') as dead;
select verify_reset_code(:'token', :'code') as dead;
-- Another token has five tries of its own.
select verify_reset_code(:'other_token', :'other_code') as other, verify_reset_code(:'other_token', :'code') = (:'code' = :'other_code') as not_that_one;
reset role;
select attempts from pat.code_attempts order by attempts;
select event, detail, count(*) from pat.events group by event, detail order by count(*) desc, detail;

-- Tokens of other kinds, and of other keys.
select name, verify_reset_code(token, :'other_code') from (values
    ('personal access token', (select token from mint_pat('11111111-1111-1111-1111-111111111111', 'x'))),
    ('the same claims, signed', pat.sign_jwt((pat.decode_jwt(:'other_token')).payload)),
    ('api key', pat.mint_api_key('anon'))) t (name, token);
select pat.jwt_status(:'other_token') as as_a_login;

-- A code expires to the second.
set supabase_pat.reset_lifetime = '1s';
select token as brief, code as brief_code, expires_at from pat.issue_reset_code('alice@example.com') \gset
reset supabase_pat.reset_lifetime;
select pg_sleep(1.1);
select verify_reset_code(:'brief', :'brief_code') as expired;

-- A code is refused if the user has changed since it was sent.
update auth.users set encrypted_password = '$2a$10$y' where email = 'alice@example.com';
select verify_reset_code(:'other_token', :'other_code') as after_a_new_password;
update auth.users set encrypted_password = '$2a$10$x' where email = 'alice@example.com';
select verify_reset_code(:'other_token', :'other_code') as as_before;
update auth.users set email = 'alicia@example.com' where email = 'alice@example.com';
select verify_reset_code(:'other_token', :'other_code') as after_a_new_address;
update auth.users set email = 'alice@example.com', banned_until = 'infinity' where email = 'alicia@example.com';
select verify_reset_code(:'other_token', :'other_code') as banned;
update auth.users set banned_until = null, deleted_at = now() where email = 'alice@example.com';
select verify_reset_code(:'other_token', :'other_code') as deleted;
update auth.users set deleted_at = null where email = 'alice@example.com';
delete from pat.code_attempts;
select verify_reset_code(:'other_token', :'other_code') as as_before;

-- A rotation of the signing key changes nothing; a revocation of the key ends the code.
delete from pat.outbox;
select pat.add_signing_key('ES256', kid => 'a'), pat.add_signing_key('EdDSA', kid => 'b');
select pat.rotate_signing_key('a');
select verify_reset_code(:'other_token', :'other_code') as by_the_configured_secret;
select token, code from pat.issue_reset_code('alice@example.com') \gset
select (pat.decode_jwt(:'token')).header;
select verify_reset_code(:'token', :'code') as by_a;
select request_password_reset('alice@example.com') is not null as requested;
select pat.rotate_signing_key('b');
select verify_reset_code(:'token', :'code') as by_a_after_the_rotation;
select email, code is not null as opened from pat.claim_messages();
update pat.outbox set claimed_until = null;
select pat.revoke_signing_key('a');
select verify_reset_code(:'token', :'code') as by_a_after_it_was_revoked;
select count(*) as messages from pat.claim_messages();
select sealed is null as forgotten, last_error from pat.outbox where attempts > 0;

-- Where nothing can be written, each of these calls is an error, and tells nothing about the code.
begin read only;
select * from tests.error(format('select verify_reset_code(%L, %L)', :'token', :'code'));
select * from tests.error(format('select reset_password(%L, %L, %L)', :'token', :'code', 'a new password'));
select * from tests.error($$select request_password_reset('alice@example.com')$$);
select * from tests.error($$select pat.issue_reset_code('alice@example.com')$$);
select * from tests.error($$select pat.claim_messages()$$);
rollback;

-- Without preloading a wrong code is forgotten with a rollback, so that all codes are long, and tokens say so.
set supabase_pat.reset_code_length = 10;
select length(code) as digits, (pat.decode_jwt(token)).payload ->> 'digits' as as_the_token_says, pat.reset_code_digits()
from pat.issue_reset_code('alice@example.com');
-- Only superusers set the code for development. Once it is reset, it does not open a token that was made with it.
set supabase_pat.debug_reset_code = '000000';
select token, code from pat.issue_reset_code('alice@example.com') \gset debug_
select :'debug_code' as code, pat.reset_code_digits(), verify_reset_code(:'debug_token', '000000') as right;
reset supabase_pat.debug_reset_code;
select verify_reset_code(:'debug_token', '000000') as right;
call tests.request('authenticated', '{}');
select * from tests.error($$set supabase_pat.debug_reset_code = '1'$$);
select code from tests.error($$show supabase_pat.debug_reset_code$$);
