update auth.users set email = 'known@example.com', encrypted_password = '$2a$10$x' where id = '11111111-1111-1111-1111-111111111111';
insert into auth.users (id, email, deleted_at) values (gen_random_uuid(), 'deleted@example.com', now());
insert into auth.users (id, email, banned_until) values (gen_random_uuid(), 'banned@example.com', 'infinity');
insert into auth.users (id, email, is_sso_user) values (gen_random_uuid(), 'single@example.com', true);
insert into auth.users (id, email) values (gen_random_uuid(), 'Mixed@Example.com');

-- Each request gets an answer of the same form, and leaves the same rows.
create table addresses (address text);
insert into addresses values ('known@example.com'), ('deleted@example.com'), ('banned@example.com'), ('single@example.com'),
    ('mixed@example.com'), ('nobody@example.com'), (' KNOWN@Example.com ');
grant select on addresses to anon;
call tests.request('anon', '{}');
create temp table requests as select address, request_password_reset(address) as token from addresses;
select address, length(token) = max(length(token)) over (partition by length(trim(address))) as usual_length,
    (select array_agg(name order by name) from jsonb_object_keys((pat.decode_jwt(token)).payload) name) as claims,
    (pat.decode_jwt(token)).payload ->> 'email' as email
from requests order by address;
reset role;
select count(*) as rows, count(distinct length(sealed)) filter (where not is_deliverable) as lengths, count(*) filter (where is_deliverable) as deliverable,
    count(*) filter (where sealed is null) as empty from pat.outbox;
select distinct length(address_digest) as digest, purpose, signing_key, attempts, claimed_until, last_error, sent_at from pat.outbox;
select email from pat.claim_messages() order by email;
-- No address is stored in the clear, and no code at all.
select count(*) from pat.outbox o where o::text ~* 'example|known';

-- Codes for all of them are refused in the same way.
call tests.request('anon', '{}');
select address, verify_reset_code(token, '000000') and verify_reset_code(token, '000001') as both_right from requests;
reset role;
select attempts, count(*) from pat.code_attempts group by attempts;

-- More than five requests an hour for an address get the same answer too, but no code.
call tests.request('anon', '{}');
select count(request_password_reset(address)) as tokens from addresses, generate_series(1, 6) where address in ('known@example.com', 'nobody@example.com');
reset role;
select is_deliverable, count(*) from pat.outbox where address_digest in (select address_digest from pat.outbox group by 1 having count(*) > 1) group by 1 order by 1;
-- A trusted backend has no such limit, and leaves no row.
select count(code) as of_a_backend from generate_series(1, 7), pat.issue_reset_code('known@example.com');
update pat.outbox set created_at = created_at - interval '1 hour';
select request_password_reset('known@example.com') is not null as an_hour_later;
-- Rows that are older than an hour are gone.
select count(*) from pat.outbox;

call tests.request('anon', '{}');
select * from tests.error($$select request_password_reset(null)$$);
select * from tests.error($$select request_password_reset('')$$);
select * from tests.error($$select request_password_reset('no address')$$);

-- API roles see none of it.
select * from tests.error('select * from pat.outbox');
select * from tests.error('select * from pat.code_attempts');
select * from tests.error('select * from pat.events');
select * from tests.error('select pat.claim_messages()');
select * from tests.error($$select pat.message_sent('11111111-1111-1111-1111-111111111111')$$);
select * from tests.error($$select pat.message_failed('11111111-1111-1111-1111-111111111111')$$);
select * from tests.error($$select pat.issue_reset_code('known@example.com')$$);
reset role;
grant execute on all functions in schema pat to anon;
call tests.request('anon', '{}');
select * from tests.error('select pat.claim_messages()');
select * from tests.error($$select pat.message_sent('11111111-1111-1111-1111-111111111111')$$);
select * from tests.error($$select pat.message_failed('11111111-1111-1111-1111-111111111111')$$);
select * from tests.error($$select pat.issue_reset_code('known@example.com')$$);
call tests.request('service_role', '{}');
select count(*) > 0 as events from pat.events;
select * from tests.error('select * from pat.outbox');
