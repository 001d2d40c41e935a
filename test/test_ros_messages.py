"""Message conversion: exact both ways, the same bytes from rclpy's and rosbags' classes, and ROS's own conventions."""

from __future__ import annotations

import uuid
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from karp_perception.core import (
    Boxes,
    Command,
    Decision,
    DecisionKind,
    EgoState,
    InvalidInput,
    Objects,
    Plan,
    Route,
    ScoredProposals,
    Trajectory,
)
from karp_perception.core.geometry import pose_from_xy_yaw, transform_points
from karp_perception.ros import messages
from karp_perception.ros.object_messages import POLYGON, track_id_of, track_uuid
from karp_perception.ros.plan_messages import LEVELS
from karp_perception.ros.primitives import get_byte
from karp_perception.sensing.calibration import decode_camera_info
from karp_perception.sensing.ego_motion import decode_odometry
from karp_perception.sensing.message_types import default_message, serialize, typestore
from karp_perception.sensing.pointclouds import decode_pointcloud

STAMPS = st.integers(0, (1 << 31) * 10**9 - 1)
BOX_FIELDS = ("center", "size", "yaw", "velocity", "label", "score")


@st.composite
def boxes(draw: st.DrawFn, *, velocities: bool = False) -> Boxes:
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    n = draw(st.integers(0, 6))
    velocity = random.normal(size=(n, 2)) * 20
    if not velocities:
        velocity[random.random(n) < 0.3] = np.nan
    variance = None
    if n and draw(st.booleans()):
        variance = random.uniform(0, 4, (n, 9))
        variance[np.isnan(velocity[:, 0]), 7:] = 0  # there is no entry to carry them in
    return Boxes(
        random.normal(size=(n, 3)) * 100,
        random.uniform(0.01, 20, (n, 3)),
        random.uniform(-np.pi, np.pi, n),
        velocity,
        random.integers(-1, 10, n),
        random.random(n),
        variance,
        frame=draw(st.sampled_from(["base_link", "map"])),
    )


@st.composite
def tracked(draw: st.DrawFn) -> Objects:
    of = draw(boxes(velocities=True))
    n, k, t = len(of), draw(st.integers(0, 3)), draw(st.integers(1, 5))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    root = random.normal(size=(n, 6, 6))
    covariance = root @ root.transpose(0, 2, 1)
    covariance[:, :4, 4:] = covariance[:, 4:, :4] = 0  # not carried
    score = np.float32(of.score).astype(float)  # existence_probability is a float32
    kept = np.isin(of.label, (-1, 0, 1, 2, 3, 5, 6, 7))  # Autoware's classes
    of = replace(of, score=score, label=np.where(kept, of.label, -1), variance=None)
    predicted = random.normal(size=(n, k, t, 3)) * 10
    predicted[..., 2] = random.uniform(-3.1, 3.1, (n, k, t))
    probability = np.full((n, k), np.float32(1 / max(k, 1)), float)
    ids = 1 + random.permutation(1000)[:n]
    step = draw(st.sampled_from([0.1, 0.5]))
    return Objects(of, ids, covariance, np.zeros(n), np.zeros(n), predicted, probability, step)


def test_paths_that_nobody_takes_are_not_sent() -> None:
    one = Boxes(np.zeros((2, 3)), np.ones((2, 3)), np.zeros(2), np.zeros((2, 2)), np.zeros(2, int), np.ones(2))
    predicted = np.arange(2 * 3 * 4 * 3, dtype=float).reshape(2, 3, 4, 3) * 0.01
    probability = np.array([[0.5, 0.0, 0.5], [1.0, 0.0, 0.0]])
    objects = Objects(one, [1, 2], np.zeros((2, 6, 6)), [0, 0], [0, 0], predicted, probability)
    message = read(messages.objects_bytes(objects, 0), OBJECTS)
    assert [len(found.kinematics.predicted_paths) for found in message.objects] == [2, 1]
    back = messages.objects_from_message(message)
    np.testing.assert_allclose(back.predicted[0], predicted[0, [0, 2]], atol=1e-12)
    np.testing.assert_allclose(back.predicted[1, 0], predicted[1, 0], atol=1e-12)
    np.testing.assert_array_equal(back.predicted_probability, [[0.5, 0.5], [1.0, 0.0]])


def a_plan(kind: DecisionKind = DecisionKind.FOLLOW, points: int = 5) -> Plan:
    t = 0.1 * np.arange(points)
    way = Trajectory(t, 5 * t, 0.1 * t, 0.02 * t, 5 - t, -np.ones(points), np.full(points, 0.01))
    return Plan(123456789012345678, way, Decision(kind, "FOLLOW car 7, 12.3 m ahead", 7, 12.3, 4.56))


DETECTIONS, OBJECTS = "vision_msgs/msg/Detection3DArray", "autoware_perception_msgs/msg/PredictedObjects"
PATH, TRAJECTORY = "nav_msgs/msg/Path", "autoware_planning_msgs/msg/Trajectory"


def read(data: bytes, type_name: str) -> object:
    """By rosbags."""
    return typestore().deserialize_cdr(data, type_name)


def through_rosbags(message: object, type_name: str) -> object:
    return read(serialize(message, type_name), type_name)


def assert_boxes_equal(got: Boxes, expected: Boxes) -> None:
    for name in BOX_FIELDS:
        np.testing.assert_allclose(getattr(got, name), getattr(expected, name), rtol=0, atol=1e-12, err_msg=name)
    assert (got.variance is None) == (expected.variance is None)
    if expected.variance is not None:
        np.testing.assert_array_equal(got.variance, expected.variance)
    assert got.frame == expected.frame


@given(boxes(), STAMPS)
@settings(max_examples=60, deadline=None)
def test_boxes_survive_a_detection3darray_without_loss(given_boxes: Boxes, stamp_ns: int) -> None:
    back = read(messages.detections_bytes(given_boxes, stamp_ns), DETECTIONS)
    assert messages.get_stamp(back.header.stamp) == stamp_ns
    assert all(detection.header == back.header for detection in back.detections)
    assert_boxes_equal(messages.boxes_from_detections(back), given_boxes)


@given(tracked(), STAMPS)
@settings(max_examples=60, deadline=None)
def test_objects_survive_predicted_objects_but_for_what_the_message_has_no_room_for(
    objects: Objects, stamp_ns: int
) -> None:
    back = messages.objects_from_message(read(messages.objects_bytes(objects, stamp_ns), OBJECTS))
    assert_boxes_equal(back.boxes, objects.boxes)
    np.testing.assert_array_equal(back.track_id, objects.track_id)
    np.testing.assert_allclose(back.covariance, objects.covariance, atol=1e-12)
    if len(objects) and objects.predicted.shape[1]:
        np.testing.assert_allclose(back.predicted, objects.predicted, atol=1e-12)
        np.testing.assert_array_equal(back.predicted_probability, objects.predicted_probability)
        assert back.prediction_step == pytest.approx(objects.prediction_step, abs=1e-12)


def written(of: Boxes, objects: Objects, points: int, stamp_ns: int) -> dict[str, tuple[str, bytes]]:
    """Type and bytes of everything that is written without message objects."""
    plan, numbers = a_plan(points=points), 7 ** np.arange(len(of))
    drawing = messages.MarkerDrawing(stamp_ns, of.frame).perception(of, of).objects(objects).plan(plan)
    return {
        "detections": (DETECTIONS, messages.detections_bytes(of, stamp_ns)),
        "numbered detections": (DETECTIONS, messages.detections_bytes(of, stamp_ns, numbers)),
        "tracks": (DETECTIONS, messages.tracks_bytes(objects, stamp_ns)),
        "objects": (OBJECTS, messages.objects_bytes(objects, stamp_ns)),
        "path": (PATH, messages.path_bytes(plan, frame=of.frame)),
        "trajectory": (TRAJECTORY, messages.trajectory_bytes(plan, 2.8, of.frame)),
        "markers": ("visualization_msgs/msg/MarkerArray", drawing.message),
    }


@given(boxes(), tracked(), st.integers(0, 4), STAMPS)
@settings(max_examples=60, deadline=None)
def test_what_is_written_straight_to_bytes_is_what_rosbags_would_write(
    of: Boxes, objects: Objects, points: int, stamp_ns: int
) -> None:
    for name, (type_name, data) in written(of, objects, points, stamp_ns).items():
        assert serialize(read(data, type_name), type_name) == data, name


@pytest.mark.ros
@given(boxes(), tracked(), st.integers(0, 4), STAMPS)
@settings(max_examples=30, deadline=None)
def test_what_is_written_straight_to_bytes_is_what_rclpy_would_write(
    of: Boxes, objects: Objects, points: int, stamp_ns: int
) -> None:
    from rclpy.serialization import deserialize_message, serialize_message

    for name, (type_name, data) in written(of, objects, points, stamp_ns).items():
        by_rclpy = bytes(serialize_message(deserialize_message(data, messages.message_class(type_name))))
        assert len(by_rclpy) == len(data), name
        # rclpy leaves the gaps between fields as they were in memory: written anew, they are zeros in both.
        assert serialize(read(by_rclpy, type_name), type_name) == data, name


@pytest.mark.ros
@given(STAMPS)
@settings(max_examples=10, deadline=None)
def test_rclpy_and_rosbags_messages_are_the_same_on_the_wire(stamp_ns: int) -> None:
    from rclpy.serialization import deserialize_message, serialize_message

    plan, command = a_plan(), Command(0.1, 4.0, -0.5)
    ego = EgoState(stamp_ns, np.eye(4), np.array([3.0, 0.1]), 0.05)
    points = np.arange(12, dtype=np.float32).reshape(3, 4)
    image = np.arange(2 * 4 * 3, dtype=np.uint8).reshape(2, 4, 3)
    K = np.array([[700.0, 0, 640], [0, 700, 360], [0, 0, 1]])
    built = {
        "nav_msgs/msg/Odometry": lambda c: messages.odometry_message(ego, c),
        "diagnostic_msgs/msg/DiagnosticStatus": lambda c: messages.decision_message(plan, c),
        "ackermann_msgs/msg/AckermannDriveStamped": lambda c: messages.ackermann_message(command, stamp_ns, c),
        "geometry_msgs/msg/Twist": lambda c: messages.twist_message(command, 2.8, c),
        "sensor_msgs/msg/PointCloud2": lambda c: messages.pointcloud_message(points, stamp_ns, "lidar", c),
        "sensor_msgs/msg/Image": lambda c: messages.image_message(image, stamp_ns, "camera", c),
        "sensor_msgs/msg/CompressedImage": lambda c: messages.compressed_image_message(image, stamp_ns, "camera", c),
        "sensor_msgs/msg/CameraInfo": lambda c: messages.camera_info_message(K, (1280, 720), stamp_ns, "camera", c),
        "tf2_msgs/msg/TFMessage": lambda c: messages.transforms_message([("a", "b", np.eye(4))], stamp_ns, c),
    }
    for type_name, build in built.items():
        by_rclpy = bytes(serialize_message(build(messages.create_ros_message)))
        by_rosbags = serialize(build(default_message), type_name)
        assert serialize(read(by_rclpy, type_name), type_name) == by_rosbags, type_name
        kind = messages.message_class(type_name)
        assert deserialize_message(by_rosbags, kind) == deserialize_message(by_rclpy, kind), type_name


def test_detections_follow_the_conventions_of_vision_msgs() -> None:
    one = Boxes([[1, 2, 3]], [[4, 1.8, 1.5]], [0.3], [[5, 0]], [0], [0.9])
    message = read(messages.detections_bytes(one, 1_500_000_000, np.array([12])), DETECTIONS)
    detection = message.detections[0]
    size = detection.bbox.size
    assert (size.x, size.y, size.z) == (4, 1.8, 1.5)  # length, width, height
    assert detection.results[0].hypothesis.class_id == "car"
    assert detection.id == "12"
    q = detection.bbox.center.orientation
    np.testing.assert_allclose(Rotation.from_quat([q.x, q.y, q.z, q.w]).as_euler("xyz"), [0, 0, 0.3], atol=1e-12)
    # Whoever takes the best or the first hypothesis gets the class, whatever else travels along.
    assert max(detection.results, key=lambda r: r.hypothesis.score).hypothesis.class_id == "car"


def test_twists_of_objects_are_in_the_objects_frame() -> None:
    """As Autoware has it: a car that drives along its heading has its speed on x."""
    heading = 2.0
    of = Boxes([[0, 0, 0]], [[4, 2, 1.5]], [heading], [[3 * np.cos(heading), 3 * np.sin(heading)]], [0], [1.0])
    objects = Objects(of, [1], np.eye(6)[None], [1.0], [0.0], np.zeros((1, 0, 0, 3)), np.zeros((1, 0)))
    kinematics = read(messages.objects_bytes(objects, 0), OBJECTS).objects[0].kinematics
    twist = kinematics.initial_twist_with_covariance
    np.testing.assert_allclose([twist.twist.linear.x, twist.twist.linear.y], [3, 0], atol=1e-12)


@given(st.integers(1, (1 << 63) - 1))
def test_track_ids_are_uuids_and_back(track_id: int) -> None:
    assert uuid.UUID(bytes=track_uuid(track_id).tobytes()).int == track_id
    assert track_id_of(track_uuid(track_id)) == track_id


def test_foreign_objects_are_understood() -> None:
    """Random UUIDs, a polygon, objects with and without paths: what Autoware's own nodes publish."""
    message = default_message("autoware_perception_msgs/msg/PredictedObjects")
    message.header.frame_id = "map"
    for i in range(2):
        item = default_message("autoware_perception_msgs/msg/PredictedObject")
        item.object_id.uuid = np.frombuffer(uuid.UUID(int=(0xABCDEF << 100) + i + 1).bytes, np.uint8)
        item.existence_probability = 0.5
        item.shape.dimensions.z = 1.7
        item.shape.type = POLYGON
        for x, y in ((-1.0, -1), (3, -1), (3, 1), (-1, 1)):
            point = default_message("geometry_msgs/msg/Point32")
            point.x, point.y = x, y
            item.shape.footprint.points.append(point)
        message.objects.append(item)
    path = default_message("autoware_perception_msgs/msg/PredictedPath")
    path.time_step.nanosec, path.confidence = 500_000_000, 1.0
    path.path = [default_message("geometry_msgs/msg/Pose") for _ in range(4)]
    message.objects[0].kinematics.predicted_paths = [path]
    objects = messages.objects_from_message(message)
    np.testing.assert_allclose(objects.boxes.size, [[4, 2, 1.7]] * 2)
    np.testing.assert_allclose(objects.boxes.center[0], [1, 0, 0])
    assert objects.predicted.shape == (2, 1, 3, 3)  # the present pose is no prediction
    assert objects.prediction_step == 0.5
    np.testing.assert_array_equal(objects.predicted_probability.sum(axis=1), [1, 1])


@pytest.mark.parametrize("kind", DecisionKind)
def test_decisions_come_back_whole_and_levels_say_go_slow_stop_or_stale(kind: DecisionKind) -> None:
    plan = a_plan(kind)
    status = through_rosbags(messages.decision_message(plan, default_message), "diagnostic_msgs/msg/DiagnosticStatus")
    assert messages.decision_from_status(status) == (plan.stamp_ns, plan.decision)
    expected = {"CRUISE": 0, "FOLLOW": 0, "SLOW": 1, "YIELD": 1, "STOP": 2, "EMERGENCY_STOP": 2, "NO_INPUT": 3}
    assert get_byte(status.level) == LEVELS[kind] == expected[kind.value]


def test_a_decision_leaves_out_what_it_does_not_know() -> None:
    plan = Plan(5, Trajectory.empty(), Decision(DecisionKind.NO_INPUT, "nothing new for 0.8 s"))
    status = messages.decision_message(plan, default_message)
    assert {item.key for item in status.values} == {"stamp_ns", "decision", "reason"}
    assert messages.decision_from_status(status) == (5, plan.decision)


def test_a_decision_tells_what_was_chosen_and_what_the_safety_layer_said() -> None:
    still, score = np.zeros((2, 3)), np.array([0.25, 0.1])
    names, ways = ("lane 100%", "lane stop"), ("lane", "lane")
    proposals = ScoredProposals(names, ways, np.arange(3.0), still, still, still, still, score, {}, {}, 0)
    plan = replace(a_plan(), notes=("limits: too fast; too sharp", "RSS: 3 m"), proposals=proposals)
    status = through_rosbags(messages.decision_message(plan, default_message), "diagnostic_msgs/msg/DiagnosticStatus")
    values = {item.key: item.value for item in status.values}
    assert values["proposal"] == "lane 100%"
    assert float(values["score"]) == 0.25
    assert values["notes"].split(" | ") == list(plan.notes)
    assert messages.decision_from_status(status) == (plan.stamp_ns, plan.decision)


def test_trajectories_come_back_within_float32() -> None:
    plan = a_plan()
    message = read(messages.trajectory_bytes(plan, 2.8), TRAJECTORY)
    assert messages.get_stamp(message.header.stamp) == plan.stamp_ns
    back = messages.trajectory_from_message(message, 2.8)
    for name in ("time", "x", "y", "yaw", "speed", "acceleration", "curvature"):
        np.testing.assert_allclose(getattr(back, name), getattr(plan.trajectory, name), rtol=1e-6, atol=1e-9)


COMMANDS = st.builds(
    Command, st.floats(-0.55, 0.55), st.floats(0.02, 55.0) | st.just(0.0) | st.floats(-3.0, -0.02), st.floats(-8.0, 3.0)
)


@given(COMMANDS, STAMPS)
@settings(max_examples=60, deadline=None)
def test_a_command_comes_back_from_both_kinds_of_messages(command: Command, stamp_ns: int) -> None:
    drive = through_rosbags(
        messages.ackermann_message(command, stamp_ns, default_message, "base"),
        "ackermann_msgs/msg/AckermannDriveStamped",
    )
    assert (messages.get_stamp(drive.header.stamp), drive.header.frame_id) == (stamp_ns, "base")
    back = messages.command_from_ackermann(drive.drive)
    for name in ("steering_angle", "speed", "acceleration"):  # float32 in the message
        assert getattr(back, name) == pytest.approx(getattr(command, name), rel=1e-6, abs=1e-30)
    # ackermann_msgs/AckermannDrive: 0 means as fast as the vehicle can, which a Command does not ask for.
    assert drive.drive.steering_angle_velocity == drive.drive.jerk == 0
    twist = through_rosbags(messages.twist_message(command, 2.8, default_message), "geometry_msgs/msg/Twist")
    assert twist.linear.x == command.speed
    # A bicycle turns by v tan(angle) / L.
    assert twist.angular.z * 2.8 == pytest.approx(command.speed * np.tan(command.steering_angle), abs=1e-9)
    assert [twist.linear.y, twist.linear.z, twist.angular.x, twist.angular.y] == [0, 0, 0, 0]
    again = messages.command_from_twist(twist, 2.8)
    assert again.speed == command.speed
    assert again.steering_angle == pytest.approx(command.steering_angle if command.speed else 0.0, abs=1e-9)


def test_a_turn_on_the_spot_is_no_command_for_wheels() -> None:
    twist = default_message("geometry_msgs/msg/Twist")
    twist.angular.z = 1.0
    assert messages.command_from_twist(twist, 2.8) == Command(0.0, 0.0, 0.0)


def test_the_path_is_one_that_nav2_takes() -> None:
    """In a frame that the vehicle moves in, dense and even, each pose with its heading, never a place twice."""
    plan = a_plan(points=40)
    ego = EgoState(plan.stamp_ns, pose_from_xy_yaw(100.0, -50.0, 0.7), np.array([5.0, 0.0]))
    path = read(messages.path_bytes(plan, ego, "odom"), PATH)
    assert path.header.frame_id == "odom"
    assert all(pose.header == path.header for pose in path.poses)
    places = np.array([(p.pose.position.x, p.pose.position.y, p.pose.position.z) for p in path.poses])
    steps = np.linalg.norm(np.diff(places, axis=0), axis=1)
    np.testing.assert_allclose(steps, steps[0], atol=1e-6)
    assert 0.05 < steps[0] <= 0.1 + 1e-9
    yaws = [
        Rotation.from_quat([q.x, q.y, q.z, q.w]).as_euler("xyz") for q in (pose.pose.orientation for pose in path.poses)
    ]
    way = plan.trajectory
    last = transform_points(ego.T_odom_base, np.array([[way.x[-1], way.y[-1], 0.0]]))[0]
    np.testing.assert_allclose(places[0], [100.0, -50.0, 0.0], atol=1e-9)
    np.testing.assert_allclose(places[-1], last, atol=1e-9)
    np.testing.assert_allclose(yaws[0], [0, 0, 0.7], atol=1e-9)
    np.testing.assert_allclose(yaws[-1], [0, 0, 0.7 + way.yaw[-1]], atol=1e-9)


def test_a_plan_that_stands_is_a_path_of_one_pose() -> None:
    """nav2's controllers refuse an empty path."""
    still = np.zeros(10)
    way = Trajectory(0.1 * np.arange(10), *([still] * 6))
    plan = Plan(5, way, Decision(DecisionKind.STOP, "standing"))
    assert len(read(messages.path_bytes(plan, None, "base_link"), PATH).poses) == 1


@given(st.integers(0, 2**32 - 1), STAMPS)
@settings(max_examples=30, deadline=None)
def test_odometry_and_routes_come_back(seed: int, stamp_ns: int) -> None:
    random = np.random.default_rng(seed)
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = Rotation.random(random_state=seed).as_matrix(), random.normal(size=3) * 1000
    ego = EgoState(stamp_ns, pose, random.normal(size=2), random.normal())
    back = decode_odometry(through_rosbags(messages.odometry_message(ego, default_message), "nav_msgs/msg/Odometry"))
    np.testing.assert_allclose(back.T_odom_base, pose, atol=1e-9)
    np.testing.assert_array_equal(back.velocity, ego.velocity)
    assert (back.yaw_rate, back.stamp_ns) == (ego.yaw_rate, stamp_ns)
    route = Route(random.normal(size=(5, 2)) * 50)
    path = read(messages.route_bytes(route, stamp_ns), PATH)
    np.testing.assert_array_equal(messages.route_from_path(path).points, route.points)
    moved = messages.route_from_path(path, pose).points
    raised = np.column_stack([route.points, np.zeros(5), np.ones(5)])
    np.testing.assert_allclose(moved, (raised @ pose.T)[:, :2], atol=1e-9)


def test_sensor_messages_are_read_back_by_the_decoders() -> None:
    points = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    cloud = decode_pointcloud(messages.pointcloud_message(points, 7, "lidar", default_message, np.zeros(50)))
    np.testing.assert_array_equal(cloud.points[:, :3], points[:, :3])
    K = np.array([[700.0, 0, 640], [0, 710, 360], [0, 0, 1]])
    model = decode_camera_info(messages.camera_info_message(K, (1280, 720), 7, "camera", default_message))
    np.testing.assert_array_equal(model.intrinsics, K)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda m: setattr(m.detections[0].bbox.center.position, "x", float("nan")), "invalid_input"),
        (lambda m: setattr(m.detections[0].bbox.size, "y", -1.0), "invalid_input"),
        (lambda m: setattr(m.detections[0].bbox.center.orientation, "w", float("nan")), "invalid_input"),
        (lambda m: setattr(m.detections[0].results[0].hypothesis, "score", 7.0), "invalid_input"),
    ],
)
def test_impossible_boxes_raise_one_specific_error(spoil: object, reason: str) -> None:
    one = Boxes([[1, 2, 3]], [[4, 1.8, 1.5]], [0.3], [[5, 0]], [0], [0.9])
    message = read(messages.detections_bytes(one, 0), DETECTIONS)
    spoil(message)
    with pytest.raises(InvalidInput) as caught:
        messages.boxes_from_detections(message)
    assert caught.value.reason == reason


def test_detections_of_other_packages_need_not_be_complete() -> None:
    message = default_message("vision_msgs/msg/Detection3DArray")
    detection = default_message("vision_msgs/msg/Detection3D")
    size = detection.bbox.size
    size.x = size.y = size.z = 1.0
    message.detections = [detection]
    read = messages.boxes_from_detections(message)
    assert (read.label[0], read.score[0]) == (-1, 1.0)
    assert np.isnan(read.velocity).all()
