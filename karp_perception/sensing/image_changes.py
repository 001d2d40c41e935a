"""Changes to what an image shows: colours, light, noise, blur, weather, dirt.

Every function takes an image (H, W, 3) uint8 RGB and gives another one; all chance comes from the generator. Lengths
are shares of the image's width, so that a large image and its small copy suffer alike.
"""

from __future__ import annotations

import cv2
import numpy as np
from scipy.special import ndtri

GAMMA = 2.2  # from linear light to grey levels, about sRGB's
_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
_NORMAL = ndtri((np.arange(256) + 0.5) / 256).astype(np.float32)  # normal values that 256 equal shares of chance give
_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
_LEVELS = np.arange(256, dtype=np.float64)
_BLOOM_SIZE = 0.02  # of the width
_FOG_GREY = 205.0
_LARGEST_DISTANCE_M = 1000.0


def colored(
    image: np.ndarray, brightness: float = 1.0, contrast: float = 1.0, saturation: float = 1.0, hue: float = 0.0
) -> np.ndarray:
    """Brightness as a factor; contrast about the middle grey; saturation about each pixel's grey; hue turned, rad.

    The hue is turned about the grey axis of YIQ, which makes all four one affine change of RGB.
    """
    c, s = np.cos(hue), np.sin(hue)
    turn = np.linalg.inv(_YIQ) @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) @ _YIQ
    to_grey = np.tile(_LUMA, (3, 1))
    matrix = (saturation * np.eye(3) + (1 - saturation) * to_grey) @ turn
    matrix = brightness * contrast * matrix
    offset = 127.5 * (1.0 - contrast)
    return cv2.transform(image, np.c_[matrix, np.full(3, offset)].astype(np.float32))


def toned(image: np.ndarray, curve: np.ndarray) -> np.ndarray:
    """Every grey level through a curve (256,) of grey levels."""
    return cv2.LUT(image, np.clip(np.rint(curve), 0, 255).astype(np.uint8))


def with_gain(image: np.ndarray, gain: float) -> np.ndarray:
    """With `gain` times the light, clipped where the sensor is full."""
    return toned(image, 255.0 * np.minimum(1.0, gain * (_LEVELS / 255.0) ** GAMMA) ** (1 / GAMMA))


def noisy(image: np.ndarray, sigma: float, rng: np.random.Generator, grey_share: float = 0.0) -> np.ndarray:
    """With normal noise of `sigma` grey levels; a share of its variance is the same in all three channels."""
    drawn = np.frombuffer(rng.bytes(image.size), np.uint8).reshape(image.shape)
    noise = cv2.LUT(drawn, (_NORMAL * (sigma * np.sqrt(1.0 - grey_share))).astype(np.float32))
    if grey_share > 0:
        drawn = np.frombuffer(rng.bytes(image.shape[0] * image.shape[1]), np.uint8).reshape(image.shape[:2])
        noise += cv2.LUT(drawn, (_NORMAL * (sigma * np.sqrt(grey_share))).astype(np.float32))[..., None]
    return cv2.add(image, noise, dtype=cv2.CV_8U)


def in_low_light(image: np.ndarray, light: float, rng: np.random.Generator, full_well: float = 1500.0) -> np.ndarray:
    """As a camera with automatic gain shows it in `light` (0..1) of the light: dark and with shot and readout noise.

    Half of the loss, in stops, is made up for by gain. `full_well`: electrons of a white pixel in full light. Shot
    noise is the square root of the electrons; readout noise 5 electrons.
    """
    electrons = full_well * light * (_LEVELS / 255.0) ** GAMMA
    gain = light**-0.5
    shown = 255.0 * np.minimum(1.0, gain * electrons / full_well) ** (1 / GAMMA)
    # Noise in grey levels of each level: that of electrons, times the slope of the curve, which is steep at the dark.
    above = 255.0 * np.minimum(1.0, gain * (electrons + np.sqrt(electrons + 25.0)) / full_well) ** (1 / GAMMA)
    sigma = (above - shown).astype(np.float32)
    drawn = np.frombuffer(rng.bytes(image.size), np.uint8).reshape(image.shape)
    noise = cv2.LUT(drawn, _NORMAL) * cv2.LUT(image, sigma)
    return cv2.add(toned(image, shown), noise, dtype=cv2.CV_8U)


def overexposed(image: np.ndarray, gain: float) -> np.ndarray:
    """With `gain` times the light: clipped, and bright places bleed over their surroundings."""
    bright = with_gain(image, gain)
    full = cv2.threshold(bright, 250, 255, cv2.THRESH_TOZERO)[1]
    glow = blurred(full, _BLOOM_SIZE * image.shape[1])
    return cv2.addWeighted(bright, 1.0, glow, 0.5 * (1.0 - 1.0 / max(gain, 1.0)), 0.0)


def blurred(image: np.ndarray, sigma_px: float) -> np.ndarray:
    """Out of focus by a normal spread of `sigma_px`; unchanged below a fifth of a pixel."""
    return image if sigma_px < 0.2 else cv2.GaussianBlur(image, (0, 0), sigma_px)


def motion_blurred(image: np.ndarray, length_px: float, angle: float) -> np.ndarray:
    """Smeared evenly along a line of `length_px` at `angle` (rad, 0: along rows)."""
    if length_px < 1.0:
        return image
    size = int(np.ceil(length_px)) // 2 * 2 + 3
    middle, fine = size // 2, 16  # in sixteenths of a pixel: OpenCV's fixed point has 4 bits here
    half = 0.5 * (length_px - 1.0) * np.array([np.cos(angle), np.sin(angle)])
    ends = [tuple(int(v) for v in np.rint((middle + sign * half) * fine)) for sign in (-1, 1)]
    kernel = np.zeros((size, size), np.float32)
    cv2.line(kernel, *ends, 1.0, 1, cv2.LINE_AA, 4)
    if kernel.sum() == 0:
        return image
    return cv2.filter2D(image, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REPLICATE)


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """Through JPEG of `quality` 1..100."""
    _, data = cv2.imencode(".jpg", image[:, :, ::-1], (cv2.IMWRITE_JPEG_QUALITY, quality))
    return np.ascontiguousarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[:, :, ::-1])


def coarser(image: np.ndarray, factor: float) -> np.ndarray:
    """Down to 1 / `factor` of the pixels along each side, and up again."""
    height, width = image.shape[:2]
    small = (max(1, round(width / factor)), max(1, round(height / factor)))
    return cv2.resize(cv2.resize(image, small, interpolation=cv2.INTER_AREA), (width, height))


def cut_out(image: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """With one rectangle of about a share of the image in one random colour."""
    height, width = image.shape[:2]
    aspect = np.exp(rng.uniform(-0.7, 0.7))
    h = min(height, max(1, round(height * np.sqrt(share) * aspect)))
    w = min(width, max(1, round(width * np.sqrt(share) / aspect)))
    y, x = int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1))
    result = image.copy()
    result[y : y + h, x : x + w] = rng.integers(0, 256, 3)
    return result


def foggy(image: np.ndarray, distance_m: np.ndarray, visibility_m: float) -> np.ndarray:
    """Through fog: I = I0 exp(-a d) + A (1 - exp(-a d)), a = 2.996 / visibility (Koschmieder).

    Args:
        image: uint8.
        distance_m: (H, W) of what each pixel shows.
        visibility_m: at which contrast has fallen to 5 %.
    """
    clear = np.exp(distance_m.astype(np.float32) * np.float32(-2.996 / visibility_m))
    mean = float(image.mean())
    air = min(_FOG_GREY, 60.0 + mean)  # fog is as bright as the light that falls on it
    return np.rint(air + (image - np.float32(air)) * clear[..., None]).clip(0, 255).astype(np.uint8)


def rainy(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """In rain of strength 0..1: streaks, drops on the lens that blur what is behind them, and a grey veil."""
    height, width = image.shape[:2]
    streaks = np.zeros((height, width), np.uint8)
    count, slant = int(700 * strength), rng.normal(0.0, 0.1)
    start = rng.random((count, 2)) * (width, 1.3 * height) - (0, 0.3 * height)
    length = height * rng.uniform(0.04, 0.16, count)
    lean = slant + rng.normal(0.0, 0.03, count)
    ends = start + np.stack([length * lean, length], axis=1)
    lines = np.rint(np.stack([start, ends], axis=1) * 16).astype(np.int32)
    cv2.polylines(streaks, list(lines), False, 130, max(1, width // 700), cv2.LINE_AA, 4)
    veil = 0.25 * strength
    result = cv2.addWeighted(image, 1.0 - veil, np.full_like(image, 150), veil, 0.0)
    result = cv2.add(result, np.repeat(cv2.multiply(streaks, 0.5)[..., None], 3, axis=2))
    drops = np.zeros((height, width), np.uint8)
    for _ in range(int(30 * strength)):
        middle = tuple(int(v) for v in rng.random(2) * (width, height))
        cv2.circle(drops, middle, max(1, int(width * rng.uniform(0.004, 0.016))), 255, -1, cv2.LINE_AA)
    return _mixed(result, blurred(result, 0.02 * width), blurred(drops, 0.002 * width))


def dirty(image: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """With dirt on the lens: soft, nearly opaque stains that cover about a share of the image."""
    height, width = image.shape[:2]
    # Smooth noise, cut at the height above which it covers that share.
    grid = (max(3, round(14 * height / width)), 14)
    field = cv2.resize(rng.standard_normal(grid, np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    border = float(np.quantile(field, 1.0 - share))
    cover = ((field - border) * 6.0 + 0.5).clip(0.0, 0.95) * 255.0
    stain = np.empty_like(image)
    stain[:] = rng.integers(35, 90) + np.array([8, 4, 0])
    return _mixed(image, stain, cover.astype(np.uint8))


def _mixed(image: np.ndarray, other: np.ndarray, share: np.ndarray) -> np.ndarray:
    """`other` over the image, where its share (H, W) uint8 says how much."""
    weight = share.astype(np.float32)[..., None] * np.float32(1 / 255)
    return np.rint(image + (other.astype(np.float32) - image) * weight).clip(0, 255).astype(np.uint8)


def flat_distance(
    shape: tuple[int, int], intrinsics: np.ndarray, T_base_camera: np.ndarray, skyline_m: float = 150.0
) -> np.ndarray:
    """(H, W) float32 m to level ground at z = 0 along every pixel's ray, at most `skyline_m` up to 6 degrees above the
    horizon and 1000 m in the sky over that.
    """
    height, width = shape
    K = np.linalg.inv(intrinsics)
    u, v = np.meshgrid(np.arange(width), np.arange(height))
    rays = np.stack([u, v, np.ones_like(u)], axis=-1).astype(np.float32) @ (T_base_camera[:3, :3] @ K).T.astype(
        np.float32
    )
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    down = np.maximum(-rays[..., 2], np.float32(1e-4))
    ground = np.minimum(np.float32(max(float(T_base_camera[2, 3]), 0.1)) / down, np.float32(skyline_m))
    return np.where(rays[..., 2] > np.sin(np.radians(6.0)), np.float32(_LARGEST_DISTANCE_M), ground)
