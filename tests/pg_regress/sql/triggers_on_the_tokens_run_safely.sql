-- A trigger that an operator puts on the table runs with the owner's rights. So it must not find functions on the
-- caller's search path, and after an error in it the caller's rights must be in force again.
create function tests.audit() returns trigger language plpgsql as $$
begin
    raise info '% as %, path %', tg_op, current_user, current_setting('search_path');
    if new.name = 'boom' then
        raise exception 'no such name here' using errcode = 'check_violation';
    end if;
    return new;
end
$$;
create trigger audit before insert or update on pat.api_keys for each row execute function tests.audit();
call tests.log_in('alice');
set search_path = public, tests;
select id as id, name from mint_pat(name => 'x') \gset
select name from rotate_pat(:'id');
select revoke_all_pats();
select * from tests.error($$select mint_pat(name => 'boom')$$);
select current_user, current_setting('search_path');
select mint_pat(name => 'boom');
select current_user, current_setting('search_path');
do $$
begin
    perform mint_pat(name => 'boom');
exception when check_violation then
    raise info 'caught as %, path %', current_user, current_setting('search_path');
end
$$;
select count(*) from api_keys where name = 'boom';
