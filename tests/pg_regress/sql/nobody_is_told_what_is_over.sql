-- What is over when a mail would be sent is not told, and nobody is told who cannot be.
\set alice '11111111-1111-1111-1111-111111111111'
\set bob '22222222-2222-2222-2222-222222222222'
update auth.users set email_confirmed_at = now();
set supabase_pat.notices = 'minted,expiring,revoked';
create function told() returns table (kind text, token text, others int, days_left numeric) language sql as $$
    select kind, token_name, others, round(extract(epoch from expires_at - now()) / 86400, 1) from pat.claim_notices(100) order by kind, token_name
$$;
create procedure anew() language sql as $$ delete from pat.notices; delete from pat.notice_marks; delete from pat.api_keys where id in (select id from pat.api_keys); delete from pat.notices $$;
-- A token that ends in so many days, and was made so many days before.
create function token(name text, days float, age float default 365) returns uuid language sql as $$
    insert into pat.api_keys (id, user_id, name, created_at, expires_at)
    values (gen_random_uuid(), '11111111-1111-1111-1111-111111111111', name, now() - age * interval '1 day', now() + days * interval '1 day')
    returning id
$$;
insert into pat.api_keys (id, user_id, name, expires_at) values (gen_random_uuid(), :'alice', 'without an end', 'infinity');

-- Of tokens that expire, as they are when the setting comes to be on, each is told of once, by the nearest of 30, 7 and 1 days.
select count(token(format('in %s days', days), days)) from unnest('{0.5,2,6,8,29,31,300}'::float[]) days;
select * from told();
select days, reached - now() > days * interval '1 day' - interval '1 minute' as reached from pat.notice_marks order by days;
select kind, days, name from pat.notices order by days, name;
update pat.notices set ended_at = now();
-- A minute later, or a day, nobody is told again, but whose next day it is.
update pat.notice_marks set reached = reached - interval '1 minute';
select * from told();
update pat.api_keys set expires_at = expires_at - interval '1 day', created_at = created_at - interval '1 day';
update pat.notice_marks set reached = reached - interval '1 day';
select * from told();
update pat.notices set ended_at = now();

-- Nobody is told in the first half of a token's life.
call anew();
select count(token(format('%s days', days), days, 0)) from unnest('{0.5,1,7,30}'::float[]) days;
select token('half a year', 29, 31) is not null, token('half a month', 6, 8) is not null, token('a week', 6, 1) is not null;
select * from told();

-- What was revoked, rotated, disabled, deleted or is dead when it is looked at, or when it is claimed.
call anew();
select token('revoked before', 6) as a, token('disabled before', 6) as b, token('in its grace', 6) as c \gset
update pat.api_keys set revoked_at = now() - interval '1 day' where id = :'a';
update pat.api_keys set disabled_at = now() where id = :'b';
update pat.api_keys set replaced_by = gen_random_uuid() where id = :'c';
delete from pat.notices;
select * from told();
call anew();
select token(name, 6) from unnest('{revoked,disabled,rotated,deleted,extended,expired,kept,shortened}'::text[]) name \g /dev/null
select count(*) from pat.claim_notices(0);
select count(*) as waiting from pat.notices where ended_at is null;
set supabase_pat.notices = 'expiring';
select revoke_pat(id) from pat.api_keys where name = 'revoked';
select edit_pat(id, disabled => true) from pat.api_keys where name = 'disabled';
select rotate_pat(id, '1 day') is not null as rotated from pat.api_keys where name = 'rotated' and replaced_by is null;
delete from pat.api_keys where name = 'deleted';
update pat.api_keys set expires_at = now() + interval '1 year' where name = 'extended';
update pat.api_keys set expires_at = now() where name = 'expired';
select edit_pat(id, expires_in => '2 days') from pat.api_keys where name = 'shortened';
select * from told();
select n.outcome from pat.notices n where ended_at is not null order by 1;
-- A notice that has waited until the next one tells the same.
call anew();
select token('soon', 8) is not null as made;
select count(*) from pat.claim_notices(0);
update pat.api_keys set expires_at = now() + interval '6 days';
update pat.notices set expires_at = now() + interval '6 days', claimed_until = null;
update pat.notice_marks set reached = now() + interval '5 days' where days = 7;
select * from told();
select days, outcome from pat.notices order by days desc;

-- News grow old.
call anew();
set supabase_pat.notices = 'minted,expiring,revoked';
select id as old from mint_pat(:'bob', 'minted') \gset
select revoke_pat(:'old');
update pat.notices set happened_at = happened_at - interval '25 hours', due_at = due_at - interval '25 hours';
select * from told();
update pat.notices set due_at = due_at - interval '48 hours', claimed_until = null;
select * from told();
select kind, outcome from pat.notices order by kind;
-- Much that is over hides nothing, and what is looked at on the way is left to others.
call anew();
insert into pat.notices (kind, user_id, happened_at, due_at) select 'minted', :'bob', now() - interval '5 days', now() - interval '5 days' from generate_series(1, 3000);
insert into pat.notices (kind, user_id, happened_at, due_at, key_id, name)
select 'minted', :'bob', now() - interval '1 hour', now() - interval '1 hour' + i * interval '1 second', gen_random_uuid(), 'number ' || i from generate_series(1, 5) i;
select token_name, attempt from pat.claim_notices(1);
select token_name, attempt from pat.claim_notices(2);
select token_name, attempt from pat.claim_notices();
call anew();
set supabase_pat.notices = 'minted,expiring,revoked';
select revoke_pat((mint_pat(:'bob', 'minted')).id);
-- What nobody can send any more goes.
update pat.notices set happened_at = now() - interval '10 days';
select count(*) from pat.claim_notices();
select count(*) as kept from pat.notices;

-- Users who have no address, have not shown that it is theirs, are banned, gone or anonymous.
create procedure tell(change text) language plpgsql as $$
begin
    delete from pat.api_keys;
    delete from pat.notices;
    perform mint_pat('22222222-2222-2222-2222-222222222222', 'x');
    execute 'update auth.users set ' || change || $q$ where id = '22222222-2222-2222-2222-222222222222'$q$;
end
$$;
call tell('role = role');
select * from told();
call tell('email = null');
select * from told();
call tell($$email = '', phone = '34600000000'$$);
select * from told();
call tell($$email = E'bob@example.com\nBcc: mallory@example.com'$$);
select * from told();
call tell($$email = 'bob@example.com', email_confirmed_at = null$$);
select * from told();
update auth.users set email_confirmed_at = now();
call tell($$banned_until = now() + interval '1 day'$$);
select * from told();
update auth.users set banned_until = null;
call tell('deleted_at = now()');
select * from told();
update auth.users set deleted_at = null;
call tell('is_anonymous = true');
select * from told();
update auth.users set is_anonymous = false;
-- A service account, also one with an address: what its manager does is not done with a login of its own.
insert into auth.users (id, email, email_confirmed_at) values ('33333333-3333-3333-3333-333333333333', null, null);
insert into pat.service_accounts (user_id, name) values ('33333333-3333-3333-3333-333333333333', 'ci');
delete from pat.api_keys;
delete from pat.notices;
select mint_pat('33333333-3333-3333-3333-333333333333', 'of a machine') is not null as minted;
update auth.users set email = 'ops@example.com', email_confirmed_at = now() where id = '33333333-3333-3333-3333-333333333333';
select * from told();
select outcome from pat.notices;
call tell('role = role');
delete from auth.users where id = :'bob';
select * from told();
select distinct outcome, name from pat.notices;
