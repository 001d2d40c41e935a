"""The types of the core: what they accept, what they refuse, and what they do."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from karp_perception.core import (
    CLASS_NAMES,
    Boxes,
    CameraFrame,
    Decision,
    DecisionKind,
    Distortion,
    DistortionModel,
    EgoState,
    InvalidInput,
    LidarSweep,
    MotionSource,
    ObjectClass,
    Objects,
    Plan,
    Route,
    SensorFrame,
    Trajectory,
    class_from_name,
    class_name,
)
from karp_perception.core.classes import autoware_label, class_from_autoware
from karp_perception.core.counters import Counters
from karp_perception.core.geometry import invert_pose, pose_from_xy_yaw
from karp_perception.core.stopwatch import Stopwatch


def random_boxes(n: int, seed: int = 0, variance: bool = True) -> Boxes:
    rng = np.random.default_rng(seed)
    return Boxes(
        rng.uniform(-40, 40, (n, 3)),
        rng.uniform(0.3, 12, (n, 3)),
        rng.uniform(-np.pi, np.pi, n),
        rng.normal(0, 5, (n, 2)),
        rng.integers(-1, 10, n),
        rng.uniform(0, 1, n),
        rng.uniform(0, 2, (n, 9)) if variance else None,
    )


def camera(**changes: object) -> CameraFrame:
    arguments = {
        "image": np.zeros((4, 6, 3), np.uint8),
        "intrinsics": np.array([[5.0, 0, 3], [0, 5, 2], [0, 0, 1]]),
        "T_base_camera": np.eye(4),
        "stamp_ns": 1,
    }
    return CameraFrame(**(arguments | changes))


def test_the_ten_classes_are_nuscenes_in_order() -> None:
    assert (
        *("car", "truck", "bus", "trailer", "construction_vehicle"),
        *("pedestrian", "motorcycle", "bicycle", "traffic_cone", "barrier"),
    ) == CLASS_NAMES
    assert [class_name(i) for i in range(10)] == list(CLASS_NAMES)
    assert class_name(-1) == class_name(10) == "unknown"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Car", "car"),
        ("Van", "car"),
        ("Cyclist", "bicycle"),
        ("Person_sitting", "pedestrian"),
        ("vehicle.bus.bendy", "bus"),
        ("traffic cone", "traffic_cone"),
        ("DontCare", "unknown"),
        ("construction_vehicle", "construction_vehicle"),
    ],
)
def test_other_vocabularies(name: str, expected: str) -> None:
    assert class_name(class_from_name(name)) == expected


def test_autoware_labels_come_back_for_what_autoware_knows() -> None:
    for label in (ObjectClass.CAR, ObjectClass.TRUCK, ObjectClass.BUS, ObjectClass.TRAILER, ObjectClass.PEDESTRIAN):
        assert class_from_autoware(autoware_label(label)) == label
    assert class_from_autoware(autoware_label(ObjectClass.TRAFFIC_CONE)) == ObjectClass.UNKNOWN
    assert class_from_autoware(99) == ObjectClass.UNKNOWN


@given(st.integers(0, 20), st.integers(0, 1000))
def test_a_transform_and_its_inverse_leave_boxes_as_they_were(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    boxes = random_boxes(n, seed, variance=False)
    T = pose_from_xy_yaw(*rng.uniform(-30, 30, 2), rng.uniform(-3, 3))
    back = boxes.transformed(T, "odom").transformed(invert_pose(T), "base_link")
    np.testing.assert_allclose(back.center, boxes.center, atol=1e-9)
    np.testing.assert_allclose(back.velocity, boxes.velocity, atol=1e-9)
    np.testing.assert_allclose(np.exp(1j * back.yaw), np.exp(1j * boxes.yaw), atol=1e-9)


def test_corners_move_with_the_box() -> None:
    boxes = random_boxes(5)
    T = pose_from_xy_yaw(3, -2, 0.7)
    corners = boxes.corners().reshape(-1, 3) @ T[:3, :3].T + T[:3, 3]
    np.testing.assert_allclose(boxes.transformed(T, "odom").corners().reshape(-1, 3), corners, atol=1e-9)


def test_a_quarter_turn_swaps_the_variances_of_x_and_y() -> None:
    boxes = random_boxes(3)
    turned = boxes.transformed(pose_from_xy_yaw(0, 0, np.pi / 2), "odom")
    np.testing.assert_allclose(turned.variance[:, [1, 0, 8, 7]], boxes.variance[:, [0, 1, 7, 8]])


def test_footprint_is_opencvs_rotated_rectangle() -> None:
    boxes = random_boxes(10)
    for i, footprint in enumerate(boxes.footprint()):
        (x, y), (length, width), yaw = boxes.center[i, :2], boxes.size[i, :2], np.degrees(boxes.yaw[i])
        expected = cv2.boxPoints(((float(x), float(y)), (float(length), float(width)), float(yaw)))
        distance = np.linalg.norm(footprint[:, None] - expected[None], axis=2)
        assert distance.min(axis=1).max() < 1e-3
        assert cv2.contourArea(footprint.astype(np.float32), oriented=True) > 0  # counter-clockwise in x-y


def test_contains_finds_corners_and_not_what_lies_outside() -> None:
    boxes = random_boxes(6)
    inner = (boxes.corners() - boxes.center[:, None]) * 0.999 + boxes.center[:, None]
    outer = (boxes.corners() - boxes.center[:, None]) * 1.001 + boxes.center[:, None]
    for i in range(len(boxes)):
        assert boxes.contains(inner[i])[i].all()
        assert not boxes.contains(outer[i])[i].any()
        assert boxes.contains(outer[i], margin=0.1)[i].all()


def test_indexing_and_concatenation_keep_rows_together() -> None:
    boxes = random_boxes(8)
    mask = boxes.score > 0.5
    joined = Boxes.concatenate([boxes[mask], boxes[~mask]])
    order = np.r_[np.flatnonzero(mask), np.flatnonzero(~mask)]
    np.testing.assert_array_equal(joined.center, boxes.center[order])
    np.testing.assert_array_equal(joined.variance, boxes.variance[order])
    assert len(boxes[2:4]) == 2
    assert len(Boxes.concatenate([])) == 0
    assert Boxes.concatenate([boxes, random_boxes(2, variance=False)]).variance is None


def test_boxes_of_two_frames_are_not_joined() -> None:
    with pytest.raises(InvalidInput, match="one frame"):
        Boxes.concatenate([random_boxes(1), replace(random_boxes(1), frame="odom")])


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("center", np.full((2, 3), np.nan), "finite"),
        ("center", np.zeros((2, 2)), "shape"),
        ("size", np.zeros((2, 3)), "positive"),
        ("yaw", np.array([0, np.inf]), "finite"),
        ("velocity", np.full((2, 2), np.inf), "NaN for unknown"),
        ("label", np.array([0, 10]), "-1 to 9"),
        ("score", np.array([0, 1.1]), r"\[0, 1\]"),
        ("score", np.zeros(3), "shape"),
        ("variance", np.full((2, 9), -1.0), "at least 0"),
        ("label", ["car", "bus"], "numbers"),
    ],
)
def test_impossible_boxes_are_refused(field: str, value: object, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        replace(random_boxes(2), **{field: value})


def test_an_unknown_velocity_is_nan() -> None:
    assert np.isnan(replace(random_boxes(2), velocity=np.full((2, 2), np.nan)).velocity).all()


def test_arrays_of_a_built_type_cannot_be_written_to() -> None:
    with pytest.raises(ValueError, match="read-only"):
        random_boxes(2).center[0, 0] = 1


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"image": np.zeros((4, 6, 3), np.float32)}, "uint8"),
        ({"image": np.zeros((4, 6), np.uint8)}, "shape"),
        ({"image": np.zeros((0, 6, 3), np.uint8)}, "at least one pixel"),
        ({"intrinsics": np.eye(4)}, "shape"),
        ({"intrinsics": np.diag([0.0, 1, 1])}, "fx, fy > 0"),
        ({"T_base_camera": np.diag([1.0, 1, -1, 1])}, "rotation"),
        ({"T_base_camera": 2 * np.eye(4)}, "rotation"),
        ({"stamp_ns": -1}, "time"),
    ],
)
def test_impossible_camera_frames_are_refused(changes: dict[str, object], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        camera(**changes)


def test_distortion_wants_the_coefficients_of_its_model() -> None:
    assert Distortion(DistortionModel.PLUMB_BOB, (0.1, 0, 0, 0, 0)).coefficients[0] == 0.1
    with pytest.raises(InvalidInput, match="4 coefficients"):
        Distortion(DistortionModel.EQUIDISTANT, (0.1,))


def test_sweeps_and_frames() -> None:
    with pytest.raises(InvalidInput, match="finite"):
        LidarSweep(np.full((1, 4), np.nan, np.float32), 0)
    with pytest.raises(InvalidInput, match="shape"):
        LidarSweep(np.zeros((2, 4), np.float32), 0, np.zeros(3, np.float32))
    frame = SensorFrame(5, {"front": camera(), "rear": None})
    with pytest.raises(TypeError):
        frame.cameras["front"] = None  # type: ignore[index]
    assert EgoState.standing(7).source is MotionSource.NONE
    with pytest.raises(InvalidInput, match="finite"):
        EgoState(0, np.eye(4), [np.nan, 0])


def test_objects_have_different_positive_ids_and_known_velocities() -> None:
    boxes = random_boxes(2)
    good = Objects(boxes, [1, 2], np.zeros((2, 6, 6)), [0, 0], [0, 0], np.zeros((2, 1, 3, 3)), np.ones((2, 1)))
    assert good.obstacle_index.tolist() == [-1, -1]
    for ids in ([1, 1], [0, 1]):
        with pytest.raises(InvalidInput, match="different ids"):
            replace(good, track_id=ids)
    with pytest.raises(InvalidInput, match="known velocities"):
        replace(good, boxes=replace(boxes, velocity=np.full((2, 2), np.nan)))
    assert len(Objects.empty()) == 0


def test_plans_and_routes() -> None:
    with pytest.raises(InvalidInput, match="increasing"):
        Trajectory([0, 0], *(np.zeros(2) for _ in range(6)))
    with pytest.raises(InvalidInput, match="finite"):
        Decision(DecisionKind.STOP, "for a wall", distance_m=np.inf)
    assert Plan(1, Trajectory.empty(), Decision(DecisionKind.NO_INPUT, "nothing")).decision.target_id is None
    assert len(Route([[0, 0], [0, 0], [1, 0]]).points) == 2
    with pytest.raises(InvalidInput, match="two distinct"):
        Route([[0, 0], [0, 0]])
    with pytest.raises(InvalidInput, match="finite"):
        Route([[0, 0], [np.nan, 0]])


def test_counters_always_add_up() -> None:
    decoding = Counters()
    frames = Counters(upstream=decoding)
    decoding.use()
    decoding.drop("truncated_image", 2)
    frames.use()
    frames.drop("superseded")
    counted = frames.as_dict()
    assert counted == {"received": 4, "used": 1, "dropped": {"superseded": 1, "truncated_image": 2}}
    assert decoding.received == 3


def test_stopwatch_adds_up_a_stage_and_survives_an_error() -> None:
    stopwatch = Stopwatch()
    for _ in range(2):
        with pytest.raises(RuntimeError), stopwatch("stage"):
            raise RuntimeError
    assert list(stopwatch.milliseconds) == ["stage"]
    assert stopwatch.milliseconds["stage"] > 0
