-- A function that returns a row of a type of the extension's looks at the type first: a value that is taken for one
-- of another type is memory that is read as what it is not.
\set token 'eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.'
select * from pat.decode_jwt(:'token');

begin;
alter type pat.decoded_jwt alter attribute payload type bigint;
select * from pat.decode_jwt(:'token');
rollback;

begin;
alter type pat.decoded_jwt drop attribute payload;
select * from pat.decode_jwt(:'token');
rollback;

begin;
alter type pat.decoded_jwt add attribute signature text;
select * from pat.decode_jwt(:'token');
rollback;

-- Two of the same type that have changed places are no better.
begin;
alter type pat.decoded_jwt rename attribute header to old_header;
alter type pat.decoded_jwt rename attribute payload to header;
alter type pat.decoded_jwt rename attribute old_header to payload;
select * from pat.decode_jwt(:'token');
rollback;

select * from pat.decode_jwt(:'token');
