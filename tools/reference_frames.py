"""Make `models/reference_frames.npz` anew: `.venv/bin/python tools/reference_frames.py`.

Needed only where the world or the sensors have changed so much that the old frames no longer look like it. What was
made from them has to follow: `karp export --model nano --out DIR`, and its references.npz belongs into models/nano.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2

from karp_perception.core import CameraFrame, SensorFrame
from karp_perception.detection.runtime.reference_frames import save_frames
from karp_perception.world.world_frames import WorldFrames

FILE = Path(__file__).parents[1] / "models" / "reference_frames.npz"
SEED = 500_000_000  # between those of training and those of evaluation
PLACES = (  # family, rig; roundabouts are kept apart for evaluation
    ("straight", "surround"), ("intersection", "nuscenes"), ("parking", "nuscenes"), ("rural", "surround"),
    ("curve", "nuscenes"), ("yard", "surround"), ("motorway", "surround"), ("intersection", "nuscenes"),
)  # fmt: skip
WIDTH = 640  # px of an image: no network here takes a wider one


def main() -> None:
    """Write the file."""
    frames = []
    for number, (family, rig) in enumerate(PLACES):
        sensors, _ = next(iter(WorldFrames(SEED + number, (family,), rig, per_drive=1)))
        cameras = {name: _small(camera) for name, camera in sensors.cameras.items() if camera is not None}
        frames.append(SensorFrame(0, cameras, sensors.lidar))
    save_frames(FILE, frames)
    print(f"{FILE}: {len(frames)} frames, {FILE.stat().st_size / 1e6:.1f} MB")


def _small(camera: CameraFrame) -> CameraFrame:
    """The camera with an image of at most WIDTH columns."""
    height, width = camera.image.shape[:2]
    if width <= WIDTH:
        return camera
    scale = WIDTH / width
    image = cv2.resize(camera.image, (WIDTH, round(height * scale)), interpolation=cv2.INTER_AREA)
    intrinsics = camera.intrinsics.copy()
    intrinsics[:2] *= scale
    intrinsics[:2, 2] += 0.5 * scale - 0.5  # pixel centres have whole numbers
    return replace(camera, image=image, intrinsics=intrinsics)


if __name__ == "__main__":
    main()
