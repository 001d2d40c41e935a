"""Crisp text on images: each word is rendered once and then only blended, since drawings repeat their words."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from karp_perception.view.palette import Color

_CACHED_WORDS = 4096
_HAS_OUTLINES = hasattr(cv2, "FontFace")  # OpenCV 5 draws outline fonts; before that there are stroke fonts, ASCII only
_STROKE_SCALE = 1 / 24  # stroke font scale for a height of 1 px
_BOLD = 600


@lru_cache(maxsize=1)
def _face() -> object:
    return cv2.FontFace("sans")


@lru_cache(maxsize=_CACHED_WORDS)
def _word(word: str, size: int, weight: int) -> tuple[np.ndarray, int]:
    """Coverage (2 * size, width) uint8 with the baseline at row 1.4 * size, and how far the pen moves on, px."""
    height, baseline = 2 * size, round(1.4 * size)
    canvas = np.zeros((height, size * (len(word) + 2), 3), np.uint8)
    start = size // 2
    if _HAS_OUTLINES:
        (end, _), _ = cv2.putText(canvas, word, (start, baseline), (255, 255, 255), _face(), size, weight)
    else:
        plain = word.replace("²", "2").replace("·", "-").replace("—", "-").encode("ascii", "replace").decode()
        scale, stroke = size * _STROKE_SCALE, 2 if weight >= _BOLD else 1
        cv2.putText(canvas, plain, (start, baseline), cv2.FONT_HERSHEY_SIMPLEX, scale, (255,) * 3, stroke, cv2.LINE_AA)
        end = start + cv2.getTextSize(plain, cv2.FONT_HERSHEY_SIMPLEX, scale, stroke)[0][0]
    mask = np.ascontiguousarray(canvas[:, start : min(end + 2, canvas.shape[1]), 0])
    mask.flags.writeable = False
    return mask, end - start


@lru_cache(maxsize=_CACHED_WORDS)
def _line(text: str, size: int, weight: int) -> tuple[np.ndarray, int]:
    """Coverage of a line of words and its width, px."""
    space = round(0.27 * size)
    words = [_word(word, size, weight) for word in text.split(" ")]
    width = sum(advance for _, advance in words) + space * (len(words) - 1)
    coverage = np.zeros((2 * size, width + 2), np.uint8)
    x = 0
    for mask, advance in words:
        room = coverage[:, x : x + mask.shape[1]]
        np.maximum(room, mask[:, : room.shape[1]], out=room)
        x += advance + space
    return coverage, width


def text_width(text: str, size: int, weight: int = 400) -> int:
    """Width of a line in px."""
    return _line(text, size, weight)[1] if text else 0


def draw_text(
    image: np.ndarray,
    text: str,
    at: tuple[float, float],
    color: Color,
    size: int = 14,
    *,
    weight: int = 400,
    align: str = "left",
) -> int:
    """Draws one line, in place.

    Args:
        image: (H, W, 3) uint8.
        at: x, y of the baseline, px.
        size: height of the letters' em, px. weight: 400 regular to 800 heavy.
        align: "left", "center" or "right": which part of the line `at` says.

    Returns:
        the width in px. Parts outside the image are cut off.
    """
    if not text:
        return 0
    coverage, width = _line(text, size, weight)
    x = round(at[0]) - {"left": 0, "center": width // 2, "right": width}[align]
    y = round(at[1]) - round(1.4 * size)
    top, left = max(0, -y), max(0, -x)
    target = image[max(0, y) : max(0, y + coverage.shape[0]), max(0, x) : max(0, x + coverage.shape[1])]
    coverage = coverage[top : top + target.shape[0], left : left + target.shape[1]]
    if target.size == 0 or coverage.size == 0:
        return width
    alpha = coverage[..., None].astype(np.uint16)
    alpha += alpha >> 7  # 0..256, so that a shift divides
    target[:] = (target * (256 - alpha) + np.array(color, np.uint16) * alpha) >> 8
    return width


def fitted(text: str, width: int, size: int, weight: int = 400) -> str:
    """`text`, shortened with an ellipsis where it is wider than `width` px."""
    if text_width(text, size, weight) <= width:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if text_width(text[:middle].rstrip() + "...", size, weight) <= width:
            low = middle
        else:
            high = middle - 1
    return text[:low].rstrip() + "..."


def wrapped(text: str, width: int, size: int, weight: int = 400, lines: int = 2) -> list[str]:
    """`text` broken at spaces into at most `lines` lines of at most `width` px; the last one is shortened to fit."""
    result: list[str] = []
    rest = text.split(" ")
    while rest and len(result) < lines - 1:
        count = 1
        while count < len(rest) and text_width(" ".join(rest[: count + 1]), size, weight) <= width:
            count += 1
        result.append(" ".join(rest[:count]))
        rest = rest[count:]
    if rest:
        result.append(" ".join(rest))
    return [fitted(line, width, size, weight) for line in result]
