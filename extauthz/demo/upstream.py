"""The sample API behind the proxies: answers every request with what it saw of it, as JSON."""

import sys

from aiohttp import web

HEADER_BYTES_MAX = 65_536
BODY_BYTES_MAX = 16 * 1024 * 1024


async def echo(request: web.Request) -> web.Response:
    """Method, path, headers (repeated ones joined by a comma) and the length of the body in bytes."""
    headers: dict[str, str] = {}
    for name, value in request.headers.items():
        known = headers.get(name.lower())
        headers[name.lower()] = value if known is None else f"{known},{value}"
    body = await request.read()
    return web.json_response(
        {"method": request.method, "path": request.raw_path, "headers": headers, "body_bytes": len(body)}
    )


def main() -> None:
    """`python -m extauthz.demo.upstream [HOST:]PORT`; on loopback unless told otherwise."""
    host, _, port = sys.argv[1].rpartition(":")
    app = web.Application(client_max_size=BODY_BYTES_MAX)
    app.router.add_route("*", "/{path:.*}", echo)
    web.run_app(
        app,
        host=host or "127.0.0.1",
        port=int(port),
        access_log=None,
        print=None,
        max_line_size=HEADER_BYTES_MAX,
        max_field_size=HEADER_BYTES_MAX,
    )


if __name__ == "__main__":
    main()
