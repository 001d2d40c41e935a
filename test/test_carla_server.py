"""CarlaWorld on a real server. To run these (an NVIDIA GPU, about 10 GB to download, a minute a test):

docker run --rm --gpus all --net=host carlasim/carla:0.9.16 ./CarlaUE4.sh -RenderOffScreen
pip install 'karp_perception[carla]'
KARP_CARLA=localhost:2000 pytest -m carla
"""

from __future__ import annotations

import os

import numpy as np
import pytest

from karp_perception.core import Command
from karp_perception.core.geometry import wrap_angle, yaw_of
from karp_perception.world.carla.settings import CarlaSettings
from karp_perception.world.carla.world import CarlaWorld

pytestmark = [pytest.mark.carla, pytest.mark.slow]


@pytest.fixture
def settings() -> CarlaSettings:
    """Where the server is; few others on the road."""
    address = os.environ.get("KARP_CARLA", "")
    if not address:
        pytest.skip("needs a CARLA server: KARP_CARLA=host:port names it, the head of this file says how to start one")
    pytest.importorskip("carla", reason="needs the carla package: pip install 'karp_perception[carla]'")
    host, _, port = address.partition(":")
    return CarlaSettings(host=host, port=int(port or 2000), vehicles=10, walkers=5, spawn_point=1, timeout=60.0)


def state_of_server(settings: CarlaSettings) -> tuple[set[int], str]:
    import carla

    client = carla.Client(settings.host, settings.port)
    client.set_timeout(settings.timeout)
    world = client.get_world()
    ours = [
        a for kind in ("vehicle.*", "walker.*", "sensor.*", "controller.*") for a in world.get_actors().filter(kind)
    ]
    return {actor.id for actor in ours}, str(world.get_settings())


def test_every_sensor_answers_each_tick_and_nothing_stays_behind(settings: CarlaSettings) -> None:
    before = state_of_server(settings)
    with CarlaWorld(settings, "demo", 1) as world:
        for _ in range(20):
            world.apply(Command(0.0, 5.0, 1.5))
            world.tick()
            frame = world.sensors()
            assert frame.cameras["front"] is not None
            assert 5_000 < len(frame.lidar.points) < 70_000
        assert all(mailbox.counters.dropped == {} for mailbox in world.counters.values())
        assert world.ego.speed > 1.0
        # Most of what a lidar meets is the ground, at height 0 of base_link.
        heights = frame.lidar.points[:, 2]
        assert abs(float(np.median(heights[np.abs(heights) < 0.5]))) < 0.15
    assert state_of_server(settings) == before


def test_a_left_turn_is_one_to_the_left(settings: CarlaSettings) -> None:
    with CarlaWorld(settings, "lidar16", 1) as world:
        yaw = yaw_of(world.ego.T_odom_base)
        for _ in range(30):
            world.apply(Command(0.3, 4.0, 2.0))
            world.tick()
        assert wrap_angle(yaw_of(world.ego.T_odom_base) - yaw) > 0.1
        assert world.ego.yaw_rate > 0.0


def test_the_same_seed_gives_the_same_drive(settings: CarlaSettings) -> None:
    def drive(world: CarlaWorld) -> list[np.ndarray]:
        places = []
        for _ in range(30):
            world.apply(Command(0.0, 6.0, 1.5))
            world.tick()
            truth = world.truth()
            places.append(np.concatenate([world.ego.T_odom_base[:3, 3], truth.boxes.center.ravel()]))
        return places

    with CarlaWorld(settings, "lidar16", 2) as world:
        first = drive(world)
        world.reset(2)
        second = drive(world)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-3)


def test_masks_lie_on_what_boxes_project_to(settings: CarlaSettings) -> None:
    from karp_perception.core.geometry import invert_pose, project_points

    seen = 0
    with CarlaWorld(CarlaSettings(**{**settings.__dict__, "masks": True, "vehicles": 60}), "demo", 3) as world:
        for _ in range(40):
            world.apply(Command(0.0, 5.0, 1.5))
            world.tick()
            frame, truth = world.sensors().cameras["front"], world.truth()
            for number, corners in zip(truth.object_id, truth.boxes.corners(), strict=True):
                rows, columns = np.nonzero(truth.masks["front"] == number)
                if len(rows) < 200:
                    continue
                local = corners @ invert_pose(frame.T_base_camera)[:3, :3].T + invert_pose(frame.T_base_camera)[:3, 3]
                pixels, depth = project_points(local, frame.intrinsics)
                if depth.min() > 0.5:
                    low, high = pixels.min(axis=0) - 3, pixels.max(axis=0) + 3
                    assert (columns >= low[0]).all()
                    assert (columns <= high[0]).all()
                    assert (rows >= low[1]).all()
                    assert (rows <= high[1]).all()
                    seen += 1
    assert seen > 10
