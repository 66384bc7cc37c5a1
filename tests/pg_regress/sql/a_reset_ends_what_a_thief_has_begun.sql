-- Whoever has had a login of hers has begun to change her address and her phone number at Supabase Auth. For each such
-- change it gives a session to whoever knows the code that was sent to the new address or number.
alter table auth.users add column email_change_token_current varchar(255) default '', add column phone_change text default '',
    add column phone_change_token varchar(255) default '', add column reauthentication_token varchar(255) default '';
create table auth.one_time_tokens (id uuid primary key default gen_random_uuid(), user_id uuid not null references auth.users on delete cascade,
    token_type text not null, token_hash text not null, relates_to text not null);
update auth.users set email = case id when '11111111-1111-1111-1111-111111111111' then 'alice@example.com' else 'bob@example.com' end, encrypted_password = 'x',
    confirmation_token = 'a', recovery_token = 'b', email_change = 'thief@example.com', email_change_token_new = 'c', email_change_token_current = 'd',
    phone_change = '15550100', phone_change_token = 'e', reauthentication_token = 'f';
insert into auth.one_time_tokens (user_id, token_type, token_hash, relates_to) select id, 'phone_change_token', 'e', '15550100' from auth.users;

select token, code from pat.issue_reset_code('alice@example.com') \gset
call tests.request('anon', '{}');
select reset_password(:'token', :'code', 'a new password');
reset role;
-- Nothing of that is left for her, and all for the other.
select email, confirmation_token, recovery_token, email_change, email_change_token_new, email_change_token_current,
    phone_change, phone_change_token, reauthentication_token,
    (select count(*) from auth.one_time_tokens t where t.user_id = u.id) as one_time_tokens
from auth.users u order by email \gx
