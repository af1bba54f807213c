"""Recorded heads of checks: Envoy 1.40, nginx 1.31, Caddy 2.6 and 2.11, HAProxy 2.6 with the project's files.

Traefik's is as its source writes it (pkg/middlewares/auth/forward.go, and net/http below that).
"""

_KEY = "Bearer xa_live_0000000000000000000000000000000000"
_TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
_BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


def _head(*lines: str) -> bytes:
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode()


PROXY_HEADS = {
    "envoy": _head(
        "GET /api/customers/7?page=2 HTTP/1.1",
        "host: api.example.com",
        "content-length: 0",
        "traceparent: " + _TRACE,
        "authorization: " + _KEY,
        "x-request-id: 766f49b0-eebf-4839-877f-5e3fc88a4f8c",
        "x-forwarded-for: 192.0.2.2",
        "x-envoy-internal: true",
        "x-envoy-expected-rq-timeout-ms: 200",
    ),
    "envoy, with the headers of a body": _head(
        "POST /content-types/7?content-length=2 HTTP/1.1",
        "host: api.example.com",
        "content-length: 0",
        "content-type: application/json",
        "user-agent: agent/1.0",
        "authorization: " + _KEY,
        "x-request-id: bc8fa27c-2b44-436f-820c-6b906db299c6",
        "x-forwarded-for: 192.0.2.1,192.0.2.2",
        "x-envoy-expected-rq-timeout-ms: 200",
    ),
    "nginx": _head(
        "GET / HTTP/1.1",
        "Authorization: " + _KEY,
        "X-Original-Method: POST",
        "X-Original-URI: /api/customers/7?page=2",
        "X-Original-Host: api.example.com",
        "X-Request-ID: ee6e9f370f1b10dff4a83e25a123b868",
        "X-Real-IP: 127.0.0.1",
        "traceparent: " + _TRACE,
        "Host: extauthz",
    ),
    "caddy 2.6": _head(
        "GET /?page=2 HTTP/1.1",
        "Host: api.example.com",
        "User-Agent: curl/8.14.1",
        "Accept: */*",
        "Authorization: " + _KEY,
        "Content-Type: application/json",
        "X-Forwarded-For: 127.0.0.1",
        "X-Forwarded-Host: api.example.com",
        "X-Forwarded-Method: POST",
        "X-Forwarded-Proto: http",
        "X-Forwarded-Uri: /api/customers/7?page=2",
        "X-Request-Id: 0c226ebd-2f3f-4bfb-a4f7-5b799eb11686",
        "Accept-Encoding: gzip",
    ),
    "caddy, of a browser": _head(
        "GET /?page=2 HTTP/1.1",
        "Host: api.example.com",
        "User-Agent: " + _BROWSER,
        "Accept: application/json",
        "Accept-Encoding: gzip, deflate",
        "Accept-Language: en-US,en;q=0.5",
        "Authorization: " + _KEY,
        "Cookie: a=b; c=d",
        "Origin: https://app.example.com",
        "Traceparent: " + _TRACE,
        "Upgrade-Insecure-Requests: 1",
        "Via: 1.1 Caddy",
        "X-Forwarded-For: 127.0.0.1",
        "X-Forwarded-Host: api.example.com",
        "X-Forwarded-Method: GET",
        "X-Forwarded-Proto: http",
        "X-Forwarded-Uri: /api/customers/7?page=2",
        "X-Request-Id: 048d8822-9ba6-4407-867c-3fd7c8cc2765",
    ),
    "traefik": _head(
        "GET / HTTP/1.1",
        "Host: extauthz:9003",
        "User-Agent: curl/8.14.1",
        "Accept: */*",
        "Authorization: " + _KEY,
        "Content-Type: application/json",
        "X-Forwarded-For: 192.0.2.2",
        "X-Forwarded-Host: api.example.com",
        "X-Forwarded-Method: POST",
        "X-Forwarded-Port: 80",
        "X-Forwarded-Proto: http",
        "X-Forwarded-Server: edge-1",
        "X-Forwarded-Uri: /api/customers/7?page=2",
        "X-Real-Ip: 192.0.2.2",
        "Accept-Encoding: gzip",
    ),
    "curl": _head(
        "GET /api/customers/7?page=2 HTTP/1.1",
        "Host: 127.0.0.1:9001",
        "User-Agent: curl/7.88.1",
        "Accept: */*",
        "Authorization: " + _KEY,
    ),
}
# Its script asks on a connection of its own each time, and says so.
HAPROXY = _head(
    "GET / HTTP/1.1",
    "host: extauthz",
    "connection: close",
    "x-forwarded-method: GET",
    "x-forwarded-uri: /api/customers/7?page=2",
    "authorization: " + _KEY,
    "x-request-id: 4b8b43b6-0c9b-4492-9729-c596f07b79d9",
    "x-forwarded-for: 127.0.0.1",
    "x-forwarded-host: api.example.com",
)
