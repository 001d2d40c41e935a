"""From light to numbers: lens, exposure, the sensor's noise and its tone curve."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from karp_perception.core.compiled import njit
from karp_perception.core.settings import Settings, setting
from karp_perception.world.geometry.primitives import hash3
from karp_perception.world.sensors.rain import add_rain
from karp_perception.world.sensors.shading import linear

_LEVELS = 4096  # of the table of the tone curve, over light 0.._WHITE
_WHITE = 2.0  # light at which the curve is full: highlights above 1 roll off
_NOISE_SIZE = 512


@dataclass(frozen=True)
class Lens(Settings):
    """How a camera turns light into an image. The defaults are those of a decent automotive camera."""

    exposure_ev: float = setting(0.0, "brighter or darker than a middle grey", unit="EV", low=-4.0, high=4.0)
    exposure_time: float = setting(0.0, "of the shutter for motion blur; 0 freezes motion", unit="s", low=0, high=0.1)
    full_well: float = setting(9000.0, "electrons at full scale: fewer make more shot noise", low=100, high=1e6)
    read_noise: float = setting(0.0025, "standard deviation in the dark, share of full scale", low=0.0, high=0.1)
    vignette: float = setting(0.22, "light lost in the corners", low=0.0, high=0.9)
    blur: float = setting(0.55, "standard deviation of the point spread", unit="px", low=0.0, high=5.0)
    warmth: float = setting(0.0, "red gained and blue lost by a wrong white balance", low=-0.3, high=0.3)
    saturation: float = setting(1.12, "of colours", low=0.0, high=2.0)

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Lens:
        """A lens and a sensor as they differ from car to car."""
        return cls(
            exposure_ev=float(rng.normal(0.0, 0.35)),
            full_well=float(np.exp(rng.uniform(math.log(2e3), math.log(3e4)))),
            read_noise=float(rng.uniform(0.001, 0.006)), vignette=float(rng.uniform(0.0, 0.45)),
            blur=float(rng.uniform(0.4, 0.9)), warmth=float(rng.normal(0.0, 0.04)),
            saturation=float(rng.uniform(0.85, 1.25)),
        )  # fmt: skip


@lru_cache(maxsize=8)
def falloff(height: int, width: int, vignette: float) -> np.ndarray:
    """(H, W) float32 share of the light that reaches each pixel: cos⁴-like, `vignette` lost in the corners."""
    v, u = np.mgrid[:height, :width]
    squared = (u - 0.5 * (width - 1)) ** 2 + (v - 0.5 * (height - 1)) ** 2
    return (1.0 - vignette * squared / squared.max()).astype(np.float32)


@lru_cache(maxsize=1)
def _tone() -> np.ndarray:
    """(4096,) uint8: sRGB numbers of light, with a shoulder that begins at 0.7."""
    light = np.linspace(0.0, _WHITE, _LEVELS)
    knee = 0.7
    over = light - knee
    rolled = np.where(over > 0, knee + (1 - knee) * (1 - np.exp(-np.maximum(over, 0) / (1 - knee))), light)
    coded = np.where(rolled <= 0.0031308, 12.92 * rolled, 1.055 * np.maximum(rolled, 1e-9) ** (1 / 2.4) - 0.055)
    return np.clip(np.round(255 * coded), 0, 255).astype(np.uint8)


@lru_cache(maxsize=1)
def _grain() -> np.ndarray:
    """(512, 512) float32 of white normal noise."""
    return np.random.default_rng(512).standard_normal((_NOISE_SIZE, _NOISE_SIZE)).astype(np.float32)


@lru_cache(maxsize=16)
def _deviation(full_well: float, read_noise: float) -> np.ndarray:
    """(256,) float32 standard deviation of each sRGB number: shot and read noise through the tone curve's slope."""
    light = linear(np.arange(256.0))
    step = linear(np.arange(256.0) + 0.5) - linear(np.arange(256.0) - 0.5)
    step[0], step[-1] = step[1], step[-2]
    return (np.sqrt(light / full_well + read_noise**2) / step).astype(np.float32)


def develop(
    light: np.ndarray, lens: Lens, exposure: float, glow: bool, seed: int, rain: float = 0.0, lens_seed: int = 0
) -> np.ndarray:
    """(H, W, 3) uint8 image of light (H, W, 3) float32.

    Args:
        light: linear RGB.
        lens: of the camera.
        exposure: gain that makes the scene's mean a middle grey.
        glow: whether lamps are so much brighter than the rest that they spread over the lens.
        seed: of the noise and of falling rain.
        rain: mm/h. lens_seed: of the drops on the lens.
    """
    height, width = light.shape[:2]
    gain = exposure * 2.0**lens.exposure_ev
    if glow:
        light = _bloomed(light, gain)
    image = np.empty((height, width, 3), np.uint8)
    balance = np.array([1.0 + lens.warmth, 1.0, 1.0 - lens.warmth], np.float32) * gain
    _expose(light, falloff(height, width, lens.vignette), balance, lens.saturation, _tone(), image)
    if lens.blur > 0.0:
        image = cv2.GaussianBlur(image, (0, 0), lens.blur)
    if rain > 0.0:
        image = add_rain(image, rain, seed, lens_seed)
    if lens.read_noise > 0.0 or lens.full_well < 1e6:
        _add_noise(image, _deviation(lens.full_well, lens.read_noise), _grain(), seed)
    return image


def _bloomed(light: np.ndarray, gain: float) -> np.ndarray:
    """Light with a halo around what is far over full scale."""
    small = cv2.resize(light, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    bright = np.clip(small - 1.2 / gain, 0.0, 5.0 / gain)
    halo = 0.75 * cv2.GaussianBlur(bright, (0, 0), 2.0) + 0.35 * cv2.GaussianBlur(bright, (0, 0), 7.0)
    return light + cv2.resize(halo, (light.shape[1], light.shape[0]), interpolation=cv2.INTER_LINEAR)


@njit(cache=True, nogil=True)
def _expose(light, falloff, balance, saturation, tone, image):
    per_light = np.float32((_LEVELS - 1) / _WHITE)
    last = _LEVELS - 1
    rest = np.float32(1.0 - saturation)
    full = np.float32(saturation)
    for y in range(light.shape[0]):
        for x in range(light.shape[1]):
            k = falloff[y, x] * per_light
            r, g, b = light[y, x, 0] * balance[0] * k, light[y, x, 1] * balance[1] * k, light[y, x, 2] * balance[2] * k
            grey = rest * (np.float32(0.2126) * r + np.float32(0.7152) * g + np.float32(0.0722) * b)
            r, g, b = grey + full * r, grey + full * g, grey + full * b
            image[y, x, 0] = tone[int(min(max(r, np.float32(0)), np.float32(last)))]
            image[y, x, 1] = tone[int(min(max(g, np.float32(0)), np.float32(last)))]
            image[y, x, 2] = tone[int(min(max(b, np.float32(0)), np.float32(last)))]


@njit(cache=True, nogil=True)
def _add_noise(image, deviation, grain, seed):
    size = grain.shape[0]
    for y in range(image.shape[0]):
        # Each row and channel begins somewhere else in the store of noise.
        row = grain[int(hash3(y, seed, 11) * size)]
        at0 = int(hash3(y, seed, 12) * size)
        for x in range(image.shape[1]):
            at = at0 + 3 * x
            for c in range(3):
                level = image[y, x, c]
                value = level + deviation[level] * row[(at + c) % size] + np.float32(0.5)
                image[y, x, c] = int(min(max(value, np.float32(0.0)), np.float32(255.0)))
