"""Walls and fences that run along x; pieces of walls and facades that look like lorries to a detector."""

from __future__ import annotations

from functools import partial

import numpy as np

from karp_perception.world.geometry.materials import Material
from karp_perception.world.geometry.shape import FIRST, SECOND
from karp_perception.world.models.colors import BRICK, PLASTER, pick
from karp_perception.world.models.family import Family, Size, Sizes
from karp_perception.world.models.model import Model
from karp_perception.world.models.sculptor import Sculptor, Span

MAX_POSTS = 14


def _masonry(rng: np.random.Generator) -> tuple[Material, tuple[float, float, float]]:
    kind = rng.integers(4)
    if kind == 0:
        return Material.BRICK, pick(BRICK, rng)
    if kind == 1:
        return Material.PLASTER, pick(PLASTER, rng)
    return (Material.CONCRETE, (158.0, 154.0, 146.0)) if kind == 2 else (Material.STONE, (138.0, 132.0, 124.0))


def _posts(length: float, apart: float) -> list[float]:
    count = max(1, min(MAX_POSTS, round(length / apart)))
    return [-0.5 * length + k * length / count for k in range(count + 1)]


def draw_wall(name: str, rng: np.random.Generator, size: Size) -> Model:
    """A garden wall with a cap and piers, or a plain one of concrete."""
    L, W, H = size
    material, color = _masonry(rng) if name == "wall" else (Material.CONCRETE, (164.0, 160.0, 152.0))
    how = {"tint": FIRST}
    body = 0.36 * W
    b = Sculptor()
    cap = rng.random() < 0.6 and name == "wall"
    top = H - 0.1 if cap else H
    b.slab((-0.5 * L, 0.5 * L), (-body, body), (0, top), material, **how)
    if cap:
        b.slab((-0.5 * L, 0.5 * L), (-0.5 * W, 0.5 * W), (top, H), Material.CONCRETE)
    if rng.random() < 0.7 or not cap:
        for x in _posts(L, rng.uniform(2.5, 4.5)):
            x = min(max(x, 0.15 - 0.5 * L), 0.5 * L - 0.15)
            b.slab((x - 0.15, x + 0.15), (-0.5 * W, 0.5 * W), (0, top), material, **how)
    if rng.random() < 0.5:
        b.slab((-0.5 * L, 0.5 * L), (-0.46 * W, 0.46 * W), (0, 0.3), Material.CONCRETE)
    return Model(name, None, size, b.fitted(size), color)


def draw_wall_fragment(rng: np.random.Generator, size: Size) -> Model:
    """What is left of a wall: pieces of different heights with gaps, niches and a step aside."""
    L, W, H = size
    material, color = _masonry(rng)
    count = int(rng.integers(3, 7))
    edges = np.sort(np.concatenate([[0, 1], rng.uniform(0.08, 0.92, count - 1)])) * L - 0.5 * L
    tallest = int(rng.integers(count))
    b = Sculptor()
    for k in range(count):
        if k not in (0, tallest, count - 1) and rng.random() < 0.3:
            continue
        top = H if k == tallest else H * rng.uniform(0.3, 1.0)
        step = rng.uniform(-0.2, 0.2) * W
        thick = W * rng.uniform(0.25, 0.4)
        x = (float(edges[k]), max(float(edges[k + 1]), float(edges[k]) + 0.1))
        b.slab(
            x,
            (step - thick, step + thick),
            (0, top),
            material,
            taper=(0, rng.uniform(0, 0.2) * (x[1] - x[0]), 0, 0),
            tint=FIRST,
        )
    b.slab((-0.5 * L, 0.5 * L), (-0.5 * W, 0.5 * W), (0, rng.uniform(0.05, 0.25)), Material.STONE)
    return Model("wall_fragment", None, size, b.fitted(size), color)


def _openings(
    b: Sculptor, rng: np.random.Generator, x: Span, y: Span, H: float, material: Material, storey: float
) -> None:
    """A plane of wall with openings: piers between bands, panes behind some."""
    bands = max(1, round(H / storey))
    tall = H / bands
    bays = max(1, min(6, round((x[1] - x[0]) / rng.uniform(1.8, 2.8))))
    wide = (x[1] - x[0]) / bays
    door = int(rng.integers(bays))
    for k in range(bands + 1):
        low, high = max(k * tall - 0.25 * tall, 0), min(k * tall + 0.32 * tall, H)
        if k == 0 and bays > 1:
            for part in ((x[0], x[0] + door * wide + 0.1), (x[0] + (door + 1) * wide - 0.1, x[1])):
                if part[1] - part[0] > 0.15:
                    b.slab(part, y, (0, high), material, tint=FIRST)
        else:
            b.slab(x, y, (low, high), material, tint=FIRST)
    for k in range(bays + 1):
        at = x[0] + k * wide
        half = 0.2 * wide
        b.slab((max(x[0], at - half), min(x[1], at + half)), y, (0, H), material, tint=FIRST)
    if rng.random() < 0.6:
        deep = y[0] + 0.65 * (y[1] - y[0])
        b.slab((x[0] + 0.1, x[1] - 0.1), (deep, deep + 0.03), (0.3 * tall, H - 0.1), Material.WINDOW)


def draw_facade_fragment(rng: np.random.Generator, size: Size) -> Model:
    """A free-standing piece of facade with windows, a doorway and a niche; its front faces -y."""
    L, W, H = size
    material, color = _masonry(rng)
    b = Sculptor()
    thick = min(0.35, 0.6 * W)
    _openings(
        b,
        rng,
        (-0.5 * L, 0.5 * L),
        (-0.5 * W + 0.3 * (W - thick), -0.5 * W + 0.3 * (W - thick) + thick),
        H,
        material,
        rng.uniform(2.6, 3.4),
    )
    b.slab((-0.5 * L, -0.5 * L + 0.5), (-0.5 * W, 0.5 * W), (0, H), material, tint=FIRST)
    if rng.random() < 0.5:  # what is left of the wall across
        x = rng.uniform(-0.2, 0.4) * L
        b.slab(
            (x, x + 0.3), (0, 0.5 * W), (0, rng.uniform(0.4, 1.0) * H), material, taper=(0, 0, 0, 0.3 * W), tint=FIRST
        )
    return Model("facade_fragment", None, size, b.fitted(size), color)


def draw_house_corner(rng: np.random.Generator, size: Size) -> Model:
    """Two walls that meet at the corner (-x, -y), with openings in the front one."""
    L, W, H = size
    material, color = _masonry(rng)
    b = Sculptor()
    thick = 0.35
    _openings(b, rng, (-0.5 * L, 0.5 * L), (-0.5 * W, thick - 0.5 * W), H, material, rng.uniform(2.6, 3.4))
    b.slab((-0.5 * L, thick - 0.5 * L), (-0.5 * W, 0.5 * W), (0, H), material, tint=FIRST)
    b.slab((-0.5 * L, thick - 0.5 * L + 0.06), (-0.5 * W, thick + 0.06 - 0.5 * W), (0, H), Material.STONE)
    return Model("house_corner", None, size, b.fitted(size), color)


def draw_fence(rng: np.random.Generator, size: Size) -> Model:
    """Wire mesh between posts, which most beams pass; sometimes on a low wall."""
    L, W, H = size
    foot = rng.uniform(0.2, 0.5) if rng.random() < 0.3 else 0.04
    b = Sculptor()
    b.slab((-0.5 * L, 0.5 * L), (-0.012, 0.012), (foot, H - 0.03), Material.MESH, tint=FIRST)
    b.slab((-0.5 * L, 0.5 * L), (-0.02, 0.02), (H - 0.05, H - 0.01), Material.METAL)
    if foot > 0.1:
        b.slab((-0.5 * L, 0.5 * L), (-0.5 * W, 0.5 * W), (0, foot), Material.CONCRETE)
    for x in _posts(L, 2.5):
        x = min(max(x, 0.03 - 0.5 * L), 0.5 * L - 0.03)
        b.slab((x - 0.03, x + 0.03), (-0.5 * W, 0.5 * W), (0, H), Material.METAL, tint=FIRST)
    color = ((58.0, 88.0, 66.0), (120.0, 124.0, 122.0), (40.0, 42.0, 44.0))[rng.integers(3)]
    return Model("fence", None, size, b.fitted(size), color)


def draw_picket_fence(rng: np.random.Generator, size: Size) -> Model:
    """Boards with gaps on two rails; at most forty of them, wider on long fences."""
    L, W, H = size
    b = Sculptor()
    count = max(3, min(36, round(L / 0.2)))
    pitch = L / count
    for z in (0.25 * H, 0.75 * H):
        b.slab((-0.5 * L, 0.5 * L), (0.0, 0.5 * W), (z - 0.04, z + 0.04), Material.WOOD, tint=FIRST)
    share = rng.uniform(0.5, 0.8)
    for k in range(count):
        x = -0.5 * L + k * pitch if k else -0.5 * L
        right = 0.5 * L if k == count - 1 else x + share * pitch
        b.slab((x, right), (-0.5 * W, 0.0), (0.06, H), Material.WOOD, tint=FIRST)
    for x in _posts(L, 2.4):
        x = min(max(x, 0.05 - 0.5 * L), 0.5 * L - 0.05)
        b.slab((x - 0.05, x + 0.05), (0.0, 0.5 * W), (0, 0.95 * H), Material.WOOD, tint=FIRST)
    color = ((134.0, 104.0, 72.0), (226.0, 224.0, 218.0), (84.0, 62.0, 46.0))[rng.integers(3)]
    return Model("picket_fence", None, size, b.fitted(size), color)


def draw_guard_rail(rng: np.random.Generator, size: Size) -> Model:
    """A steel rail on posts, its face towards -y."""
    L, W, H = size
    b = Sculptor()
    for low, high in ((H - 0.31, H - 0.18), (H - 0.13, H)):
        b.slab((-0.5 * L, 0.5 * L), (-0.5 * W, 0.06 - 0.5 * W), (low, high), Material.METAL)
    b.slab((-0.5 * L, 0.5 * L), (0.05 - 0.5 * W, 0.09 - 0.5 * W), (H - 0.2, H - 0.1), Material.METAL)
    for x in _posts(L, 4.0 if rng.random() < 0.5 else 2.0):
        x = min(max(x, 0.05 - 0.5 * L), 0.5 * L - 0.05)
        b.slab((x - 0.05, x + 0.05), (0.5 * W - 0.1, 0.5 * W), (0, H - 0.02), Material.METAL)
        b.slab((x - 0.04, x + 0.04), (0.08 - 0.5 * W, 0.5 * W - 0.08), (H - 0.24, H - 0.06), Material.METAL)
    return Model("guard_rail", None, size, b.fitted(size))


def draw_noise_wall(rng: np.random.Generator, size: Size) -> Model:
    """Panels between steel posts, with a pane of glass on top now and then."""
    L, W, H = size
    b = Sculptor()
    glass = rng.random() < 0.35
    top = 0.6 * H if glass else H - 0.05
    material = (Material.WOOD, Material.CONCRETE, Material.METAL)[rng.integers(3)]
    b.slab((-0.5 * L, 0.5 * L), (-0.3 * W, 0.3 * W), (0, top), material)
    if glass:
        b.slab((-0.5 * L, 0.5 * L), (-0.015, 0.015), (top, H - 0.05), Material.WINDOW)
    b.slab((-0.5 * L, 0.5 * L), (-0.32 * W, 0.32 * W), (0, 0.4), Material.CONCRETE)
    for x in _posts(L, 4.0):
        x = min(max(x, 0.08 - 0.5 * L), 0.5 * L - 0.08)
        b.slab((x - 0.08, x + 0.08), (-0.5 * W, 0.5 * W), (0, H), Material.METAL, tint=SECOND)
    return Model("noise_wall", None, size, b.fitted(size))


WALLS: tuple[Family, ...] = (
    Family("wall", None, Sizes((10.0, 0.36, 1.9), (3.5, 0.06, 0.45), 0.3), partial(draw_wall, "wall")),
    Family("concrete_wall", None, Sizes((12.0, 0.30, 2.4), (4.0, 0.05, 0.6), 0.3), partial(draw_wall, "concrete_wall")),
    Family("wall_fragment", None, Sizes((4.6, 0.75, 2.2), (1.6, 0.2, 0.7), 0.3), draw_wall_fragment),
    Family("facade_fragment", None, Sizes((7.0, 1.4, 4.2), (2.2, 0.35, 1.2), 0.3), draw_facade_fragment),
    Family("house_corner", None, Sizes((6.5, 5.0, 4.6), (1.6, 1.2, 1.3), 0.4), draw_house_corner),
    Family("fence", None, Sizes((12.0, 0.10, 1.6), (4.0, 0.02, 0.35), 0.2), draw_fence),
    Family("picket_fence", None, Sizes((7.0, 0.14, 1.15), (2.0, 0.02, 0.25), 0.2), draw_picket_fence),
    Family("guard_rail", None, Sizes((24.0, 0.38, 0.78), (6.0, 0.03, 0.03), 0.2), draw_guard_rail),
    Family("noise_wall", None, Sizes((24.0, 0.30, 3.2), (6.0, 0.03, 0.5), 0.2), draw_noise_wall),
)
