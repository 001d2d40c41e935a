"""Time of the embedded world's cameras, beside OpenCV warping as many pixels. JSON, one line a set of cameras.

    python benchmarks/world_camera.py                        # 2 threads
    python benchmarks/world_camera.py --threads 1 --family intersection --repeat 30

`images_ms` is what the cameras of a set take together, `shared_ms` what they have in common (shadows, light): of the
least disturbed repeat; `cpu_ms` the CPU time of all threads. `over_remap` is `cpu_ms` in units of cv2.remap (bilinear,
one thread) on as many pixels: it hardly depends on the machine.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import cv2
import numpy as np

from karp_perception.world.embedded import EmbeddedWorld, Setup
from karp_perception.world.geometry.cast import Carrier
from karp_perception.world.rig import make_rig
from karp_perception.world.sensors.camera import Camera, CameraModel, Surroundings, render_all
from karp_perception.world.sensors.weather import Weather

SETS: dict[str, tuple[CameraModel, ...]] = {
    name: make_rig(name).cameras for name in ("nano", "demo", "surround", "fisheye", "kitti")
}
WARM_UP_TICKS = 20


def best(run: Callable[[], object], repeat: int) -> tuple[float, float]:
    """Wall and CPU time (ms) of the least disturbed run."""
    walls, cpus = [], []
    for _ in range(repeat):
        wall, cpu = time.perf_counter(), time.process_time()
        run()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return 1e3 * min(walls), 1e3 * min(cpus)


def remap_ms(pixels: int, repeat: int) -> float:
    width = 640
    height = max(pixels // width, 1)
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    v, u = np.mgrid[:height, :width].astype(np.float32)
    cv2.setNumThreads(1)
    return best(lambda: cv2.remap(image, u + 0.3, v + 0.3, cv2.INTER_LINEAR), repeat)[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--family", default="intersection")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=15)
    options = parser.parse_args()
    weather = Weather()
    with EmbeddedWorld(Setup(options.family, weather=weather), rig="lidar64") as world:
        world.reset(options.seed)
        for _ in range(WARM_UP_TICKS):
            world.tick()
        scene, ground = world.scene()
        ego = world.ego
        carrier = Carrier(ego.T_odom_base, (float(ego.velocity[0]), float(ego.velocity[1])), ego.yaw_rate)
        layout_ground = world.layout.ground
    around = Surroundings.of(scene, ground, carrier, weather, layout_ground)
    shared, _ = best(lambda: Surroundings.of(scene, ground, carrier, weather, layout_ground), options.repeat)
    for name, models in SETS.items():
        cameras = [Camera(model) for model in models]
        render_all(cameras, around, carrier, 0, 0, options.threads)
        wall, cpu = best(lambda c=cameras: render_all(c, around, carrier, 0, 0, options.threads), options.repeat)
        pixels = sum(model.width * model.height for model in models)
        row = {
            "cameras": name,
            "pixels": pixels,
            "bodies": len(scene.owner),
            "primitives": len(scene.kind),
            "shared_ms": round(shared, 2),
            "images_ms": round(wall, 2),
            "cpu_ms": round(cpu, 2),
            "ns_per_pixel": round(1e6 * cpu / pixels, 1),
            "over_remap": round(cpu / remap_ms(pixels, options.repeat), 1),
        }
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
