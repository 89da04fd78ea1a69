"""Lists and manifests that a server has packed though nobody asked for it (RFC 9110, 8.4.1).

Every request says `Accept-Encoding: identity`; some proxies pack JSON all the same. Blobs are never unpacked:
their bytes are what their digest names.
"""

from __future__ import annotations

from service.errors import AnswerTooLong, ProtocolError
from service.registry.http import Answer


def unpacked(answer: Answer, registry: str, limit: int) -> bytes:
    """Return an answer's body as it was meant, at most `limit` bytes of it.

    Raises AnswerTooLong beyond that, and ProtocolError for what cannot be unpacked.
    """
    coding = answer.headers.get("content-encoding", "identity").strip().lower()
    if coding in ("identity", ""):
        return answer.body
    if coding not in ("gzip", "x-gzip"):
        raise ProtocolError(f"{registry}: an answer in a coding that nobody asked for")
    import zlib

    inflater = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        body = inflater.decompress(answer.body, limit + 1)
    except zlib.error:
        raise ProtocolError(f"{registry}: an answer that says gzip and is none") from None
    if len(body) > limit:
        raise AnswerTooLong(f"{registry}: an answer over {limit} bytes when it is unpacked")
    if not inflater.eof:
        raise ProtocolError(f"{registry}: a packed answer that breaks off")
    return body
