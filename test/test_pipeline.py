"""The pipeline as a whole, on drives through the embedded world with known truth."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
from world_drives import EMPTY, STANDING_CAR, frames, open_world

from karp_perception.core import Boxes, DecisionKind, MotionSource, SensorFrame
from karp_perception.core.stopwatch import Stopwatch
from karp_perception.pipeline import Perceiver, Pipeline, PipelineSettings
from karp_perception.world.interface import Truth

GEOMETRY_ONLY = PipelineSettings().with_parameters({"detector.model": "none"})


class Oracle:
    """A detector that says what it is told."""

    info: ClassVar = {"model": "oracle", "trained": True, "backend": "none"}

    def __init__(self, trained: bool, boxes: Boxes) -> None:
        self.trained, self.boxes = trained, boxes

    def detect(self, frame: SensorFrame, stopwatch: Stopwatch | None = None) -> Boxes:
        return self.boxes

    def warm_up(self) -> None:
        pass


Moment = tuple[SensorFrame, Truth]


@pytest.fixture(scope="module")
def standing_car() -> list[Moment]:
    return list(frames(open_world(STANDING_CAR), 4.0))


def test_a_standing_car_ahead_is_found_tracked_and_stopped_for(standing_car: list[Moment]) -> None:
    with Pipeline(GEOMETRY_ONLY) as pipeline:
        results = [pipeline.step(sensors) for sensors, _ in standing_car]
    checked = 0
    for (_, truth), result in zip(standing_car[5:], results[5:], strict=True):
        ahead = (np.abs(truth.boxes.center[:, 1]) < 1.0) & (truth.boxes.center[:, 0] > 0)
        if not ahead.any():
            continue
        truth = truth.boxes[ahead]
        rear = truth.footprint()[..., 0].min()
        if rear > 40:
            continue
        distance = rear - GEOMETRY_ONLY.vehicle.front
        decision = result.plan.decision
        assert decision.kind in {DecisionKind.FOLLOW, DecisionKind.SLOW, DecisionKind.STOP}, decision
        assert decision.distance_m == pytest.approx(distance, abs=0.6), decision
        assert decision.target_id in result.objects.track_id.tolist()
        checked += 1
    assert checked > 20


def test_the_same_frames_give_the_same_results(standing_car: list[Moment]) -> None:
    def run() -> list[bytes]:
        with Pipeline(GEOMETRY_ONLY) as pipeline:
            results = [pipeline.step(sensors) for sensors, _ in standing_car[:6]]
        return [r.objects.boxes.center.tobytes() + r.plan.trajectory.speed.tobytes() for r in results]

    assert run() == run()


def test_an_untrained_network_says_nothing(standing_car: list[Moment]) -> None:
    phantom = Boxes([[12.0, 0, 0.8]], [[4.0, 1.8, 1.5]], [0.0], [[0.0, 0.0]], [0], [0.9])
    frame = standing_car[0][0]
    with Perceiver(GEOMETRY_ONLY, Oracle(True, phantom)) as perceiver:
        assert len(perceiver.step(frame).detections) == 1
    with Perceiver(GEOMETRY_ONLY, Oracle(False, phantom)) as perceiver:
        assert len(perceiver.step(frame).detections) == 0


def test_without_odometry_the_lidar_tells_the_motion() -> None:
    street = {"lanes": 1, "parked": "both", "surroundings": "old_town", "length": 300.0}
    world = open_world(road=street, traffic={**EMPTY, "parking": 1.0}, lidar="64x1024")
    sent = [sensors for sensors, _ in frames(world, 2.0)]
    with Pipeline(GEOMETRY_ONLY) as pipeline:
        results = [pipeline.step(replace(sensors, ego=None)) for sensors in sent]
    assert {result.ego.source for result in results} == {MotionSource.LIDAR}
    moved = np.linalg.norm(results[-1].ego.T_odom_base[:2, 3])
    true = np.linalg.norm(sent[-1].ego.T_odom_base[:2, 3] - sent[0].ego.T_odom_base[:2, 3])
    assert moved == pytest.approx(true, rel=0.05)
    assert results[-1].ego.speed == pytest.approx(sent[-1].ego.speed, rel=0.1)


def test_once_odometry_came_the_lidar_does_not_take_over(standing_car: list[Moment]) -> None:
    with Perceiver(GEOMETRY_ONLY) as perceiver:
        perceiver.step(standing_car[0][0])
        lost = perceiver.step(replace(standing_car[1][0], ego=None))
    assert lost.ego.source is MotionSource.NONE


def test_frames_with_missing_sensors_go_through(standing_car: list[Moment]) -> None:
    with Pipeline(GEOMETRY_ONLY) as pipeline:
        for k, (sensors, _) in enumerate(standing_car[:6]):
            stamp_ns = sensors.stamp_ns
            if k % 3 == 1:
                sensors = replace(sensors, cameras={"front": None})
            if k % 3 == 2:
                sensors = replace(sensors, lidar=None)
            result = pipeline.step(sensors)
            assert result.stamp_ns == stamp_ns
            assert (len(result.obstacles) == 0) == (sensors.lidar is None)


def test_camera_slots_follow_the_rig_unless_set() -> None:
    assert PipelineSettings().for_cameras(1).detector.cameras == 1
    assert PipelineSettings().for_cameras(0).detector.cameras == 1
    fixed = PipelineSettings().with_parameters({"detector.cameras": 2})
    assert fixed.for_cameras(5).detector.cameras == 2
