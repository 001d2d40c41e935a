"""Image files (JPEG, PNG and others) as RGB arrays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np

from karp_perception.core.errors import InvalidInput
from karp_perception.sensing.images import decode_compressed_image

_HEADER = SimpleNamespace(stamp=SimpleNamespace(sec=0, nanosec=0))  # a file is read as the message it could have been


def read_image(file: Path) -> np.ndarray:
    """(H, W, 3) uint8 RGB of an image file.

    Raises InvalidInput, naming the file, for one that is missing, truncated or no image.
    """
    try:
        data = Path(file).read_bytes()
    except OSError as error:
        raise InvalidInput(
            str(file), "an image", f"a file that cannot be read ({error.strerror})", "is it there?"
        ) from None
    try:
        return decode_compressed_image(SimpleNamespace(header=_HEADER, format="", data=data))
    except InvalidInput as error:
        got = f"{error.got} where {error.expected} should be"
        raise InvalidInput(str(file), "a whole image", got, "get the file again", reason=error.reason) from None


def write_image(file: Path, image: np.ndarray, options: Sequence[int] = ()) -> None:
    """Write (H, W, 3) uint8 RGB into a file, in the format of its suffix; `options` are OpenCV's.

    Raises InvalidInput, naming the file, where it cannot be written.
    """
    try:
        written = cv2.imwrite(str(file), image[..., ::-1], list(options))
    except cv2.error:
        written = False
    if not written:
        raise InvalidInput(
            str(file), "an image file that can be written", "an error of the encoder",
            "the suffix names the format (.png, .jpg), and its folder must be there",
        )  # fmt: skip
