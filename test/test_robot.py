"""The small robot: the world holds it, and the same planner drives it through a yard among people."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from karp_perception.core.resources import parameter_file, resource
from karp_perception.drive.cases import drive_case
from karp_perception.evaluation.driving import contacts
from karp_perception.pipeline import PipelineSettings
from karp_perception.world.embedded import EmbeddedWorld, Setup, WorldSettings
from karp_perception.world.scenarios.places import RouteLine
from karp_perception.world.scenarios.staging import stage
from karp_perception.world.scenarios.suite import load_suite

SETTINGS = PipelineSettings.from_yaml(parameter_file("robot"))
ROBOT = SETTINGS.vehicle
(YARDS,) = load_suite(resource("config", "robot_yard.yaml"))


def test_its_sensors_are_where_the_rig_has_them() -> None:
    """A small vehicle stands on the ground as a car does, and the ground is as far below its lidar as the rig says."""
    setup = Setup("yard", {"length": 100.0}, layout_seed=2, start=20.0, speed=0.0)
    with EmbeddedWorld(setup, "robot", WorldSettings(vehicle=ROBOT)) as world:
        world.tick()
        frame, lidar = world.sensors(), world.rig.T_base_lidar
        points = frame.lidar.points[:, :3]
        near = points[np.hypot(points[:, 0], points[:, 1]) < 4.0]
        assert len(near) > 200
        assert np.median(near[:, 2]) == pytest.approx(0.0, abs=0.03)
        assert lidar[2, 3] < ROBOT.height
        assert frame.cameras["front"].T_base_camera[2, 3] < lidar[2, 3]
        assert frame.ego.T_odom_base[2, 3] == pytest.approx(
            world.layout.ground.height(*world.vehicle.pose[:2, 3]), abs=0.05
        )


def test_it_reaches_the_end_of_its_route_and_stops_there() -> None:
    assert_reached(2, left=22.0)


@pytest.mark.slow
@pytest.mark.parametrize("yard", [1, 2, 3, 4, 5])
def test_it_reaches_the_end_of_its_route_past_people_who_cross(yard: int) -> None:
    assert_reached(yard, left=95.0)


def assert_reached(yard: int, left: float) -> None:
    """From `left` m before the end of the route the robot comes to its end, and touches nobody."""
    case = YARDS.cases[yard - 1]
    length = RouteLine(stage(case, ROBOT).layout, 0.0).length
    case = replace(case, start=length - left, duration=2.0 * left + 5.0, actors=case.actors if left > 80.0 else ())
    record = drive_case(case, settings=SETTINGS)
    end = np.hypot(record.x[-1] - record.route[-1, 0], record.y[-1] - record.route[-1, 1])
    assert not contacts(record)
    assert end < 1.1
    assert record.speed.max() < ROBOT.max_speed + 0.05
