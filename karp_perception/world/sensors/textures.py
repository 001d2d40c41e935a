"""Patterns that stick to what they are on: grain, bricks, cobbles, panes. Each fades as pixels outgrow it."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from karp_perception.core.compiled import PER_PIXEL, PER_ROW, njit
from karp_perception.world.geometry.ground import Surface
from karp_perception.world.geometry.materials import Material
from karp_perception.world.geometry.primitives import hash3

NOISE_SIZE = 256  # a power of two
_MASK = NOISE_SIZE - 1
_CELL_SIGMA = 1.1  # of the noise's blur: about three cells make a blob
_LARGEST_BLOB = 0.02  # cycles per cell

_BRICK, _PLASTER, _CONCRETE = int(Material.BRICK), int(Material.PLASTER), int(Material.CONCRETE)
_STONE, _BARK, _WOOD, _LEAVES = int(Material.STONE), int(Material.BARK), int(Material.WOOD), int(Material.LEAVES)
_WINDOW, _CLOTH, _TARPAULIN = int(Material.WINDOW), int(Material.CLOTH), int(Material.TARPAULIN)
_COBBLE, _GRASS, _PAVEMENT = int(Surface.COBBLE), int(Surface.GRASS), int(Surface.PAVEMENT)
_OLD, _MARKING, _ASPHALT = int(Surface.ASPHALT_OLD), int(Surface.MARKING), int(Surface.ASPHALT)
_KERB, _CONCRETE_FLOOR = int(Surface.KERB), int(Surface.CONCRETE)

_BRICK_LONG, _BRICK_HIGH, _JOINT = 0.25, 0.083, 0.012  # m, with a joint
_SLAB = 0.5  # m, of a pavement
_COBBLE_CELL = 0.12  # m
_SMOOTH = 0.1  # strength of a texture that no camera sees
_PANE_WIDE, _PANE_HIGH = 1.25, 1.5  # m, of large fronts of glass


@lru_cache(maxsize=1)
def noise() -> np.ndarray:
    """(256, 512) float32 of noise without seams, mean 0 and standard deviation 1. Always the same.

    The left half is smooth; the right half has blobs of many sizes, the larger the stronger, as clouds and stains do.
    """
    white = np.random.default_rng(20210).standard_normal((2, NOISE_SIZE, NOISE_SIZE))
    frequency = np.fft.fftfreq(NOISE_SIZE)
    squared = frequency[:, None] ** 2 + frequency[None, :] ** 2
    smooth = np.exp(-2 * (math.pi * _CELL_SIGMA) ** 2 * squared)
    many = smooth * np.minimum(squared / _LARGEST_BLOB**2, 1.0) / np.maximum(squared, 1e-9) ** 0.75
    found = np.fft.ifft2(np.fft.fft2(white) * np.stack([smooth, many])).real
    found = (found - found.mean(axis=(1, 2), keepdims=True)) / found.std(axis=(1, 2), keepdims=True)
    return np.ascontiguousarray(np.concatenate(list(found), axis=1).astype(np.float32))


@njit(**PER_PIXEL)
def noise_at(tile, u, v, half=0):
    """Noise at a place in cells of the tile, bilinear: smooth, or with `half` = NOISE_SIZE of many sizes."""
    i, j = math.floor(u), math.floor(v)
    f, g = u - i, v - j
    a, b = int(i) & _MASK, (int(j) & _MASK) + half
    c, d = (int(i) + 1) & _MASK, ((int(j) + 1) & _MASK) + half
    low = tile[a, b] + f * (tile[c, b] - tile[a, b])
    high = tile[a, d] + f * (tile[c, d] - tile[a, d])
    return low + g * (high - low)


@njit(**PER_PIXEL)
def fade(size, pixel):
    """1 where a pattern of that size (m) is well resolved by pixels of `pixel` m, 0 where it is not."""
    return min(max(0.75 * size / pixel - 0.5, 0.0), 1.0)


@njit(**PER_ROW)
def grain(tile, x, y, pixel, fine, middle, wide):
    """A factor around 1: noise of blobs of 2 cm, 15 cm and 2 m, of these strengths, as far as they are resolved."""
    f = 1.0
    if wide > 0.0:
        f += wide * noise_at(tile, 1.3 * x, 1.3 * y)
    k = fade(0.15, pixel) * middle
    if k > 0.0:
        f += k * noise_at(tile, 17.0 * x + 31.0, 17.0 * y)
    k = fade(0.02, pixel) * fine
    if k > 0.0:
        f += k * noise_at(tile, 130.0 * x, 130.0 * y + 57.0)
    return max(f, 0.15)


@njit(**PER_ROW)
def ground_texture(tile, surface, x, y, pixel):
    """Factors (light, warm) of a surface's colour at a place in the world, m; `warm` > 0 is browner, < 0 greener."""
    large = noise_at(tile, 2.5 * x, 2.5 * y, NOISE_SIZE)  # stains of 1 to 20 m
    if surface == _GRASS:
        return grain(tile, x, y, pixel, 0.30, 0.22, 0.0) * (1.0 + 0.08 * large), 0.14 * large
    if surface in (_ASPHALT, _OLD):
        old = surface == _OLD
        f = grain(tile, x, y, pixel, 0.12, 0.04, 0.0) * (1.0 + 0.06 * large)
        if large > (-0.3 if old else 0.9) and pixel < 0.1:
            crack = noise_at(tile, 0.45 * x + 9.0, 0.45 * y)
            if abs(crack) < (0.02 if old else 0.006):
                f *= 1.0 - 0.5 * fade(0.04, pixel)
        if large < (-1.2 if old else -2.0):
            f *= 0.8  # a patch that was mended
        return f, 0.02
    if surface == _MARKING:
        worn = noise_at(tile, 9.0 * x, 9.0 * y) + 0.8 * noise_at(tile, 0.8 * x, 0.8 * y)
        return 1.0 - 0.10 * min(max(worn - 0.2, 0.0), 2.0), 0.0
    if surface in (_PAVEMENT, _CONCRETE_FLOOR):
        slab = _SLAB if surface == _PAVEMENT else 4.0
        i, j = math.floor(x / slab), math.floor(y / slab)
        f = grain(tile, x, y, pixel, 0.06, 0.03, 0.0) * (1.0 + 0.05 * large)
        f *= 1.0 + 0.12 * (hash3(int(i), int(j), 5) - 0.5) * fade(slab, pixel)
        s, t = x - slab * i, y - slab * j
        if min(s, t) < 0.012 + 0.4 * pixel:
            f *= 1.0 - 0.35 * fade(0.2 * slab, pixel) * 0.012 / (0.012 + 0.4 * pixel)
        return f, 0.03 * large
    if surface == _COBBLE:
        row = math.floor(y / _COBBLE_CELL)
        shifted = x / _COBBLE_CELL + 0.5 * (int(row) & 1)
        column = math.floor(shifted)
        s, t = abs(shifted - column - 0.5), abs(y / _COBBLE_CELL - row - 0.5)
        f = 1.0 + 0.35 * (hash3(int(column), int(row), 3) - 0.5) * fade(_COBBLE_CELL, pixel)
        f *= 1.0 - 0.5 * fade(0.06, pixel) * min(max((max(s, t) - 0.36) * 10.0, 0.0), 1.0)
        return f * (1.0 + 0.06 * large), 0.03 * large
    if surface == _KERB:
        return grain(tile, x, y, pixel, 0.08, 0.05, 0.0) * (1.0 + 0.06 * large), 0.0
    return grain(tile, x, y, pixel, 0.25, 0.14, 0.0) * (1.0 + 0.10 * large), 0.05 * large


@njit(**PER_ROW)
def wall_texture(tile, material, strength, u, v, pixel):
    """Factor of the light that an upright or lying face sends back; u along it and v up it, m, of its own primitive."""
    if material == _BRICK:
        near = fade(_BRICK_HIGH, pixel)
        f = grain(tile, u, v, pixel, 0.10, 0.05, 0.10)
        if near > 0.0:
            row = math.floor(v / _BRICK_HIGH)
            shifted = u / _BRICK_LONG + 0.5 * (int(row) & 1)
            column = math.floor(shifted)
            f *= 1.0 + near * 0.35 * (hash3(int(column), int(row), 8) - 0.5)
            if v - row * _BRICK_HIGH < _JOINT or (shifted - column) * _BRICK_LONG < _JOINT:
                f *= 1.0 + 0.45 * near * fade(_JOINT * 4.0, pixel)
        return f
    if material == _BARK:
        return grain(tile, 2.5 * u, 0.4 * v, pixel, 0.25, 0.28, 0.08)
    if material == _WOOD:
        board = math.floor(u / 0.14)
        f = grain(tile, 1.6 * u, 0.25 * v, pixel, 0.10, 0.10, 0.05)
        f *= 1.0 + 0.22 * (hash3(int(board), 3, 1) - 0.5) * fade(0.14, pixel)
        return f * (0.6 if u - 0.14 * board < 0.012 and fade(0.05, pixel) > 0.5 else 1.0)
    if material in (_PLASTER, _CONCRETE):
        f = grain(tile, u, v, pixel, 0.05, 0.025, 0.04)
        # Water has run down: streaks are long and narrow.
        return f * (1.0 + 0.05 * noise_at(tile, 2.2 * u, 0.12 * v))
    if material == _STONE:
        row = math.floor(v / 0.3)
        column = math.floor(u / 0.5 + 0.5 * (int(row) & 1))
        f = grain(tile, u, v, pixel, 0.12, 0.10, 0.06)
        return f * (1.0 + 0.3 * (hash3(int(column), int(row), 2) - 0.5) * fade(0.3, pixel))
    if material in (_CLOTH, _TARPAULIN):
        return grain(tile, 1.5 * u, 0.6 * v, pixel, 0.06, 0.10, 0.05)
    if strength <= _SMOOTH:
        return 1.0
    return grain(tile, u, v, pixel, 0.4 * strength, 0.3 * strength, 0.15 * strength)


@njit(**PER_ROW)
def pane(u, v, wide, high, pixel):
    """Of a front of glass of wide x high m, at (u, v) from its middle: (share of frame 0..1, number of the pane)."""
    columns, rows = max(math.floor(wide / _PANE_WIDE + 0.5), 1.0), max(math.floor(high / _PANE_HIGH + 0.5), 1.0)
    s, t = (u / wide + 0.5) * columns, (v / high + 0.5) * rows
    i, j = math.floor(s), math.floor(t)
    frame = 0.045 + 0.3 * pixel
    edge_u = min(s - i, 1.0 - s + i) * wide / columns
    edge_v = min(t - j, 1.0 - t + j) * high / rows
    share = 1.0 if min(edge_u, edge_v) < frame else 0.0
    return share * min(0.045 / frame * 1.5, 1.0), int(i) + 97 * int(j)
