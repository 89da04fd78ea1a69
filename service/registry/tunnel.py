"""A registry's own proxy: CONNECT for https (RFC 9110 9.3.6), the absolute form for http (RFC 9112 3.2.2).

The environment's proxies are never looked at. Through a tunnel the proxy sees host and port, and
nothing else; what it is asked for in the clear it can read.
"""

from __future__ import annotations

import socket
import time

from service.errors import AddressRefused, NetworkError, ProtocolError
from service.registry.origin import Origin

_MAX_HEAD = 16 * 1024
_TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})


def open_tunnel(raw: socket.socket, proxy: Origin, origin: Origin, seconds: float) -> None:
    """Have the proxy connect the socket to the origin.

    Raises NetworkError, ProtocolError, and AddressRefused when the proxy says no for good.
    """
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    place = f"{host}:{origin.port}"
    raw.settimeout(seconds)
    try:
        raw.sendall(f"CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n\r\n".encode("ascii"))
        head = _head(raw, seconds)
    except OSError as error:
        raise NetworkError(f"the proxy {proxy} did not open a way to {place}: {error}") from error
    version, _, rest = head.partition(" ")
    status = rest[:3]
    if not version.startswith("HTTP/1.") or not (status.isascii() and status.isdigit()):
        raise ProtocolError(f"{proxy} is no HTTP proxy")
    if status.startswith("2"):
        return
    if int(status) in _TRANSIENT:
        raise NetworkError(f"the proxy {proxy} does not reach {place}: {status}")
    raise AddressRefused(
        f"the proxy {proxy} refuses a way to {place}: {status}",
        hint="a proxy that wants a password is not supported"
        if status == "407"
        else "have the proxy allow CONNECT to this host and port",
    )


def _head(raw: socket.socket, seconds: float) -> str:
    """Read the answer's head; nothing may follow it, for in TLS the client speaks first."""
    data = b""
    deadline = time.monotonic() + seconds
    while (end := data.find(b"\r\n\r\n")) < 0:
        if len(data) > _MAX_HEAD or time.monotonic() > deadline:
            raise OSError("no answer that ends")
        piece = raw.recv(4096)
        if not piece:
            raise OSError("it closed the connection")
        data += piece
    if len(data) > end + 4 and data.startswith((b"HTTP/1.1 2", b"HTTP/1.0 2")):
        raise OSError("it speaks before it is asked")
    return data[:end].decode("latin-1")
