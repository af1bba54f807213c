"""Heads of requests, generated: whole ones as proxies send them, and the same with a few changes that parsers dispute.

The same number gives the same heads.
"""

from collections.abc import Callable, Iterator
from random import Random

from extauthz.transports.http.plain import PLAIN_BYTES_MAX
from tests.unit.transports import head_pieces as pieces

VARIANTS = 15  # of one head


def heads_of(number: int) -> Iterator[bytes]:
    """A whole head, and variants of it."""
    random = Random(number)
    whole = _whole(random)
    yield whole
    for _ in range(VARIANTS):
        data = whole
        for _ in range(random.choice((1, 1, 1, 2, 2, 3))):
            data = random.choice(_CHANGES)(random, data)
        yield data


def _whole(random: Random) -> bytes:
    lines = [_usual_line(random) for _ in range(random.choice((0, 1, 2, 4, 6, 9)))]
    if random.random() < 0.01:
        lines += [b"x-%d: a" % each for each in range(random.choice((50, 290, 299, 300, 301, 400, 1000, 1021, 1025)))]
        random.shuffle(lines)
    lines.insert(random.randint(0, len(lines)), b"Host: api.example.com")
    if random.random() < 0.6:
        lines.insert(random.randint(0, len(lines)), b"Authorization: Bearer " + _bytes(random, pieces.TOKEN, 20))
    target = b"/" + _bytes(random, pieces.PATH, 12)
    if random.random() < 0.4:
        target += b"?" + _bytes(random, pieces.PATH + b"?", 12)
    data = b"\r\n".join([b"%b %b HTTP/1.1" % (random.choice(pieces.METHODS), target), *lines, b"", b""])
    return _filled(random, data) if random.random() < 0.01 else data


def _filled(random: Random, data: bytes) -> bytes:
    """The same in about as many bytes as a plain request may have."""
    missing = PLAIN_BYTES_MAX + random.randint(-2, 2) - len(data) - len(b"x-pad: \r\n")
    return data if missing < 1 else data.replace(b"\r\n", b"\r\nx-pad: " + b"p" * missing + b"\r\n", 1)


def _usual_line(random: Random) -> bytes:
    name = random.choice(pieces.USUAL)
    match name:
        case "Content-Length":
            return b"content-length: 0"
        case "Connection":
            return b"Connection: keep-alive"
        case "Content-Type":
            return _spelt(random, b"content-type") + b": text/plain"
        case "host" | "authorization" | "server":
            return b"x-" + name.encode() + b": " + random.choice((b"a", b"b"))
    value = bytes(random.choices(range(0x20, 0x7F), k=random.choice((1, 2, 5, 12)))).strip() or b"-"
    return _spelt(random, name.encode()) + b": " + value


def _spelt(random: Random, name: bytes) -> bytes:
    match random.randrange(6):
        case 0:
            return name.upper()
        case 1:
            return name.title()
        case 2:
            return bytes(each ^ 0x20 if chr(each).isalpha() and random.random() < 0.5 else each for each in name)
    return name


def _bytes(random: Random, alphabet: bytes, longest: int) -> bytes:
    return bytes(random.choices(alphabet, k=random.randint(1, longest)))


def _odd_line(random: Random) -> bytes:
    if random.random() < 0.4:
        return random.choice(pieces.TELLING)
    name = random.choice(pieces.ODD).encode() if random.random() < 0.8 else _bytes(random, pieces.TOKEN, 8)
    return _spelt(random, name) + random.choice((b": ", b": ", b": ", b":")) + random.choice(pieces.VALUES)


def _byte_put(random: Random, data: bytes) -> bytes:
    at = random.randint(0, len(data))
    return data[:at] + _any_byte(random) + data[at:]


def _byte_changed(random: Random, data: bytes) -> bytes:
    at = random.randrange(len(data) or 1)
    return data[:at] + _any_byte(random) + data[at + 1 :]


def _byte_taken(random: Random, data: bytes) -> bytes:
    at = random.randrange(len(data) or 1)
    return data[:at] + data[at + 1 :]


def _case_changed(random: Random, data: bytes) -> bytes:
    at = random.randrange(len(data) or 1)
    return data[:at] + data[at : at + 1].swapcase() + data[at + 1 :]


def _any_byte(random: Random) -> bytes:
    return bytes((random.choice(pieces.NASTY) if random.random() < 0.8 else random.randrange(256),))


def _cut(random: Random, data: bytes) -> bytes:
    return data[: random.randint(0, len(data))]


def _more_behind(random: Random, data: bytes) -> bytes:
    return data + random.choice(pieces.BEHIND)


def _more_before(random: Random, data: bytes) -> bytes:
    return random.choice(pieces.BEHIND) + data


def _line_put(random: Random, data: bytes) -> bytes:
    return _with_lines(random, data, lambda lines, at: lines.insert(at, _odd_line(random)))


def _singleton_put_twice(random: Random, data: bytes) -> bytes:
    name = random.choice(pieces.SINGLETONS).encode()
    lines = b"".join(b"%b: a\r\n" % _spelt(random, name) for _ in range(2))
    return data.replace(b"\r\n", b"\r\n" + lines, 1)


def _usual_line_put(random: Random, data: bytes) -> bytes:
    return _with_lines(random, data, lambda lines, at: lines.insert(at, _usual_line(random)))


def _line_repeated(random: Random, data: bytes) -> bytes:
    """The same name again, in any spelling, with its value or another one."""

    def repeat(lines: list[bytes], at: int) -> None:
        name, colon, value = random.choice(lines).partition(b": ")
        again = value if random.random() < 0.5 else random.choice(pieces.VALUES)
        lines.insert(at, _spelt(random, name) + colon + again)

    return _with_lines(random, data, repeat)


def _line_taken(random: Random, data: bytes) -> bytes:
    return _with_lines(random, data, lambda lines, at: lines.__delitem__(slice(at, at + 1)))


def _lines_mixed(random: Random, data: bytes) -> bytes:
    return _with_lines(random, data, lambda lines, _: random.shuffle(lines))


def _value_changed(random: Random, data: bytes) -> bytes:
    def change(lines: list[bytes], at: int) -> None:
        at %= len(lines)
        lines[at] = lines[at].partition(b": ")[0] + b": " + random.choice(pieces.VALUES)

    return _with_lines(random, data, change)


def _name_spelt(random: Random, data: bytes) -> bytes:
    def spell(lines: list[bytes], at: int) -> None:
        at %= len(lines)
        name, colon, value = lines[at].partition(b":")
        lines[at] = _spelt(random, name) + colon + value

    return _with_lines(random, data, spell)


def _with_lines(random: Random, data: bytes, change: Callable[[list[bytes], int], object]) -> bytes:
    """Header lines changed; `change` gets a place among them."""
    first, *lines = data.removesuffix(b"\r\n\r\n").split(b"\r\n")
    if lines:
        change(lines, random.randint(0, len(lines)))
    return b"\r\n".join([first, *lines, b"", b""])


def _piece_changed(piece: bytes, others: tuple[bytes, ...]) -> Callable[[Random, bytes], bytes]:
    """One of the places where a piece stands gets another."""

    def change(random: Random, data: bytes) -> bytes:
        parts = data.split(piece)
        at = random.randrange(len(parts))
        return piece.join(parts[:at]) + random.choice(others) + piece.join(parts[at:]) if at else data

    return change


def _method_changed(random: Random, data: bytes) -> bytes:
    return random.choice(pieces.ODD_METHODS + pieces.METHODS) + b" " + data.partition(b" ")[2]


def _target_changed(random: Random, data: bytes) -> bytes:
    method, _, rest = data.partition(b" ")
    return b"%b %b %b" % (method, random.choice(pieces.ODD_TARGETS), rest.partition(b" ")[2])


def _version_changed(random: Random, data: bytes) -> bytes:
    return data.replace(b"1.1", random.choice(pieces.VERSIONS), 1)


_CHANGES: tuple[Callable[[Random, bytes], bytes], ...] = (
    *(_byte_put, _byte_changed, _byte_taken, _case_changed, _cut, _more_behind, _more_before),
    *(_line_put, _usual_line_put, _line_repeated, _singleton_put_twice),
    *(_line_taken, _lines_mixed, _value_changed, _name_spelt),
    _piece_changed(b"\r\n", pieces.LINE_ENDS),
    _piece_changed(b": ", pieces.COLONS),
    _piece_changed(b" ", (b"", b"  ", b"\t")),
    *(_method_changed, _target_changed, _version_changed, _usual_line_put, _lines_mixed, _name_spelt, _case_changed),
)
