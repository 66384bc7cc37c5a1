"""A middleware for FastAPI, Starlette and any other ASGI application that takes personal access tokens and logins
alike: it asks the database what a token is worth. It needs nothing but Python.

Usage: copy this file as introspection.py, set REST_URL (https://example.supabase.co/rest/v1, say) and SERVICE_KEY, and

    from introspection import RequireToken
    app = FastAPI()
    app.add_middleware(RequireToken, scope="reports:create")

    @app.post("/reports")
    async def report(request: Request):
        return {"user": request.state.who["sub"]}
"""
import asyncio
import json
import os
import re
import sys
import urllib.request


def introspect(token, scope=None):
    """What a token is worth: see the page "What a token is worth" of supabase_pat's reference."""
    key = os.environ["SERVICE_KEY"]
    headers = {"apikey": key, "authorization": f"Bearer {key}", "content-type": "application/json"}
    question = {"token": token} if scope is None else {"token": token, "scope": scope}
    url = os.environ["REST_URL"] + "/rpc/introspect_token"
    request = urllib.request.Request(url, json.dumps(question).encode(), headers)
    with urllib.request.urlopen(request, timeout=5) as answer:
        return json.load(answer)


class RequireToken:
    """Goes on, with request.state.who, if somebody's token comes with the request that has the scope."""

    def __init__(self, app, scope=None):
        self.app, self.scope = app, scope

    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        bearer = re.fullmatch(r"(?i:Bearer) +(\S+)", headers.get("authorization", ""))
        token = headers.get("x-api-key") or (bearer and bearer[1])
        status, error, who = 401, "missing_token", {}
        if token:
            try:
                who = await asyncio.to_thread(introspect, token, self.scope)
                # An API key is nobody's. Everybody has the one of the anonymous role.
                if "sub" not in who:
                    lacks_scope = "sub" in await asyncio.to_thread(introspect, token)
                    status, error = (403, "insufficient_scope") if lacks_scope else (401, "invalid_token")
            except (OSError, ValueError) as problem:
                print(f"introspection: {problem}", file=sys.stderr)
                status, error, who = 503, "temporarily_unavailable", {}
        if "sub" in who:
            scope.setdefault("state", {})["who"] = who
            return await self.app(scope, receive, send)
        if scope["type"] == "websocket":
            return await send({"type": "websocket.close", "code": 1008, "reason": error})
        answer = [(b"content-type", b"application/json"), (b"www-authenticate", f'Bearer error="{error}"'.encode())]
        await send({"type": "http.response.start", "status": status, "headers": answer})
        await send({"type": "http.response.body", "body": json.dumps({"error": error}).encode()})
