"""The embedded world as a whole: the same for the same seed, true to itself, closed without a trace."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest

from karp_perception.core import Boxes, Command, ConfigurationError
from karp_perception.core.geometry import invert_pose, project_points, transform_points
from karp_perception.world.embedded import EmbeddedWorld, Setup, WorldSettings
from karp_perception.world.interface import Truth, World
from karp_perception.world.layouts.families import FAMILIES
from karp_perception.world.sensors.weather import Weather

CLEAR = Weather()


def fingerprint(world: EmbeddedWorld, ticks: int) -> str:
    """Of everything that sensors and truth say over some ticks with a few commands."""
    digest = hashlib.sha256()
    for k in range(ticks):
        frame, truth = world.sensors(), world.truth()
        for camera in frame.cameras.values():
            digest.update(camera.image.tobytes())
        digest.update(frame.lidar.points.tobytes() + frame.lidar.time.tobytes())
        digest.update(frame.ego.T_odom_base.tobytes())
        for array in (truth.boxes.center, truth.boxes.velocity, truth.object_id, truth.visibility, truth.points_inside):
            digest.update(np.ascontiguousarray(array).tobytes())
        world.apply(Command(0.02 * k, 6.0, 1.0))
        world.tick()
    return digest.hexdigest()


_PROGRAM = """
import sys; sys.path.insert(0, {path!r})
from test_world_embedded import *
print(fingerprint(EmbeddedWorld(Setup("intersection"), "nano", seed=11), 4))
"""


def test_the_same_seed_gives_the_same_bytes_after_a_reset_and_in_another_process() -> None:
    world = EmbeddedWorld(Setup("intersection"), "nano", seed=11)
    first = fingerprint(world, 4)
    world.reset(5)
    other = fingerprint(world, 4)
    world.reset(11)
    assert fingerprint(world, 4) == first != other
    program = _PROGRAM.format(path=str(__import__("pathlib").Path(__file__).parent))
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == first


def test_the_number_of_threads_changes_no_byte() -> None:
    worlds = [EmbeddedWorld(Setup("curve"), "nano", WorldSettings(threads=n), seed=2) for n in (1, 3)]
    assert len({fingerprint(world, 2) for world in worlds}) == 1


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_can_be_driven_in(family: str) -> None:
    with EmbeddedWorld(Setup(family, weather=CLEAR), "nano", seed=4) as world:
        assert isinstance(world, World)
        start = world.ego.T_odom_base[:2, 3]
        for _ in range(15):
            world.apply(Command(0.0, 5.0, 1.0))
            world.tick()
        frame, truth = world.sensors(), world.truth()
        assert frame is world.sensors()
        assert frame.stamp_ns == truth.stamp_ns == world.stamp_ns
        assert len(frame.lidar.points) > 10_000
        assert np.isfinite(frame.lidar.points).all()
        assert len(truth.boxes) >= 3
        assert np.linalg.norm(world.ego.T_odom_base[:2, 3] - start) > 4.0
        # What the lidar hit and what can be seen agree.
        assert truth.points_inside[truth.visibility == 0].sum() <= 0.02 * max(truth.points_inside.sum(), 1)
        assert (truth.visibility >= 0).all()
        assert (truth.visibility <= 1).all()


@pytest.fixture(scope="module")
def moments() -> list[tuple[EmbeddedWorld, Truth]]:
    """Standing still in three places."""
    found = []
    for family, seed in (("straight", 1), ("parking", 2), ("intersection", 3)):
        world = EmbeddedWorld(Setup(family, speed=0.0, weather=CLEAR), "surround", seed=seed)
        for _ in range(20):
            world.apply(Command(0.0, 0.0, 0.0))
            world.tick()
        found.append((world, world.truth()))
    return found


def test_lidar_points_of_standing_actors_lie_in_their_boxes(moments: list[tuple[EmbeddedWorld, Truth]]) -> None:
    compared = 0
    for world, truth in moments:
        standing = np.linalg.norm(truth.boxes.velocity, axis=1) == 0
        returns = world.returns()
        inside = truth.boxes.contains(returns.sweep.points[:, :3].astype(float), margin=0.12)
        for i in np.flatnonzero(standing & (truth.points_inside > 20)):
            own = returns.owner == truth.object_id[i]
            assert own.sum() == truth.points_inside[i]
            compared += 1
            # Noise and the ghosts between an edge and what is behind it fall outside.
            assert (inside[i] & own).sum() >= 0.93 * own.sum()
    assert compared > 10


def test_masks_show_actors_where_their_boxes_project_to(moments: list[tuple[EmbeddedWorld, Truth]]) -> None:
    compared = 0
    for world, truth in moments:
        for name, camera in world.sensors().cameras.items():
            mask = truth.masks[name]
            assert set(np.unique(mask)) <= {0, *(actor.number for actor in world.actors())}
            for i in np.flatnonzero(truth.visibility > 0.95):
                box = truth.boxes[[int(i)]]
                # Mirrors stick out of their car's box; the box does not lean with the road.
                hull = box_in_image(replace(box, size=np.add(box.size, (0.15, 0.55, 0.15))), camera)
                if hull is None or cv2.contourArea(hull) < 400:
                    continue
                drawn = np.column_stack(np.nonzero(mask == truth.object_id[i])[::-1])
                if len(drawn) < 50:
                    continue  # another camera's view of it may be the free one
                compared += 1
                low, high = hull[:, 0].min(axis=0), hull[:, 0].max(axis=0)
                assert (drawn.min(axis=0) >= low - 3).all()
                assert (drawn.max(axis=0) <= high + 3).all()
    assert compared > 8


def box_in_image(box: Boxes, camera) -> np.ndarray | None:
    points = transform_points(invert_pose(camera.T_base_camera), box.corners()[0])
    pixels, depth = project_points(points, camera.intrinsics)
    height, width = camera.image.shape[:2]
    if (depth < 0.5).any() or (pixels < 0).any() or (pixels > (width - 1, height - 1)).any():
        return None
    return cv2.convexHull(pixels.astype(np.float32))


def test_velocities_of_the_truth_are_those_of_the_places() -> None:
    world = EmbeddedWorld(Setup("straight", weather=CLEAR), "lidar64", WorldSettings(step_s=0.05, substeps=5), seed=6)
    for _ in range(40):
        world.tick()
    before = {a.number: a for a in world.actors()}
    world.tick()
    compared = 0
    for actor in world.actors():
        old = before.get(actor.number)
        if old is None or np.hypot(*old.velocity) < 1.0:
            continue
        moved = (np.array(actor.position[:2]) - old.position[:2]) / 0.05
        mean = 0.5 * (np.array(actor.velocity) + old.velocity)
        np.testing.assert_allclose(moved, mean, atol=0.35)
        compared += 1
    assert compared >= 3


def test_closing_twice_is_harmless_and_leaves_no_process() -> None:
    world = EmbeddedWorld(Setup("straight"), "lidar16", seed=1)
    world.sensors()
    world.close()
    world.close()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: EmbeddedWorld(Setup("nowhere")), "nowhere"),
        (lambda: EmbeddedWorld(Setup("straight", {"lanes": -1})), "lanes"),
        (lambda: EmbeddedWorld(Setup("straight", {"colour": 1})), "colour"),
        (lambda: EmbeddedWorld(Setup("straight", start=1e5)), "start"),
        (lambda: EmbeddedWorld(rig="submarine"), "submarine"),
        (lambda: WorldSettings(step_s=0.0), "step_s"),
    ],
)
def test_what_is_impossible_is_refused_in_one_line(make, says: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        make()
    assert says in str(error.value)
    assert "\n" not in str(error.value)
