-- Whatever jsonb can hold comes out of a token as it was.
select what, (pat.verify_jwt(pat.sign_jwt(claims, '1 hour')) - 'iat' - 'exp') = claims as is_the_same
from (values
    ('empty', '{}'::jsonb),
    ('empty inside', '{"a": {}, "b": [], "c": "", "": null}'),
    ('nested', '{"a": {"b": [{"c": [1, [2, {"d": false}]]}, "e", true, null]}, "f": [[], {}, [{}]]}'),
    ('numbers', '{"a": 0, "b": -1.50, "c": 1e400, "d": 1e-40, "e": 123456789012345678901234567890.125}'),
    ('escapes', '{"a\"\\\b\f\n\r\t/": "\"\\\b\f\n\r\t/\u0001\u001f\u007f"}'),
    ('other letters', '{"ä€😀": "ä€😀\u2028"}'),
    ('long', jsonb_build_object('a', repeat('x', 10000), 'b', repeat('"', 1000)))
) as given (what, claims);
-- Times are kept where they are given.
select pat.verify_jwt(pat.sign_jwt('{"iat": 1, "exp": 4102444800, "a": [1, "b"]}'));
-- What is no object is no set of claims.
\set VERBOSITY terse
select pat.sign_jwt('[1]');
select pat.sign_jwt('"a"');
select pat.sign_jwt('null');
