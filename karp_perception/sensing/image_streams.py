"""What a JPEG or PNG stream says about itself, read before anything is decoded: its size, and whether all of it came.

Decoders fill what is missing with grey and say nothing, and allocate whatever size the header claims. Both are
checked here from the stream's structure (ITU-T T.81 annex B; PNG, ISO/IEC 15948), in a few microseconds.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from karp_perception.core.errors import InvalidInput

MAX_PIXELS = 1 << 26
"""The largest image that is decoded, pixels (8192 x 8192): several times what vehicle cameras have."""

_JPEG_START = b"\xff\xd8\xff"
_JPEG_END = b"\xff\xd9"
_PNG_START = b"\x89PNG\r\n\x1a\n"
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0..SOF15 without DHT, JPG and DAC
_JPEG_PROGRESSIVE = frozenset((0xC2, 0xC6, 0xCA, 0xCE))
_DEFLATE_MAX_RATIO = 1032  # zlib's own limit, https://zlib.net/zlib_tech.html
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


@dataclass(frozen=True)
class ImageStream:
    """Kind ("jpeg" or "png"), size in pixels, and for a JPEG the pixels (width, height) of its coding unit."""

    kind: str
    width: int
    height: int
    coding_unit: tuple[int, int] = (0, 0)


def inspect_stream(data: bytes) -> ImageStream:
    """The size of a complete JPEG or PNG stream.

    Raises InvalidInput: `truncated_image` where the end or a part is missing, `unknown_encoding` for anything but JPEG
    and PNG, `malformed_image` for what cannot be, and for sizes beyond MAX_PIXELS.
    """
    if data.startswith(_JPEG_START):
        return _inspect_jpeg(data)
    if data.startswith(_PNG_START):
        return _inspect_png(data)
    got = f"{len(data)} bytes beginning {data[:8].hex(' ')}" if data else "no data"
    raise InvalidInput("CompressedImage data", "a JPEG or PNG stream", got, reason="unknown_encoding")


def _inspect_jpeg(data: bytes) -> ImageStream:
    position, stream, blocks, progressive = 2, None, 0, False
    while True:
        if position + 4 > len(data):
            raise _truncated("JPEG", "ends within its headers")
        if data[position] != 0xFF:
            raise _malformed("JPEG", "a marker", f"byte {data[position]:#04x} at {position}")
        marker = data[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        if marker == 0xD9:
            raise _truncated("JPEG", "ends before its first scan")
        (length,) = struct.unpack_from(">H", data, position + 2)
        end = position + 2 + length
        if length < 2 or end > len(data):
            raise _truncated("JPEG", "ends within its headers")
        if marker in _JPEG_FRAMES:
            stream, blocks = _jpeg_frame(data[position + 4 : end])
            progressive = marker in _JPEG_PROGRESSIVE
        if marker == 0xDA:
            break
        position = end
    if stream is None:
        raise _malformed("JPEG", "a frame header before the first scan", "none")
    # Within a scan an FF byte of the data is always followed by 00, so these two bytes can only be the end itself.
    last = data.rfind(_JPEG_END, end)
    if last < 0:
        raise _truncated("JPEG", f"{len(data)} bytes without an end-of-image marker")
    # Every block takes a bit at least in a progressive stream's first scan, two (DC and end of block) in a plain one.
    if (last - end) * 8 < blocks * (1 if progressive else 2):
        raise _truncated("JPEG", f"{last - end} bytes for {stream.width} x {stream.height} pixels")
    return stream


def _jpeg_frame(segment: bytes) -> tuple[ImageStream, int]:
    """Size and coding unit of a frame header's content, and its number of 8x8 blocks."""
    components = segment[5] if len(segment) > 5 else 0
    if len(segment) < 6 + 3 * components or components not in (1, 3, 4):
        raise _malformed("JPEG", "a frame header of 1, 3 or 4 components", f"{components} in {len(segment)} bytes")
    height, width = struct.unpack_from(">HH", segment, 1)
    _check_size("JPEG", width, height)
    sampling = [(segment[7 + 3 * k] >> 4, segment[7 + 3 * k] & 15) for k in range(components)]
    if any(not 1 <= factor <= 4 for pair in sampling for factor in pair):
        raise _malformed("JPEG", "sampling factors of 1 to 4", sampling)
    if components == 1:
        sampling = [(1, 1)]
    unit = 8 * max(h for h, _ in sampling), 8 * max(v for _, v in sampling)
    units = -(-width // unit[0]) * -(-height // unit[1])
    return ImageStream("jpeg", width, height, unit), units * sum(h * v for h, v in sampling)


def _inspect_png(data: bytes) -> ImageStream:
    position, stream, needed, compressed = len(_PNG_START), None, 0, 0
    while True:
        if position + 12 > len(data):
            raise _truncated("PNG", f"{len(data)} bytes without an IEND chunk")
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if end > len(data):
            raise _truncated("PNG", f"ends within a chunk {kind!r}")
        if zlib.crc32(data[position + 4 : end - 4]) != struct.unpack_from(">I", data, end - 4)[0]:
            raise _malformed("PNG", "the checksum of each chunk to fit", f"another one for {kind!r}")
        if stream is None:
            stream, needed = _png_header(kind, data[position + 8 : end - 4])
        elif kind == b"IDAT":
            compressed += length
        elif kind == b"IEND":
            break
        position = end
    if compressed * _DEFLATE_MAX_RATIO < needed:
        raise _truncated("PNG", f"{compressed} bytes for {stream.width} x {stream.height} pixels")
    return stream


def _png_header(kind: bytes, content: bytes) -> tuple[ImageStream, int]:
    """Size by the IHDR chunk, and the number of bytes that the compressed data must unfold to."""
    if kind != b"IHDR" or len(content) != 13:
        raise _malformed("PNG", "a first chunk IHDR of 13 bytes", f"{kind!r} of {len(content)}")
    width, height, depth, colour = struct.unpack_from(">IIBB", content)
    _check_size("PNG", width, height)
    if colour not in _PNG_CHANNELS or depth not in (1, 2, 4, 8, 16):
        raise _malformed("PNG", "a colour type and bit depth of the standard", f"{colour}, {depth}")
    return ImageStream("png", width, height), height * (1 + -(-width * depth * _PNG_CHANNELS[colour] // 8))


def _check_size(kind: str, width: int, height: int) -> None:
    if width == 0 or height == 0:
        raise _malformed(kind, "a size of at least 1 x 1", f"{width} x {height}")
    if width * height > MAX_PIXELS:
        raise _malformed(kind, f"at most {MAX_PIXELS} pixels", f"{width} x {height}")


def _truncated(kind: str, got: str) -> InvalidInput:
    advice = "part of it was lost between the camera and here"
    return InvalidInput(f"CompressedImage ({kind})", "a complete stream", got, advice, reason="truncated_image")


def _malformed(kind: str, expected: str, got: object) -> InvalidInput:
    return InvalidInput(f"CompressedImage ({kind})", expected, got, reason="malformed_image")
