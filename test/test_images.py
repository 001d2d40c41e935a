"""Image decoding: every encoding against formulas written out in numpy, compressed streams, and what is refused."""

from __future__ import annotations

import array
import itertools
import struct
import zlib
from typing import Any

import cv2
import numpy as np
import pytest
from sensor_message_builders import TYPES, compressed_message, image_message

from karp_perception.core.errors import InvalidInput
from karp_perception.sensing.images import SUPPORTED_ENCODINGS, decode_compressed_image, decode_image

RNG = np.random.default_rng(5)
HEIGHT, WIDTH = 6, 8


def smooth(height: int, width: int) -> np.ndarray:
    """A colourful picture without fine detail, so that shared colours and JPEG change little."""
    y, x = np.mgrid[0:height, 0:width]
    channels = [128 + 100 * np.sin(x / width * 3 + k) * np.cos(y / height * 2 - k) for k in range(3)]
    return np.stack(channels, axis=-1).astype(np.uint8)


def yuv_to_rgb(y: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """ITU-R BT.601, limited range, from its luma weights 0.299 0.587 0.114."""
    luma = (y.astype(float) - 16) / 219
    blue, red = (u.astype(float) - 128) / 224 * 1.772, (v.astype(float) - 128) / 224 * 1.402
    rgb = [luma + red, luma - (0.299 * red + 0.114 * blue) / 0.587, luma + blue]
    return np.clip(np.rint(np.stack(rgb, axis=-1) * 255), 0, 255)


def reason_of(call: Any, message: Any) -> str:
    with pytest.raises(InvalidInput) as caught:
        call(message)
    return caught.value.reason


PIXELS = RNG.integers(0, 256, (HEIGHT, WIDTH, 4), dtype=np.uint8)
DEEP = RNG.integers(0, 65536, (HEIGHT, WIDTH, 4), dtype=np.uint16)
ORDERS = {
    **{"rgb": [0, 1, 2], "rgba": [0, 1, 2, 3], "bgr": [2, 1, 0], "bgra": [2, 1, 0, 3]},
    **{"mono": [0], "8UC1": [0], "8UC3": [2, 1, 0], "8UC4": [2, 1, 0, 3], "16UC1": [0], "16UC3": [2, 1, 0]},
}


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize("encoding", ["rgb8", "rgba8", "bgr8", "bgra8", "mono8", "8UC1", "8UC3", "8UC4"])
def test_eight_bits_are_exact(encoding: str, padding: int) -> None:
    order = ORDERS.get(encoding) or ORDERS[encoding[:-1]]
    sent = PIXELS[..., : len(order)]
    message = image_message(encoding, sent.reshape(HEIGHT, -1), WIDTH, padding=padding)
    image = decode_image(message)
    expected = np.repeat(sent, 3, axis=2) if len(order) == 1 else sent[..., [order.index(c) for c in range(3)]]
    np.testing.assert_array_equal(image, expected)
    assert image.dtype == np.uint8
    assert not image.flags.writeable


@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("padding", [0, 3, 4])
@pytest.mark.parametrize("encoding", ["rgb16", "rgba16", "bgr16", "bgra16", "mono16", "16UC1", "16UC3"])
def test_sixteen_bits_keep_their_upper_half(encoding: str, padding: int, big_endian: bool) -> None:
    order = ORDERS.get(encoding) or ORDERS[encoding[:-2]]
    sent = DEEP[..., : len(order)]
    rows = sent.reshape(HEIGHT, -1)
    image = decode_image(image_message(encoding, rows, WIDTH, padding=padding, big_endian=big_endian))
    eight = np.rint(sent / 257.0)
    expected = np.repeat(eight, 3, axis=2) if len(order) == 1 else eight[..., [order.index(c) for c in range(3)]]
    np.testing.assert_array_equal(image, expected)


def test_cameras_with_twelve_of_sixteen_bits() -> None:
    rows = np.array([[0, 819, 4095, 9999]], np.uint16)
    image = decode_image(image_message("mono16", rows, 4), significant_bits=12)
    np.testing.assert_array_equal(image[0, :, 0], [0, 51, 255, 255])
    with pytest.raises(InvalidInput):
        decode_image(image_message("mono16", rows, 4), significant_bits=17)


@pytest.mark.parametrize("big_endian", [False, True])
def test_depth_in_metres_and_millimetres_is_the_same_grey(big_endian: bool) -> None:
    metres = np.array([[0, 0.257, 1, 30, 65.535, 200, np.nan, np.inf, -np.inf, -3]], np.float32)
    image = decode_image(image_message("32FC1", metres, 10, big_endian=big_endian))
    np.testing.assert_array_equal(image[0, :, 0], [0, 1, 4, 117, 255, 255, 0, 255, 0, 0])
    millimetres = np.rint(metres[:, :5] * 1000).astype(np.uint16)
    same = decode_image(image_message("16UC1", millimetres, 5, big_endian=big_endian))
    np.testing.assert_array_equal(same, image[:, :5])


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_bayer_patterns_are_named_in_reading_order(pattern: str, bits: int) -> None:
    """A mosaic cut out of a flat colour gives that colour everywhere; out of a smooth picture, nearly that picture."""
    for picture, tolerance in ((np.full((8, 10, 3), (200, 100, 40), np.uint8), 0), (smooth(64, 96), 6)):
        mosaic = np.zeros(picture.shape[:2], np.uint8)
        for k, colour in enumerate(pattern):
            row, column = divmod(k, 2)
            mosaic[row::2, column::2] = picture[row::2, column::2, "rgb".index(colour)]
        rows = mosaic if bits == 8 else mosaic.astype(np.uint16) * 257
        image = decode_image(image_message(f"bayer_{pattern}{bits}", rows, picture.shape[1], padding=2))
        inside = np.abs(image.astype(int) - picture)[2:-2, 2:-2]
        assert inside.max() <= tolerance


YUV = RNG.integers(30, 220, (3, HEIGHT, WIDTH), dtype=np.uint8)


@pytest.mark.parametrize("padding", [0, 6])
@pytest.mark.parametrize("encoding", ["yuv422", "uyvy", "yuv422_yuy2", "yuyv"])
def test_packed_yuv(encoding: str, padding: int) -> None:
    y, u, v = YUV[0], YUV[1, :, ::2], YUV[2, :, ::2]
    chroma = np.stack([u, v], axis=-1).reshape(HEIGHT, WIDTH)
    pair = [chroma, y] if encoding in ("yuv422", "uyvy") else [y, chroma]
    rows = np.stack(pair, axis=-1).reshape(HEIGHT, -1)
    image = decode_image(image_message(encoding, rows, WIDTH, padding=padding))
    expected = yuv_to_rgb(y, u.repeat(2, axis=1), v.repeat(2, axis=1))
    np.testing.assert_allclose(image, expected, atol=1.01)


@pytest.mark.parametrize("padding", [0, 6])
@pytest.mark.parametrize(
    ("encoding", "columns", "rows"),
    [("nv12", 2, 2), ("nv21", 2, 2), ("nv16", 2, 1), ("nv61", 2, 1), ("nv24", 1, 1), ("nv42", 1, 1)],
)
def test_semi_planar_yuv(encoding: str, columns: int, rows: int, padding: int) -> None:
    y, u, v = YUV[0], YUV[1, ::rows, ::columns], YUV[2, ::rows, ::columns]
    pair = [u, v] if encoding in ("nv12", "nv16", "nv24") else [v, u]
    chroma = np.stack(pair, axis=-1).reshape(len(u), -1)
    luma_message = image_message(encoding, y, WIDTH, padding=padding)
    chroma_message = image_message(encoding, chroma, WIDTH, padding=padding * 2 // columns)
    luma_message.data = np.concatenate([luma_message.data, chroma_message.data])
    image = decode_image(luma_message)
    wide = [plane.repeat(rows, axis=0).repeat(columns, axis=1) for plane in (u, v)]
    np.testing.assert_allclose(image, yuv_to_rgb(y, *wide), atol=1.01)
    luma_message.data = luma_message.data[:-1]
    assert reason_of(decode_image, luma_message) == "truncated_image"


def test_every_encoding_is_read_and_survives_tiny_images() -> None:
    """From 1 x 1 on: the right shape, or one InvalidInput where pixels share colours that are not there."""
    for encoding in sorted(SUPPORTED_ENCODINGS):
        needs_even_width = encoding in ("nv12", "nv21", "nv16", "nv61") or encoding.startswith(("yu", "uy"))
        needs_even_height = encoding in ("nv12", "nv21")
        for height, width in itertools.product((1, 2, 3, 4), (1, 2, 3, 4)):
            message = image_message(encoding, np.zeros((height, width * 8), np.uint8), width)
            message.data = np.zeros(bytes_of(encoding, message.step, height), np.uint8)
            too_small = encoding.startswith("bayer") and min(height, width) < 4
            if too_small or (needs_even_width and width % 2) or (needs_even_height and height % 2):
                assert reason_of(decode_image, message) == "malformed_image"
            else:
                assert decode_image(message).shape == (height, width, 3)


def bytes_of(encoding: str, step: int, height: int) -> int:
    rows = {"nv12": 1.5, "nv21": 1.5, "nv16": 2, "nv61": 2, "nv24": 3, "nv42": 3}.get(encoding, 1)
    return int(step * height * rows)


@pytest.mark.parametrize("container", [bytes, bytearray, lambda b: array.array("B", b)])
def test_containers_of_data(container: Any) -> None:
    message = image_message("bgr8", PIXELS[..., :3].reshape(HEIGHT, -1), WIDTH)
    message.data = container(message.data.tobytes())
    np.testing.assert_array_equal(decode_image(message), PIXELS[..., 2::-1])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"width": 0}, "malformed_image"),
        ({"height": 0}, "malformed_image"),
        ({"width": WIDTH + 1}, "malformed_image"),
        ({"height": HEIGHT + 1}, "truncated_image"),
        ({"height": HEIGHT - 1}, "malformed_image"),
        ({"width": 2**32 - 1, "height": 2**32 - 1, "step": 2**32 - 1}, "malformed_image"),
        ({"width": -1}, "malformed_image"),
        ({"height": 2.5}, "malformed_image"),
        ({"step": 0}, "malformed_image"),
        ({"step": 3 * WIDTH - 1}, "malformed_image"),
        ({"encoding": "h264"}, "unknown_encoding"),
        ({"encoding": ""}, "unknown_encoding"),
        ({"encoding": 8}, "malformed_image"),
        ({"encoding": "32FC1"}, "malformed_image"),
        ({"data": np.zeros(9, np.uint8)}, "truncated_image"),
        ({"data": np.zeros(0, np.uint8)}, "truncated_image"),
        ({"data": [0] * 144}, "malformed_image"),
        ({"is_bigendian": None}, "malformed_image"),
        ({"header": None}, "absurd_stamp"),
    ],
)
def test_contradictions_are_refused(change: dict[str, Any], reason: str) -> None:
    message = image_message("rgb8", PIXELS[..., :3].reshape(HEIGHT, -1), WIDTH)
    for name, value in change.items():
        setattr(message, name, value)
    assert reason_of(decode_image, message) == reason


# Compressed images


def encoded(picture: np.ndarray, extension: str = ".jpg", *parameters: int) -> bytes:
    """An RGB, grey or 16-bit picture as a stream."""
    bgr = picture[..., ::-1] if picture.ndim == 3 else picture
    done, stream = cv2.imencode(extension, np.ascontiguousarray(bgr), list(parameters))
    assert done
    return stream.tobytes()


@pytest.mark.parametrize("kind", ["jpeg", "jpg", "rgb8; jpeg compressed bgr8", "bgr8; jpeg compressed ", ""])
def test_jpeg_is_what_was_encoded(kind: str) -> None:
    picture = smooth(90, 130)
    image = decode_compressed_image(compressed_message(encoded(picture, ".jpg", cv2.IMWRITE_JPEG_QUALITY, 98), kind))
    assert image.shape == picture.shape
    assert np.abs(image.astype(int) - picture).mean() < 1.5
    assert not image.flags.writeable


def test_png_is_exact_in_all_its_kinds() -> None:
    picture = RNG.integers(0, 256, (33, 47, 3), dtype=np.uint8)
    grey, deep = picture[..., 0], picture.astype(np.uint16) * 257
    alpha = np.dstack([picture, grey])[..., [2, 1, 0, 3]]
    for stream, expected in (
        (encoded(picture, ".png"), picture),
        (encoded(grey, ".png"), np.repeat(grey[..., None], 3, axis=2)),
        (encoded(deep, ".png"), picture),
        (cv2.imencode(".png", alpha)[1].tobytes(), picture),
    ):
        np.testing.assert_array_equal(decode_compressed_image(compressed_message(stream, "png")), expected)


def test_a_bayer_pattern_compressed_as_grey_gets_its_colours() -> None:
    mosaic = np.zeros((16, 16), np.uint8)
    mosaic[0::2, 0::2], mosaic[0::2, 1::2], mosaic[1::2, 0::2], mosaic[1::2, 1::2] = 200, 100, 100, 40
    image = decode_compressed_image(compressed_message(encoded(mosaic, ".png"), "bayer_rggb8; png compressed "))
    np.testing.assert_array_equal(image[2:-2, 2:-2], np.broadcast_to((200, 100, 40), (12, 12, 3)))
    unknown = compressed_message(encoded(mosaic, ".png"), "bayer_xggb8; png compressed ")
    assert reason_of(decode_compressed_image, unknown) == "unknown_encoding"


def test_exif_does_not_turn_the_picture() -> None:
    """Calibration belongs to pixels as stored."""
    stream = encoded(smooth(40, 60))
    orientation = struct.pack(">HHIHH", 0x0112, 3, 1, 6, 0)  # "rotated by 90 degrees"
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01" + orientation + b"\0\0\0\0"
    tagged = stream[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + stream[2:]
    turned = cv2.imdecode(np.frombuffer(tagged, np.uint8), cv2.IMREAD_COLOR)
    assert turned.shape == (60, 40, 3)  # OpenCV's default does turn it
    assert decode_compressed_image(compressed_message(tagged)).shape == (40, 60, 3)


NOISE = cv2.GaussianBlur(RNG.integers(0, 256, (200, 320, 3), dtype=np.uint8), (0, 0), 2)


@pytest.mark.parametrize("extension", [".jpg", ".png"])
def test_a_stream_cut_anywhere_is_refused(extension: str) -> None:
    stream = encoded(NOISE, extension)
    assert decode_compressed_image(compressed_message(stream)).shape == NOISE.shape
    for length in [*range(1, 700, 13), *range(700, len(stream) - 2, 997), len(stream) - 2]:
        expected = "unknown_encoding" if length < (3 if extension == ".jpg" else 8) else "truncated_image"
        assert reason_of(decode_compressed_image, compressed_message(stream[:length])) == expected


# Older OpenCV writes 4:2:0 only, and does not have the constants.
SAMPLING = getattr(cv2, "IMWRITE_JPEG_SAMPLING_FACTOR", None)


@pytest.mark.parametrize("sampling", ["420", "422", "444"] if SAMPLING is not None else ["420"])
def test_a_jpeg_cut_and_closed_again_is_refused(sampling: str) -> None:
    """Cameras that lose packets write the end marker all the same; decoders fill up with grey."""
    parameters = () if SAMPLING is None else (SAMPLING, getattr(cv2, f"IMWRITE_JPEG_SAMPLING_FACTOR_{sampling}"))
    found = 0
    for picture in (NOISE, NOISE[..., 0]):
        stream = encoded(picture, ".jpg", *parameters)
        for share in (0.2, 0.37, 0.5, 0.63, 0.8, 0.9):
            cut = stream[: int(len(stream) * share)].rstrip(b"\xff") + b"\xff\xd9"
            try:
                decode_compressed_image(compressed_message(cut))
            except InvalidInput as error:
                found += error.reason == "truncated_image"
    assert found >= 9  # of 12: a cut near the ends of a row cannot be told from a border


def test_grey_borders_are_not_taken_for_missing_data() -> None:
    for rows, columns in ((slice(150, None), slice(None)), (slice(None), slice(250, None)), (slice(0), slice(0))):
        picture = NOISE.copy()
        picture[rows, columns] = 128
        decode_compressed_image(compressed_message(encoded(picture)))
    decode_compressed_image(compressed_message(encoded(np.full((200, 320, 3), 128, np.uint8))))


def test_trailing_bytes_after_a_complete_jpeg_are_fine() -> None:
    """Cameras hand over whole buffers."""
    stream = encoded(NOISE)
    whole, padded = (decode_compressed_image(compressed_message(s)) for s in (stream, stream + b"\0" * 5000))
    np.testing.assert_array_equal(whole, padded)


def test_progressive_and_grey_jpeg() -> None:
    image = decode_compressed_image(compressed_message(encoded(NOISE, ".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1)))
    assert np.abs(image.astype(int) - NOISE).mean() < 4
    grey = decode_compressed_image(compressed_message(encoded(NOISE[..., 0])))
    assert (grey[..., 0] == grey[..., 2]).all()


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_claiming(width: int, height: int) -> bytes:
    head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + png_chunk(b"IDAT", zlib.compress(b"\0" * 100)) + png_chunk(b"IEND", b"")


def jpeg_claiming(width: int, height: int) -> bytes:
    stream = bytearray(encoded(smooth(16, 16)))
    frame = stream.index(b"\xff\xc0")
    stream[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(stream)


@pytest.mark.parametrize("claim", [png_claiming, jpeg_claiming])
def test_claimed_sizes_are_checked_before_memory_is_taken(claim: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("the decoder was asked"))
    assert reason_of(decode_compressed_image, compressed_message(claim(65535, 65535))) == "malformed_image"
    assert reason_of(decode_compressed_image, compressed_message(claim(0, 16))) == "malformed_image"
    assert reason_of(decode_compressed_image, compressed_message(claim(5000, 5000))) == "truncated_image"


def test_other_formats_are_refused_with_a_way_out() -> None:
    depth = compressed_message(b"\0" * 12 + encoded(NOISE[..., 0], ".png"), "16UC1; compressedDepth png")
    with pytest.raises(InvalidInput, match="raw depth") as caught:
        decode_compressed_image(depth)
    assert caught.value.reason == "unknown_encoding"
    for message in (
        compressed_message(b""),
        compressed_message(b"RIFF....WEBP"),
        compressed_message(b"\0\0\0\1", "h264"),
    ):
        assert reason_of(decode_compressed_image, message) == "unknown_encoding"
    damaged = bytearray(encoded(NOISE, ".png"))
    damaged[len(damaged) // 2] ^= 0x55
    assert reason_of(decode_compressed_image, compressed_message(bytes(damaged))) == "malformed_image"
    nothing = TYPES["sensor_msgs/msg/CompressedImage"](compressed_message(b"").header, 3, np.zeros(3, np.uint8))
    assert reason_of(decode_compressed_image, nothing) == "malformed_image"
