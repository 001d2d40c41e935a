"""Motion blur: each pixel is smeared along the way that what it shows moves over the image during the exposure."""

from __future__ import annotations

import math

import numpy as np

from karp_perception.core.compiled import PER_ROW, njit
from karp_perception.world.geometry.cast import Carrier
from karp_perception.world.geometry.scene import SceneRays
from karp_perception.world.sensors.image_cast import Layers
from karp_perception.world.sensors.outline import View, project

_SKY = 1e4  # m, how far away what is nowhere is taken to be
_MOST_STEPS = 24
_SHORTEST = 0.6  # px


def blur_motion(
    light: np.ndarray, scene: SceneRays, layers: Layers, view: View, carrier: Carrier, exposure_time: float
) -> np.ndarray:
    """(H, W, 3) float32 light, smeared.

    Args:
        light: (H, W, 3) float32, sharp.
        scene, layers, view: what it was drawn from.
        carrier: of the camera, with its velocity and yaw rate.
        exposure_time: s around the stamp.
    """
    pose = np.asarray(carrier.pose, float)
    lever = view.origin - pose[:3, 3]
    own = pose[:3, :2] @ np.asarray(carrier.velocity, float)
    own = own + carrier.yaw_rate * np.cross(pose[:3, 2], lever)
    turn = view.rotation.T @ (carrier.yaw_rate * pose[:3, 2])
    out = np.empty_like(light)
    _smear(light, scene, layers, view, own, turn, float(exposure_time), out)
    return out


@njit(**PER_ROW)
def _smear(light, scene, layers, view, own, turn, duration, out):
    height, width = layers.w.shape
    R = view.rotation
    for y in range(height):
        for x in range(width):
            w, p = layers.w[y, x], layers.hit[y, x]
            if layers.glass_w[y, x] > w:
                w, p = layers.glass_w[y, x], layers.glass_hit[y, x]
            t = 1.0 / w if w > 0.0 else _SKY
            a, b, c = t * view.dx[y, x], t * view.dy[y, x], t * view.dz[y, x]
            vx, vy, vz = -own[0], -own[1], -own[2]
            if p >= 0:
                body = scene.body[p]
                vx, vy, vz = vx + scene.velocity[body, 0], vy + scene.velocity[body, 1], vz + scene.velocity[body, 2]
            # How it moves in the optical frame, half an exposure's worth: that frame moves and turns.
            h = 0.5 * duration
            da = h * (R[0, 0] * vx + R[1, 0] * vy + R[2, 0] * vz - turn[1] * c + turn[2] * b)
            db = h * (R[0, 1] * vx + R[1, 1] * vy + R[2, 1] * vz - turn[2] * a + turn[0] * c)
            dc = h * (R[0, 2] * vx + R[1, 2] * vy + R[2, 2] * vz - turn[0] * b + turn[1] * a)
            du, dv = 0.0, 0.0
            if view.fisheye or c > 2.0 * abs(dc):
                u, v = project(view, a - da, b - db, c - dc)
                du, dv = project(view, a + da, b + db, c + dc)
                du, dv = du - u, dv - v
            length = math.sqrt(du * du + dv * dv)
            steps = min(int(length) + 1, _MOST_STEPS) if length > _SHORTEST else 1
            red, green, blue, count = 0.0, 0.0, 0.0, 0
            for k in range(steps):
                f = (k + 0.5) / steps - 0.5
                i, j = math.floor(y + f * dv + 0.5), math.floor(x + f * du + 0.5)
                if 0 <= i < height and 0 <= j < width:
                    red, green, blue = red + light[i, j, 0], green + light[i, j, 1], blue + light[i, j, 2]
                    count += 1
            out[y, x, 0], out[y, x, 1], out[y, x, 2] = red / count, green / count, blue / count
