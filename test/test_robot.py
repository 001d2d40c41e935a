"""The small robot: the world holds it, and the same planner drives it through a yard among people."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from karp_perception.core.resources import parameter_file, resource
from karp_perception.drive.cases import drive_case
from karp_perception.evaluation.checks import run_check
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


def test_it_reaches_the_end_of_its_route() -> None:
    case = YARDS.cases[1]
    length = RouteLine(stage(case, ROBOT).layout, 0.0).length
    case = replace(case, start=length - 22.0, duration=40.0, actors=())
    record = drive_case(case, settings=SETTINGS)
    assert not contacts(record)
    assert np.hypot(*(record.route[-1] - (record.x[-1], record.y[-1]))) < 1.1
    assert record.speed.max() < ROBOT.max_speed + 0.05


@pytest.mark.slow
@pytest.mark.parametrize("yard", [1, 2, 4, 5])
def test_it_gets_past_people_who_cross_its_way(yard: int) -> None:
    case = YARDS.cases[yard - 1]
    record = drive_case(case, settings=SETTINGS)
    for check in case.checks:
        outcome = run_check(record, check.name, check.parameters)
        assert outcome.passed, f"{check.name}: {outcome.found}"
