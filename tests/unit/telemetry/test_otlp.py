"""A receiver of OTLP cannot harm the sender: it can only refuse."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from extauthz.telemetry.otlp_logs import OtlpSink
from extauthz.telemetry.spans import SpanReceiver

LINE = (
    b'{"time":"2030-01-31T12:00:00.000000Z","decision":"allow","reason":"","status":200,"dialect":"envoy",'
    b'"method":"GET","path":"/","host":"h","route":null,"organization_id":null,"api_key_id":null,"subject":null,'
    b'"cost":0,"request_id":"","trace_id":null,"duration_us":1,"degraded":false,"worker":0}\n'
)


@contextmanager
def answering(head: bytes, *, endless: bool = False) -> Iterator[tuple[str, list[bytes]]]:
    """A server that answers each connection with `head`, and then with bytes until the client has enough."""
    requests: list[bytes] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                requests.append(connection.recv(65_536))
                try:
                    connection.sendall(head)
                    while endless:
                        connection.sendall(b"x" * 65_536)
                except OSError:
                    continue

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1", requests
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def logs(url: str) -> bool:
    return OtlpSink(url, headers={"x-token": "secret"}, resource={}).write(LINE)


def spans(url: str) -> bool:
    return SpanReceiver(url, {"x-token": "secret"}, {}, hide=str).send([]) == ""


@pytest.mark.parametrize("send", [logs, spans])
def test_an_answer_without_end_is_not_read(send: object) -> None:
    """The status is enough: the rest takes neither memory nor the sending thread."""
    assert callable(send)
    with answering(b"HTTP/1.1 200 OK\r\n\r\n", endless=True) as (url, _):
        assert send(url)


@pytest.mark.parametrize("send", [logs, spans])
def test_a_redirection_is_not_followed(send: object) -> None:
    """It would send headers, one of which may be a credential, to another place."""
    assert callable(send)
    with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") as (other, stolen):
        head = f"HTTP/1.1 307 Temporary Redirect\r\nLocation: {other}\r\nContent-Length: 0\r\n\r\n".encode()
        with answering(head) as (url, _):
            assert not send(url)
        assert stolen == []
