"""What generated heads are made of: usual pieces, and those that parsers dispute."""

from aiohttp import hdrs
from aiohttp.http_parser import SINGLETON_HEADERS

from extauthz.core import headers

OUR_NAMES = tuple(
    sorted({value for name, value in vars(headers).items() if name.isupper() and isinstance(value, str)})
)  # every one that a dialect may read, and some more
USUAL = (
    *OUR_NAMES,
    *("Accept", "Accept-Encoding", "Accept-Language", "Cookie", "DNT", "Origin", "Referer", "User-Agent", "Via"),
    *("Content-Length", "Content-Type", "Connection", "Forwarded", "Priority", "Sec-Fetch-Mode", "X-Forwarded-Proto"),
)  # fmt: skip
SINGLETONS = tuple(sorted(SINGLETON_HEADERS))
ODD = (
    *SINGLETONS,
    *(name for each, name in vars(hdrs).items() if each.isupper() and isinstance(name, str) and "-" in name),
    *("Connection", "Content-Length", "Transfer-Encoding", "Upgrade", "Expect", "Authorization", "TE", "Keep-Alive"),
    *("Proxy-Connection", "HTTP2-Settings", "Sec-WebSocket-Key1", "Sec-WebSocket-Key2", "Hostname", "Authority"),
    *("Content_Length", "Content-Lengths", "ontent-Length", "agent", "Connectio", "Co", "U", "E", "_", "1", "~"),
)  # fmt: skip
VALUES = (
    *(b"0", b"00", b"+0", b"-0", b"5", b"0, 0", b"0,0", b"0x0", b"18446744073709551616", b"1 0", b"0;", b"close"),
    *(b"keep-alive", b"Keep-Alive", b"keep-alive, close", b"close, keep-alive", b"x, CLOSE", b"upgrade", b"websocket"),
    *(b"Upgrade, HTTP2-Settings", b"h2c", b"chunked", b"identity", b"gzip, chunked", b"chunked, gzip", b"deflate"),
    *(b"100-continue", b"trailers", b"", b" ", b"api.example.com", b"[::1]:80", b"a,b", b"Bearer abc", b"bearer  a b"),
    *(b"Host: b", b"authorization: Bearer x", b"\thost: b", b"a: b", b":", b",", b'"', b"\xc3\xa4", b"a\tb", b"a\x00b"),
)  # fmt: skip
# Each changes what a request is, or what becomes of its connection.
TELLING = (
    *(b"Connection: close", b"connection: upgrade\r\nUpgrade: h2c", b"connection: Keep-Alive"),
    *(b"Content-Length: 5", b"content-length: 00", b"Content-Length: 0", b"content-length: 0 ", b"Content-Type: a/b"),
    *(b"Transfer-Encoding: chunked", b"transfer-encoding: identity", b"Expect: 100-continue", b"Upgrade: websocket"),
    *(b"Proxy-Connection: close", b"Sec-WebSocket-Key1: a", b"User-Agent: a", b"user-agent: b"),
    *(b"Host: b", b"authorization: b"),
)  # fmt: skip
METHODS = (b"GET", b"GET", b"GET", b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS")
ODD_METHODS = (b"HEAD", b"CONNECT", b"TRACE", b"PRI", b"QUERY", b"get", b"GETT", b"GE", b"M-SEARCH", b"SOURCE", b"")
ODD_TARGETS = (
    *(b"*", b"http://a/b", b"https://a:1/b?c", b"http:/a", b"//a/b", b"//", b"/#a", b"/a#b?c", b"/a?b#c", b"a:1"),
    *(b"/?", b"/??", b"/a?b?c", b'/"', b"/\\", b"/%", b"/%zz", b"/%00", b"/a b", b"/a\tb", b"/\xff", b"/\x7f"),
    *(b"", b"?", b"?a", b"/a:b@c", b"/[", b"/]", b"/;a=b", b"/../..", b"/.", b"/a//b", b"/@", b"/:", b"///", b"/$!"),
)  # fmt: skip
VERSIONS = (b"1.0", b"1.2", b"2.0", b"0.9", b"1.1 ", b"1.01", b"1", b"11", b"1,1", b" 1.1", b"1.1\t", b"01.1")
NASTY = b'\r\n\t \x00\x0b\x0c\x1f\x7f\x80\xa0\xff:;,"#?\\/\x01AaHh0-_'
BEHIND = (
    *(b"\r\n", b"\n", b"\r", b" ", b"\x00", b"G", b"GET", b"0\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    *(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", b"hello", b"\r\n\r\n", b"X: y\r\n\r\n"),
)  # fmt: skip
LINE_ENDS = (
    *(b"\n", b"\r", b"\r\r\n", b"\n\r", b"\r\n\r\n", b"\r\n ", b"\r\n\t"),
    *(b" \r\n", b"\t\r\n", b"\x00\r\n", b"\x0b\r\n"),
)  # fmt: skip
COLONS = (b":", b" :", b" : ", b":  ", b":\t", b"\t: ", b"::", b"", b": \t", b":\r\n ", b":\x00", b": :")
TOKEN = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
PATH = bytes(range(0x21, 0x7F)).translate(None, b'"#?')
