-- The keys of RFC 7515 appendix A.3 and RFC 8037 appendix A.
select pat.import_signing_key('{"kty": "EC", "crv": "P-256", "kid": "ec", "use": "sig", "key_ops": ["sign", "verify"], "ext": true, "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0", "d": "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"}');
select pat.import_signing_key('{"kty": "OKP", "crv": "Ed25519", "kid": "ed", "d": "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}');
select pat.import_signing_key('{"kty": "oct", "k": "YS1zZWNyZXQtb2YtbXktb3duLXRoYXQtaXMtbG9uZy1lbm91Z2g"}') ~ '^[0-9a-f-]{36}$' as has_a_uuid;
select jsonb_pretty(pat.jwks());
select algorithm, status from pat.signing_keys order by algorithm;

-- The example of RFC 8037 is its own signature.
select pat.rotate_signing_key('ed');
select pat.jwt_status('eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg') as no_json;

-- These keys are refused, and nothing of them is stored.
select * from tests.error($$select pat.import_signing_key(null)$$);
select * from tests.error($$select pat.import_signing_key('[]')$$);
select * from tests.error($$select pat.import_signing_key('{"keys": []}')$$);
select * from tests.error($$select pat.import_signing_key('{"kty": "EC", "crv": "P-256", "kid": "ec", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0", "d": "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"}')$$);
select * from tests.error($$select pat.import_signing_key('{"kty": "EC", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}')$$);
select * from tests.error($$select pat.import_signing_key('{"kty": "EC", "crv": "P-384", "x": "AA", "y": "AA", "d": "AA"}')$$);
select * from tests.error($$select pat.import_signing_key('{"kty": "OKP", "crv": "Ed25519", "d": "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHUR0"}')$$);
select * from tests.error($$select pat.import_signing_key('{"kty": "oct", "k": "dG9vIHNob3J0"}')$$);
select * from tests.error($$select pat.import_signing_key('{"kty": "oct", "k": "not base64url!"}')$$);
select * from tests.error($$select pat.import_signing_key('{"kty": "oct", "use": "enc", "k": "YS1zZWNyZXQtb2YtbXktb3duLXRoYXQtaXMtbG9uZy1lbm91Z2g"}')$$);
select * from tests.error($$select pat.import_signing_key('{"kty": "RSA", "n": "AQAB", "e": "AQAB", "d": "AQAB"}')$$);
select count(*) from pat.signing_keys;
