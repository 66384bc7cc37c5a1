select current_api_key_id();
call tests.log_in('alice');
select current_api_key_id();
select id as id, token as token from mint_pat(name => 'x') \gset
call tests.use_token(:'token');
select current_api_key_id() = :'id' as it;

-- As the default of a column, it says in each row which token has written it.
reset role;
alter table todos add column written_with uuid default current_api_key_id();
call tests.use_token(:'token');
insert into todos (title) values ('by token') returning title, written_with = :'id' as it;
reset role;
call tests.log_in('alice');
insert into todos (title) values ('by hand') returning title, written_with;
