"""Makes a picture small: a PNG of at most 256 colours of one of many, without a library for pictures."""

from __future__ import annotations

import struct
import zlib
from collections import Counter

SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLOURS = 256


def with_palette(png: bytes) -> bytes:
    """Return a PNG of 8 bits a channel, RGB or RGBA (nothing shines through), with a palette.

    The most frequent colours stay as they are; each other one becomes the nearest of them.
    """
    width, height, channels, data = _unpacked(png)
    pixels = _pixels(width, height, channels, data)
    counted = Counter(pixels)
    palette = [colour for colour, _ in counted.most_common(COLOURS)]
    index = {colour: number for number, colour in enumerate(palette)}
    for colour in counted:
        if colour not in index:
            index[colour] = min(range(len(palette)), key=lambda n: _distance(palette[n], colour))
    rows = b"".join(
        b"\0" + bytes(map(index.__getitem__, pixels[start : start + width]))
        for start in range(0, width * height, width)
    )
    return b"".join(
        (
            SIGNATURE,
            _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
            _chunk(b"PLTE", b"".join(palette)),
            _chunk(b"IDAT", zlib.compress(rows, 9)),
            _chunk(b"IEND", b""),
        )
    )


def _distance(one: bytes, other: bytes) -> int:
    return sum((a - b) ** 2 for a, b in zip(one, other, strict=True))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _unpacked(png: bytes) -> tuple[int, int, int, bytes]:
    assert png.startswith(SIGNATURE)
    at, packed = len(SIGNATURE), b""
    width = height = channels = 0
    while at < len(png):
        length, kind = struct.unpack_from(">I4s", png, at)
        data = png[at + 8 : at + 8 + length]
        if kind == b"IHDR":
            width, height, depth, colour, *_, interlaced = struct.unpack(">IIBBBBB", data)
            assert (depth, interlaced) == (8, 0)
            channels = {2: 3, 6: 4}[colour]
        elif kind == b"IDAT":
            packed += data
        at += length + 12
    return width, height, channels, zlib.decompress(packed)


def _pixels(width: int, height: int, channels: int, data: bytes) -> list[bytes]:
    """Return the colours of all pixels, the filters of their rows undone (PNG section 9)."""
    stride = width * channels
    above = bytes(stride)
    pixels: list[bytes] = []
    for y in range(height):
        start = y * (stride + 1)
        row = _unfiltered(
            data[start], bytearray(data[start + 1 : start + 1 + stride]), above, channels
        )
        pixels += [row[x : x + 3] for x in range(0, stride, channels)]
        above = row
    return pixels


def _unfiltered(kind: int, row: bytearray, above: bytes, channels: int) -> bytes:
    if kind == 2:
        return bytes((a + b) & 255 for a, b in zip(row, above, strict=True))
    for x in range(len(row) if kind else 0):
        left = row[x - channels] if x >= channels else 0
        corner = above[x - channels] if x >= channels else 0
        add = {1: left, 3: (left + above[x]) >> 1, 4: _paeth(left, above[x], corner)}[kind]
        row[x] = (row[x] + add) & 255
    return bytes(row)


def _paeth(left: int, up: int, corner: int) -> int:
    guess = left + up - corner
    return min((left, up, corner), key=lambda one: abs(guess - one))
