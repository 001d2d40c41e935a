"""A street of constant curvature between two pavements: its coordinates, its ground and how that looks from above."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from karp_perception.world.solids import Material

LANE_COLOR, ROAD_COLOR, KERB_COLOR = (222, 222, 214), (78, 80, 84), (150, 149, 145)
PAVEMENT_COLOR, GRASS_COLOR = (142, 138, 132), (96, 122, 74)


@dataclass(frozen=True)
class Street:
    """Two lanes, a parking strip and a pavement on each side, along an arc.

    Street coordinates: s along the centre line, d to its left, both m. The frame is that of the centre line at s = 0:
    x along it, y to the left.
    """

    radius: float = 300.0  # m of the centre line, bending to the left
    lane: float = 3.5  # m, width of each of the two lanes
    parking: float = 2.3  # m
    pavement: float = 3.2  # m, beyond which grass begins, at the same height
    kerb_height: float = 0.12  # m
    dash_length: float = 3.0  # m, of the centre line's dashes, repeated every `dash_period`
    dash_period: float = 9.0  # m
    crossing: float | None = 62.0  # m, s of the middle of the zebra crossing
    crossing_width: float = 4.0  # m, along s
    marking_width: float = 0.14  # m

    @property
    def kerb(self) -> float:
        """|d| where the carriageway ends, m."""
        return self.lane + self.parking

    def pose(self, s: np.ndarray, d: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """x, y (m) and heading of the street (rad) at street coordinates."""
        angle = np.asarray(s) / self.radius
        r = self.radius - np.asarray(d)
        return r * np.sin(angle), self.radius - r * np.cos(angle), angle

    def coordinates(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """s and d of points in the street's frame, m."""
        up = self.radius - y
        return self.radius * np.arctan2(x, up), self.radius - np.hypot(x, up)

    def height(self, d: np.ndarray) -> np.ndarray:
        """Height of the ground, m."""
        return np.where(np.abs(d) < self.kerb, 0.0, self.kerb_height)

    def cast(
        self, origin: np.ndarray, directions: np.ndarray, ego: tuple[float, float, float]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Where rays meet the ground.

        Args:
            origin: (3, columns) m in base_link. directions: (3, beams, columns), unit length.
            ego: x, y, yaw of base_link in the street's frame.

        Returns:
            distance (beams, columns) in m, infinite for rays into the sky, and what is hit, of Material.
        """
        distance = np.full(directions.shape[1:], np.inf)
        material = np.full(distance.shape, np.int32(Material.ASPHALT))
        down = directions[2].max(axis=1) < -1e-3
        dx, dy, dz = directions[:, down]
        ox, oy, oz = origin
        c, s = np.cos(ego[2]), np.sin(ego[2])
        gx, gy = ego[0] + c * ox - s * oy, ego[1] + s * ox + c * oy
        gdx, gdy = c * dx - s * dy, s * dx + c * dy

        def across(t: np.ndarray) -> np.ndarray:
            return self.radius - np.hypot(gx + t * gdx, self.radius - gy - t * gdy)

        t_road = -oz / dz
        t_high = (self.kerb_height - oz) / dz
        d_road, d_high = across(t_road), across(t_high)
        on_road = np.abs(d_road) < self.kerb
        on_high = np.abs(d_high) >= self.kerb
        # Between the two: the kerb's face, which the ray meets where |d| passes the kerb.
        gain = np.abs(d_road) - np.abs(d_high)
        share = np.clip((self.kerb - np.abs(d_high)) / np.where(gain > 1e-9, gain, 1.0), 0, 1)
        t = np.where(on_high, t_high, np.where(on_road, t_road, t_high + share * (t_road - t_high)))
        s_hit = self.radius * np.arctan2(gx + t * gdx, self.radius - gy - t * gdy)
        distance[down] = t
        paint = np.where(self.painted(s_hit, d_road), np.int32(Material.MARKING), np.int32(Material.ASPHALT))
        material[down] = np.where(on_road, paint, np.int32(Material.PAVEMENT))
        return distance, material

    def painted(self, s: np.ndarray, d: np.ndarray) -> np.ndarray:
        """Mask of the white paint: dashes in the middle, lines along the parking strips, the zebra crossing."""
        half = 0.5 * self.marking_width
        dashes = (np.abs(d) < half) & (np.mod(s, self.dash_period) < self.dash_length)
        edges = np.abs(np.abs(d) - self.lane) < half
        if self.crossing is None:
            return dashes | edges
        zebra = np.abs(s - self.crossing) < 0.5 * self.crossing_width
        stripes = (np.abs(d) < self.lane) & (np.mod(d + 0.25, 1.0) < 0.5)
        return np.where(zebra, stripes, dashes | edges)

    def texture(self, s: tuple[float, float], d: tuple[float, float], step: float, seed: int) -> np.ndarray:
        """(S, D, 3) uint8 RGB of the ground seen from above; rows along s, columns along d, `step` m a pixel."""
        rng = np.random.default_rng(seed)
        along = np.arange(s[0], s[1], step)[:, None]
        across = np.arange(d[0], d[1], step)[None]
        shape = (along.shape[0], across.shape[1])
        side = np.abs(across)
        kinds = np.select(
            [side < self.kerb, side < self.kerb + 0.15, side < self.kerb + self.pavement], [0, 1, 2], default=3
        )
        colors = np.array([ROAD_COLOR, KERB_COLOR, PAVEMENT_COLOR, GRASS_COLOR], np.float32)
        image = np.broadcast_to(colors[kinds], (*shape, 3)).copy()
        # Wheel tracks are polished a little, slabs have joints, and nothing is of one colour.
        track = np.exp(-(((np.abs(side - self.lane / 2) - 0.8) / 0.35) ** 2)) * (side < self.lane)
        image += (6 * track)[..., None]
        joints = (kinds == 2) & ((np.mod(along, 1.2) < step) | (np.mod(side - self.kerb, 1.2) < step))
        image[joints] -= 16
        image[self.painted(along, across) & (kinds == 0)] = LANE_COLOR
        fine = rng.standard_normal(shape, dtype=np.float32)
        coarse = cv2.GaussianBlur(rng.standard_normal(shape, dtype=np.float32), (0, 0), 6) * 12
        strength = np.array([3.5, 3, 4, 11], np.float32)[kinds]
        return np.clip(image + ((fine + 1.2 * coarse) * strength)[..., None], 0, 255).astype(np.uint8)
