"""Our blocking-socket transport behind httpx's interface, for all that is not hot.

The hot paths (manifest HEADs, mounts, blob bytes) use the same pool without httpx's objects:
httpx.Client costs 85 us a request by itself.
"""

from __future__ import annotations

from collections.abc import Iterator

import httpx

from service.errors import AddressRefused, NetworkError, ProtocolError, RegistryError, TLSError
from service.registry.connection import Response
from service.registry.origin import Origin
from service.registry.pool import Pool

_PIECE = 64 * 1024
_NO_BODY = frozenset({"GET", "HEAD", "DELETE", "OPTIONS"})


class _Body(httpx.SyncByteStream):
    """A response's body as httpx reads it: each piece is bytes of its own."""

    def __init__(self, response: Response, request: httpx.Request) -> None:
        self._response = response
        self._request = request

    def __iter__(self) -> Iterator[bytes]:
        view = memoryview(bytearray(_PIECE))
        while True:
            try:
                count = self._response.readinto(view)
            except NetworkError as error:
                raise httpx.ReadError(error.message, request=self._request) from error
            except ProtocolError as error:
                raise httpx.RemoteProtocolError(error.message, request=self._request) from error
            if not count:
                return
            yield bytes(view[:count])

    def close(self) -> None:
        self._response.close()


class Transport(httpx.BaseTransport):
    """httpx.Client(transport=Transport(pool)): kept connections, judged addresses, no redirects.

    Raises httpx's exceptions with ours as their cause.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request; its body may be a stream, its response's body is one."""
        url = request.url
        origin = Origin(url.scheme, url.host, url.port or (443 if url.scheme == "https" else 80))
        try:
            response = self._send(origin, request)
        except TLSError as error:
            raise httpx.ConnectError(error.message, request=request) from error
        except AddressRefused as error:
            raise httpx.UnsupportedProtocol(error.message, request=request) from error
        except NetworkError as error:
            raise httpx.NetworkError(error.message, request=request) from error
        except ProtocolError as error:
            raise httpx.RemoteProtocolError(error.message, request=request) from error
        except RegistryError as error:
            raise httpx.TransportError(error.message, request=request) from error
        return httpx.Response(
            response.status,
            headers=list(response.headers.items()),
            stream=_Body(response, request),
            request=request,
        )

    def _send(self, origin: Origin, request: httpx.Request) -> Response:
        head = bytearray(f"{request.method} ".encode("ascii"))
        path = request.url.raw_path.decode("ascii")
        head += f"{self._pool.connector.target(origin, path)} HTTP/1.1\r\n".encode("ascii")
        for name, value in request.headers.raw:
            head += name + b": " + value + b"\r\n"
        head += b"\r\n"
        if "transfer-encoding" in request.headers:
            return self._stream(origin, request, bytes(head), chunked=True)
        if "content-length" in request.headers and request.method not in _NO_BODY:
            if int(request.headers["content-length"]) > _PIECE:
                return self._stream(origin, request, bytes(head), chunked=False)
            body = b"".join(self._pieces(request))
            return self._pool.exchange(origin, request.method, bytes(head) + body)
        return self._pool.exchange(origin, request.method, bytes(head))

    def _stream(
        self, origin: Origin, request: httpx.Request, head: bytes, *, chunked: bool
    ) -> Response:
        """Send a body that may not be repeatable: once, and on whatever answer comes early stop."""
        connection = self._pool.acquire(origin)
        try:
            going = connection.send(head)
            for piece in self._pieces(request):
                if not going or not piece:
                    continue
                framed = b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece
                going = connection.send(framed)
            if going and chunked:
                connection.send(b"0\r\n\r\n")
            return connection.receive(request.method, self._pool.release)
        except BaseException:
            connection.close()
            raise

    @staticmethod
    def _pieces(request: httpx.Request) -> Iterator[bytes]:
        stream = request.stream
        if not isinstance(stream, httpx.SyncByteStream):
            raise httpx.UnsupportedProtocol("an asynchronous body", request=request)
        yield from stream

    def close(self) -> None:
        """Leave the pool open: it is its client's."""
