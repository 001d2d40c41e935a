"""sensor_msgs/Image and CompressedImage -> (H, W, 3) uint8 RGB.

How an encoding becomes RGB, where its name leaves it open:
- 16 bits a channel are brought to 8 over their whole range, 65535 to 255. Cameras that put 10 or 12 bits into the low
  end of 16 need `significant_bits`.
- 16UC1 and 32FC1 are depth (REP 118: mm and m): grey, from black at 0 m to white at 65.535 m and beyond; NaN,
  negative numbers and minus infinity are black. 16UC1 is mono16, in other words.
- 8UC3, 8UC4, 16UC3 and 16UC4 do not name their channels: they are taken as OpenCV's, B G R (A).
- Alpha is left out.
- YUV is ITU-R BT.601 with limited range (Y 16..235), as V4L2 cameras and OpenCV have it. `yuv422` is U Y V Y, as ROS
  has it.
- Bayer patterns are named in reading order from the top left pixel, as in ROS; OpenCV's older constants are named
  from the second pixel of the second row, hence the crossed table below.
- Compressed images hold their own colour order; `format` matters only where it names a Bayer pattern that was
  compressed as a grey image.

InvalidInput is raised with the reason `malformed_image`, `truncated_image`, `unknown_encoding` or `absurd_stamp`. No
allocation is larger than a small multiple of the data that came. Results are read-only; an rgb8 image without padding
is the message's own memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from karp_perception.core.errors import InvalidInput
from karp_perception.sensing.image_streams import ImageStream, inspect_stream
from karp_perception.sensing.messages import byte_array, flag, header_stamp_ns, integer, text

_SUBJECT = "Image"
_MALFORMED, _UNKNOWN, _TRUNCATED = "malformed_image", "unknown_encoding", "truncated_image"
_WHITE_M = 65.535  # what 16 bits of mm can say
_MIN_BAYER_SIDE = 4  # OpenCV leaves smaller mosaics black
_LONGEST_SIDE = 1 << 20  # OpenCV computes sizes with 32-bit integers

# Y, U - 128, V - 128 to R, G, B: BT.601 limited range.
_BT601 = np.array([[1.164384, 0, 1.596027], [1.164384, -0.391762, -0.812968], [1.164384, 2.017232, 0]])
_BT601 = np.column_stack([_BT601, _BT601 @ [-16, -128, -128]])

_BAYER = {
    "rggb": cv2.COLOR_BayerBG2RGB,
    "bggr": cv2.COLOR_BayerRG2RGB,
    "gbrg": cv2.COLOR_BayerGR2RGB,
    "grbg": cv2.COLOR_BayerGB2RGB,
}


def _colour(code: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda pixels: cv2.cvtColor(pixels, code)


def _as_is(pixels: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(pixels)


def _demosaic(code: int) -> Callable[[np.ndarray], np.ndarray]:
    def convert(pixels: np.ndarray) -> np.ndarray:
        if min(pixels.shape[:2]) < _MIN_BAYER_SIDE:
            expected = f"a Bayer pattern of at least {_MIN_BAYER_SIDE} x {_MIN_BAYER_SIDE} pixels"
            raise InvalidInput(_SUBJECT, expected, f"{pixels.shape[1]} x {pixels.shape[0]}", reason=_MALFORMED)
        return cv2.cvtColor(pixels, code)

    return convert


def _depth(pixels: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", over="ignore"):
        grey = np.minimum(np.fmax(pixels * np.float32(255 / _WHITE_M), 0), 255)  # fmax: NaN becomes 0
    return cv2.cvtColor(np.rint(grey).astype(np.uint8), cv2.COLOR_GRAY2RGB)


@dataclass(frozen=True)
class _Packed:
    """An encoding with all channels of a pixel side by side. `convert` sees (H, W[, channels]) and gives RGB."""

    dtype: str
    channels: int
    convert: Callable[[np.ndarray], np.ndarray]
    even_width: bool = False


@dataclass(frozen=True)
class _SemiPlanar:
    """A plane of Y, then a plane of U and V in turns, both with the image's `step` a row of Y."""

    columns_per_chroma: int
    rows_per_chroma: int
    v_first: bool = False


def _encodings() -> dict[str, _Packed | _SemiPlanar]:
    table: dict[str, _Packed | _SemiPlanar] = {"32FC1": _Packed("f4", 1, _depth)}
    orders: dict[str, tuple[int, Callable[[np.ndarray], np.ndarray]]] = {
        "rgb": (3, _as_is),
        "rgba": (4, _colour(cv2.COLOR_RGBA2RGB)),
        "bgr": (3, _colour(cv2.COLOR_BGR2RGB)),
        "bgra": (4, _colour(cv2.COLOR_BGRA2RGB)),
        "mono": (1, _colour(cv2.COLOR_GRAY2RGB)),
        **{f"bayer_{pattern}": (1, _demosaic(code)) for pattern, code in _BAYER.items()},
    }
    for name, (channels, convert) in orders.items():
        table[f"{name}8"] = _Packed("u1", channels, convert)
        table[f"{name}16"] = _Packed("u2", channels, convert)
    for same, as_ in (("UC1", "mono"), ("UC3", "bgr"), ("UC4", "bgra")):
        table[f"8{same}"], table[f"16{same}"] = table[f"{as_}8"], table[f"{as_}16"]
    for name, code in (
        ("yuv422", cv2.COLOR_YUV2RGB_UYVY),
        ("uyvy", cv2.COLOR_YUV2RGB_UYVY),
        ("yuv422_yuy2", cv2.COLOR_YUV2RGB_YUY2),
        ("yuyv", cv2.COLOR_YUV2RGB_YUY2),
    ):
        table[name] = _Packed("u1", 2, _colour(code), even_width=True)
    table["nv12"], table["nv21"] = _SemiPlanar(2, 2), _SemiPlanar(2, 2, v_first=True)
    table["nv16"], table["nv61"] = _SemiPlanar(2, 1), _SemiPlanar(2, 1, v_first=True)
    table["nv24"], table["nv42"] = _SemiPlanar(1, 1), _SemiPlanar(1, 1, v_first=True)
    return table


_ENCODINGS = _encodings()

SUPPORTED_ENCODINGS = frozenset(_ENCODINGS)
"""What `decode_image` reads."""


def decode_image(message: Any, *, significant_bits: int = 16) -> np.ndarray:
    """Pixels of a sensor_msgs/Image as (H, W, 3) uint8 RGB.

    Args:
        message: of rclpy or rosbags, in one of SUPPORTED_ENCODINGS, rows padded or not, either byte order.
        significant_bits: how many of the 16 bits of mono16, rgb16, bayer_*16... the camera uses, 8 to 16.

    Raises InvalidInput where the message contradicts itself or has another encoding.
    """
    if not 8 <= significant_bits <= 16:
        raise InvalidInput("significant_bits", "8 to 16", significant_bits)
    header_stamp_ns(message, _SUBJECT)
    encoding = text(message, "encoding", _SUBJECT, _MALFORMED)
    layout = _ENCODINGS.get(encoding)
    if layout is None:
        known = ", ".join(sorted(_ENCODINGS))
        raise InvalidInput(f"{_SUBJECT} encoding", f"one of {known}", repr(encoding[:40]), reason=_UNKNOWN)
    height, width, step = (integer(message, name, _SUBJECT, _MALFORMED) for name in ("height", "width", "step"))
    big_endian = flag(message, "is_bigendian", _SUBJECT, _MALFORMED)
    data = byte_array(message, _SUBJECT, _MALFORMED)
    if not (0 < height <= _LONGEST_SIDE and 0 < width <= _LONGEST_SIDE):
        raise InvalidInput(_SUBJECT, f"1 to {_LONGEST_SIDE} rows and columns", f"{width} x {height}", reason=_MALFORMED)
    if isinstance(layout, _SemiPlanar):
        image = _semi_planar(data, width, height, step, layout)
    else:
        pixels = _packed(data, width, height, step, layout, big_endian)
        if layout.dtype == "u2":
            pixels = _to_8_bits(pixels, significant_bits)
        image = _converted(layout.convert, pixels)
    image.flags.writeable = False
    return image


def decode_compressed_image(message: Any) -> np.ndarray:
    """Pixels of a sensor_msgs/CompressedImage (JPEG or PNG) as (H, W, 3) uint8 RGB, as stored: EXIF turns nothing.

    Raises InvalidInput for truncated and damaged streams, other formats (compressedDepth, video) and absurd sizes.
    """
    subject = "CompressedImage"
    header_stamp_ns(message, subject)
    kind = text(message, "format", subject, _MALFORMED)
    lowered = kind.lower()
    for other, advice in (
        ("compresseddepth", "subscribe to the raw depth image; a lidar or a stereo camera's cloud goes in as points"),
        ("h264", "republish the video as images (ffmpeg_image_transport)"),
        ("h265", "republish the video as images (ffmpeg_image_transport)"),
    ):
        if other in lowered:
            raise InvalidInput(f"{subject} format", "jpeg or png", repr(kind[:60]), advice, reason=_UNKNOWN)
    data = byte_array(message, subject, _MALFORMED)
    stream = inspect_stream(data.tobytes())
    try:
        pixels = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise InvalidInput(
            f"{subject} ({stream.kind})", "a valid stream", _last_line(error), reason=_MALFORMED
        ) from None
    if pixels is None or pixels.shape[:2] != (stream.height, stream.width) or pixels.dtype.kind != "u":
        got = "one that OpenCV cannot decode"
        raise InvalidInput(f"{subject} ({stream.kind})", "a valid stream", got, reason=_MALFORMED)
    if pixels.dtype == np.uint16:
        pixels = _to_8_bits(pixels, 16)
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    if stream.kind == "jpeg" and _ends_in_filling(pixels.reshape(*pixels.shape[:2], channels), stream):
        got = "one whose last rows are missing, though it has an end"
        raise InvalidInput(f"{subject} (JPEG)", "a complete stream", got, reason=_TRUNCATED)
    original = lowered.split(";")[0].strip()
    if channels == 1 and original.startswith("bayer_"):
        layout = _ENCODINGS.get(original)
        if not isinstance(layout, _Packed):
            raise InvalidInput(f"{subject} format", "a Bayer pattern that is known", repr(kind[:60]), reason=_UNKNOWN)
        image = _converted(layout.convert, pixels)
    else:
        code = {1: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGB}.get(channels)
        if code is None:
            raise InvalidInput(f"{subject} ({stream.kind})", "1, 3 or 4 channels", channels, reason=_MALFORMED)
        image = _converted(_colour(code), pixels)
    image.flags.writeable = False
    return image


def _last_line(error: cv2.error) -> str:
    return str(error).strip().splitlines()[-1]


def _converted(convert: Callable[[np.ndarray], np.ndarray], pixels: np.ndarray) -> np.ndarray:
    try:
        return convert(pixels)
    except cv2.error as error:
        raise InvalidInput(_SUBJECT, "pixels that OpenCV can convert", _last_line(error), reason=_MALFORMED) from None


def _packed(data: np.ndarray, width: int, height: int, step: int, layout: _Packed, big_endian: bool) -> np.ndarray:
    """(H, W) or (H, W, channels) pixels in native byte order, over the message's memory where that is possible."""
    if layout.even_width and width % 2:
        raise InvalidInput(_SUBJECT, "an even width, as two pixels share their colour", width, reason=_MALFORMED)
    dtype = np.dtype((">" if big_endian else "<") + layout.dtype)
    pixel = layout.channels * dtype.itemsize
    _check_rows(data, height, width * pixel, step)
    pixels = np.ndarray((height, width, layout.channels), dtype, data, strides=(step, pixel, dtype.itemsize))
    if not (dtype.isnative and pixels.flags.aligned):
        pixels = pixels.astype(dtype.newbyteorder("="))
    pixels.flags.writeable = False
    return pixels[..., 0] if layout.channels == 1 else pixels


def _check_rows(data: np.ndarray, rows: int, row_bytes: int, step: int) -> None:
    if step < row_bytes:
        raise InvalidInput(f"{_SUBJECT} step", f"at least {row_bytes} bytes a row", step, reason=_MALFORMED)
    if len(data) != rows * step:
        reason = _TRUNCATED if len(data) < rows * step else _MALFORMED
        raise InvalidInput(f"{_SUBJECT} data", f"{rows} rows of {step} bytes", f"{len(data)} bytes", reason=reason)


def _semi_planar(data: np.ndarray, width: int, height: int, step: int, layout: _SemiPlanar) -> np.ndarray:
    """RGB of an image in two planes."""
    if width % layout.columns_per_chroma or height % layout.rows_per_chroma:
        raise InvalidInput(
            _SUBJECT, "an even size, as pixels share their colour", f"{width} x {height}", reason=_MALFORMED
        )
    # A row of U and V has two bytes for each of its columns: `step` again, or twice that where every pixel has both.
    chroma_step = 2 * step // layout.columns_per_chroma
    chroma_height = height // layout.rows_per_chroma
    total = height * step + chroma_height * chroma_step
    if step < width:
        raise InvalidInput(f"{_SUBJECT} step", f"at least {width} bytes a row", step, reason=_MALFORMED)
    if len(data) != total:
        reason = _TRUNCATED if len(data) < total else _MALFORMED
        raise InvalidInput(f"{_SUBJECT} data", f"two planes of {total} bytes", f"{len(data)} bytes", reason=reason)
    luma = np.ascontiguousarray(data[: height * step].reshape(height, step)[:, :width])
    chroma = data[height * step :].reshape(chroma_height, chroma_step)[:, : 2 * width // layout.columns_per_chroma]
    chroma = np.ascontiguousarray(chroma).reshape(chroma_height, -1, 2)
    if layout.rows_per_chroma == 2:
        code = cv2.COLOR_YUV2RGB_NV21 if layout.v_first else cv2.COLOR_YUV2RGB_NV12
        return _converted(lambda y: cv2.cvtColorTwoPlane(y, chroma, code), luma)
    if layout.v_first:
        chroma = chroma[..., ::-1]
    if layout.columns_per_chroma == 2:
        # Y and the byte of U or V below it side by side are Y U Y V.
        packed = np.stack([luma, chroma.reshape(height, width)], axis=-1)
        return _converted(_colour(cv2.COLOR_YUV2RGB_YUY2), packed)
    return _converted(lambda y: cv2.transform(np.dstack([y, chroma]), _BT601), luma)


def _to_8_bits(pixels: np.ndarray, significant_bits: int) -> np.ndarray:
    return cv2.convertScaleAbs(pixels, alpha=255 / ((1 << significant_bits) - 1))


def _ends_in_filling(pixels: np.ndarray, stream: ImageStream) -> bool:
    """Was a JPEG cut off and closed with an end marker (as cameras do that lose packets)?

    Decoders then fill the rest, in reading order, with coding units of exactly 128 in every channel. A picture's own
    grey border begins at the left, or reaches up the right side; such a filling begins somewhere within a row.
    """
    if (pixels[-1, -1] != 128).any():
        return False
    height, width = pixels.shape[:2]
    (unit_width, unit_height) = stream.coding_unit
    units_across, units_down = -(-width // unit_width), -(-height // unit_height)
    grey = np.ones((units_down, units_across), bool)
    for dy in (1, 3):  # a quarter in from each edge of a unit: colours at its very edge are mixed with the neighbour's
        for dx in (1, 3):
            rows = np.minimum(np.arange(units_down) * unit_height + dy * unit_height // 4, height - 1)
            columns = np.minimum(np.arange(units_across) * unit_width + dx * unit_width // 4, width - 1)
            grey &= (pixels[np.ix_(rows, columns)] == 128).all(axis=-1)
    coloured = np.flatnonzero(~grey.reshape(-1))
    if len(coloured) == 0:
        return False
    start = int(coloured[-1]) + 1
    row, column = divmod(start, units_across)
    is_border = column == 0 or (row > 0 and bool(grey[row - 1, -1]))
    return not is_border and grey.size - start >= max(4, units_across // 4)
