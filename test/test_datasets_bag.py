"""Recordings with labels: what replaying them gives, at any moment, with the boxes of that moment."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_world import START_NS, TinyWorld

from karp_perception.core import BagError, Boxes, ConfigurationError, InvalidInput, Objects
from karp_perception.pipeline import PipelineSettings
from karp_perception.replay.bag_frames import BagFrames
from karp_perception.replay.bag_moments import BagMoments
from karp_perception.ros.box_messages import detections_bytes
from karp_perception.ros.object_messages import objects_bytes
from karp_perception.sensing.bags import BagReader, BagWriter, default_message
from karp_perception.sensing.datasets import open_dataset
from karp_perception.sensing.datasets.labelled_bag import LabelledBag
from karp_perception.world.recording import record_drive

TRUTH = "/world/truth/objects"
DETECTIONS = "vision_msgs/msg/Detection3DArray"


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bag") / "drive.mcap"
    record_drive(TinyWorld(), path, 1.5, compressed=False)
    return path


def truth_of(ticks: int) -> TinyWorld:
    """The world after some ticks of the recorded drive."""
    from karp_perception.world.route_driver import RouteDriver

    world = TinyWorld()
    driver = RouteDriver(world.route)
    for _ in range(ticks):
        world.apply(driver.command(world.truth().ego, world.truth().boxes, world.truth().lights))
        world.tick()
    return world


def with_labels(source: Path, path: Path, messages: list[tuple[str, str, int, bytes]]) -> Path:
    """The recording without its truth but with other messages (topic, type, stamp in ns, CDR)."""
    with BagReader(source) as bag, BagWriter(path) as out:
        for message in bag.raw_messages():
            if not message.topic.startswith("/world/truth"):
                out.write(message.topic, message.type, message.log_ns, message.data)
        for topic, kind, stamp_ns, data in messages:
            out.write(topic, kind, stamp_ns, data)
    return path


def test_frames_and_labels_of_a_worlds_recording(bag: Path) -> None:
    dataset = open_dataset(bag)
    assert isinstance(dataset, LabelledBag)
    assert (dataset.format, len(dataset), dataset.topic) == ("bag", 15, TRUTH)
    for i in (9, 0, 14):
        world, frame = truth_of(i), dataset[i]
        assert frame.sensors.stamp_ns == START_NS + i * 100_000_000
        np.testing.assert_allclose(frame.labels.center, world.boxes().center, atol=1e-9)
        assert frame.object_id.tolist() == [7]
        assert frame.weight is None, "labels of score 1 are certain"
        np.testing.assert_allclose(frame.sensors.lidar.points, world.sensors().lidar.points, atol=1e-5)
        camera, seen = frame.sensors.cameras["front"], world.sensors().cameras["front"]
        np.testing.assert_array_equal(camera.image, seen.image)
        np.testing.assert_allclose(camera.T_base_camera, seen.T_base_camera, atol=1e-12)
        np.testing.assert_allclose(frame.sensors.ego.velocity, world.ego.velocity, atol=1e-9)
    dataset.close()


def test_any_moment_is_what_replaying_gives(bag: Path) -> None:
    with BagReader(bag) as reader:
        replayed = [frame for frame, _ in BagFrames(reader, PipelineSettings())]
    moments = BagMoments(bag)
    assert moments.stamps_ns.tolist() == [frame.stamp_ns for frame in replayed]
    for i in (7, 0, 14, 7):
        frame, _ = moments.frame(i)
        np.testing.assert_array_equal(frame.lidar.points, replayed[i].lidar.points)
        np.testing.assert_array_equal(frame.cameras["front"].image, replayed[i].cameras["front"].image)
        np.testing.assert_array_equal(frame.ego.T_odom_base, replayed[i].ego.T_odom_base)
    moments.close()


def test_intensities_have_the_same_scale_whatever_is_asked_for_first(tmp_path: Path) -> None:
    """The first sweep has no intensities, the others have 8 bits; the last one only dark things."""
    path = tmp_path / "drive.mcap"
    record_drive(TinyWorld(), tmp_path / "source.mcap", 0.5, compressed=False)
    scale = iter([0.0, 255.0, 255.0, 255.0, 1.0])
    with BagReader(tmp_path / "source.mcap") as source, BagWriter(path) as out:
        for message in source.messages():
            if message.type == "sensor_msgs/msg/PointCloud2":
                change_intensity(message.message, next(scale))
            out.write(message.topic, message.type, message.log_ns, message.message)
    with BagReader(path) as reader:
        replayed = [frame.lidar.points[:, 3].max() for frame, _ in BagFrames(reader, PipelineSettings())]
    np.testing.assert_allclose(replayed, [0.0, 1.0, 1.0, 1.0, 1 / 255], atol=1e-6)
    for order in ((4, 0, 2), (0, 4, 2)):
        moments = BagMoments(path)
        for i in order:
            assert moments.frame(i)[0].lidar.points[:, 3].max() == replayed[i]
        moments.close()


def change_intensity(cloud: object, scale: float) -> None:
    """Multiply the intensities of a cloud in place."""
    field = next(field for field in cloud.fields if field.name == "intensity")
    data = np.array(cloud.data, np.uint8).reshape(-1, cloud.point_step)
    column = data[:, field.offset : field.offset + 4].copy().view("<f4")
    data[:, field.offset : field.offset + 4] = (column * np.float32(scale)).view(np.uint8)
    cloud.data = data.reshape(-1)


@pytest.mark.data
def test_any_moment_of_a_recorded_drive_is_what_replaying_gives(recorded_data: Path) -> None:
    path = recorded_data / "kitti_drive"
    with BagReader(path) as reader:
        frames = iter(BagFrames(reader, PipelineSettings()))
        replayed = [next(frames)[0] for _ in range(6)]
    moments = BagMoments(path)
    for i in (4, 0):
        frame, _ = moments.frame(i)
        np.testing.assert_array_equal(frame.lidar.points, replayed[i].lidar.points)
        np.testing.assert_array_equal(frame.cameras["front"].image, replayed[i].cameras["front"].image)
    moments.close()
    with pytest.raises(InvalidInput, match="expected a topic of labels"):
        open_dataset(path)


def test_a_data_set_survives_pickling(bag: Path) -> None:
    dataset = LabelledBag(bag)
    first = dataset[3]
    copy = pickle.loads(pickle.dumps(dataset))
    np.testing.assert_array_equal(copy[3].sensors.lidar.points, first.sensors.lidar.points)
    copy.close()
    dataset.close()


def test_labels_in_another_frame_and_uncertain_ones(bag: Path, tmp_path: Path) -> None:
    """Labels of somebody's network in `odom`, a little beside the stamps of the sweeps, with names for ids."""
    car = Boxes([[60.0, 0.0, 0.75]], [[4.0, 1.8, 1.5]], [0.3], [[1.0, 0.0]], [0], [0.7], frame="odom")
    stamps = [START_NS + i * 100_000_000 + 20_000_000 for i in (2, 5)]
    messages = [("/labels", DETECTIONS, stamp, detections_bytes(car, stamp)) for stamp in stamps]
    path = with_labels(bag, tmp_path / "other.mcap", messages)
    dataset = open_dataset(path)
    assert len(dataset) == 2
    frame = dataset[1]
    assert frame.sensors.stamp_ns == START_NS + 500_000_000
    assert (frame.labels.score.tolist(), frame.object_id) == ([1.0], None)
    np.testing.assert_allclose(frame.weight, [0.7])
    # Between two poses of the vehicle, a fifth of the way from the sweep's to the next one's.
    x = 0.8 * truth_of(5).x + 0.2 * truth_of(6).x
    np.testing.assert_allclose(frame.labels.center, [[60.0 - x, 0.0, 0.75]], atol=1e-6)
    np.testing.assert_allclose(frame.labels.yaw, [0.3], atol=1e-9)
    with pytest.raises(IndexError):
        dataset[2]
    np.testing.assert_array_equal(dataset[-1].labels.center, frame.labels.center)
    strict = pytest.raises(InvalidInput, match=r"labels within 0\.01 s of a sweep")
    with strict:
        open_dataset(path, tolerance=0.01)
    dataset.close()


def test_scores_that_nobody_filled_in_are_no_disbelief(bag: Path, tmp_path: Path) -> None:
    stamp = START_NS + 400_000_000
    two = Boxes.concatenate([truth_of(4).boxes()] * 2)
    for name, scores, weight in (("unset", [0.0, 0.0], None), ("mixed", [0.0, 0.6], [1.0, 0.6])):
        message = detections_bytes(replace(two, score=np.array(scores)), stamp)
        dataset = open_dataset(with_labels(bag, tmp_path / f"{name}.mcap", [("/labels", DETECTIONS, stamp, message)]))
        found = dataset[0].weight
        assert (None if found is None else found.tolist()) == weight


def test_labels_that_belong_to_no_sweep_are_counted(
    bag: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    car = truth_of(4).boxes()
    stamps = [START_NS + 400_000_000, START_NS + 90_000_000_000]
    messages = [("/labels", DETECTIONS, stamp, detections_bytes(car, stamp)) for stamp in stamps]
    assert len(open_dataset(with_labels(bag, tmp_path / "late.mcap", messages))) == 1
    assert "/labels: 1 of 2 messages belong to no sweep within 0.05 s" in caplog.text


def test_autowares_objects_are_labels_too(bag: Path, tmp_path: Path) -> None:
    stamp = START_NS + 400_000_000
    boxes = truth_of(4).boxes()
    boxes = replace(boxes, velocity=np.array([[3.0, 1.0]]), yaw=np.array([0.5]), score=np.array([0.9]))
    objects = Objects(
        boxes, np.array([12]), np.zeros((1, 6, 6)), np.zeros(1), np.zeros(1), np.zeros((1, 0, 0, 3)), np.zeros((1, 0))
    )
    kinds = "autoware_perception_msgs/msg"
    messages = [("/truth/objects", f"{kinds}/PredictedObjects", stamp, objects_bytes(objects, stamp))]
    detected = default_message(f"{kinds}/DetectedObjects")
    detected.header.frame_id = "base_link"
    detected.header.stamp.sec, detected.header.stamp.nanosec = divmod(stamp, 10**9)
    item = default_message(f"{kinds}/DetectedObject")
    item.existence_probability = 1.0
    center = item.kinematics.pose_with_covariance.pose
    center.position.x, center.position.y, center.position.z = 20.0, 3.0, 0.9
    center.orientation.z, center.orientation.w = np.sin(0.25), np.cos(0.25)
    item.shape.dimensions.x, item.shape.dimensions.y, item.shape.dimensions.z = 0.6, 0.7, 1.8
    kind = default_message(f"{kinds}/ObjectClassification")
    kind.label, kind.probability = 7, 1.0
    item.classification = [kind]
    detected.objects = [item]
    with BagWriter(tmp_path / "one.mcap") as out:
        out.write("/annotations", f"{kinds}/DetectedObjects", stamp, detected)
    with BagReader(tmp_path / "one.mcap") as one:
        messages += [(m.topic, m.type, m.log_ns, m.data) for m in one.raw_messages()]
    path = with_labels(bag, tmp_path / "autoware.mcap", messages)
    with pytest.raises(InvalidInput, match="one topic of labels, got /annotations, /truth/objects; say which"):
        open_dataset(path)
    predicted = open_dataset(path, labels="/truth/objects")[0]
    np.testing.assert_allclose(predicted.labels.center, boxes.center, atol=1e-9)
    np.testing.assert_allclose(predicted.labels.velocity, boxes.velocity, atol=1e-9)
    assert predicted.object_id.tolist() == [12]
    np.testing.assert_allclose(predicted.weight, [0.9], atol=1e-6)
    found = open_dataset(path, labels="/annotations")[0]
    np.testing.assert_allclose(found.labels.center, [[20.0, 3.0, 0.9]])
    np.testing.assert_allclose(found.labels.size, [[0.6, 0.7, 1.8]])
    assert found.labels.yaw == pytest.approx(0.5)
    assert np.isnan(found.labels.velocity).all(), "the message says that it has no twist"
    assert (found.labels.label.tolist(), found.object_id, found.weight) == ([5], None, None)


def test_what_is_broken_is_said_in_one_line(bag: Path, tmp_path: Path) -> None:
    car = truth_of(4).boxes()
    stamp = START_NS + 400_000_000
    far = replace(car, center=np.array([[60_000.0, 0, 0]]))
    lost = replace(car, frame="somewhere")
    data = bytearray(detections_bytes(car, stamp))
    size = np.frombuffer(bytes(data), np.uint8)
    needle = np.array([4.0], "<f8").tobytes()
    at = size.tobytes().index(needle)
    data[at : at + 8] = np.array([-4.0], "<f8").tobytes()
    cases = {
        "far": (detections_bytes(far, stamp), "expected centres within 500 m, got 60000 m"),
        "lost": (detections_bytes(lost, stamp), "expected boxes in base_link or a frame joined to it"),
        "negative": (bytes(data), "expected positive lengths in m, got -4"),
        "cut": (detections_bytes(car, stamp)[:60], "one that cannot be decoded"),
    }
    for name, (message, says) in cases.items():
        path = with_labels(bag, tmp_path / f"{name}.mcap", [("/labels", DETECTIONS, stamp, message)])
        with pytest.raises(InvalidInput, match="expected") as caught:
            open_dataset(path)[0]
        assert says in str(caught.value)
        assert f"{name}.mcap /labels at" in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1
    none = with_labels(bag, tmp_path / "none.mcap", [])
    with pytest.raises(InvalidInput, match=r"expected a topic of labels .* got none; `karp label \S+none\.mcap"):
        open_dataset(none)
    with pytest.raises(ConfigurationError, match="no topic /boxes; boxes are in /world/truth/objects"):
        open_dataset(bag, labels="/boxes")
    with pytest.raises(InvalidInput, match="PointCloud2"):
        open_dataset(bag, labels="/lidar/points")
    (tmp_path / "empty.mcap").write_bytes(b"")
    with pytest.raises(BagError, match="empty"):
        open_dataset(tmp_path / "empty.mcap")


def test_a_folder_of_bags_that_are_labelled_now_and_then_is_one_data_set(bag: Path, tmp_path: Path) -> None:
    stamps = [START_NS + i * 100_000_000 for i in (1, 4, 8)]
    cars = [truth_of(i).boxes() for i in (1, 4, 8)]
    messages = [("/gt", DETECTIONS, t, detections_bytes(car, t)) for t, car in zip(stamps, cars, strict=True)]
    for number in range(2):
        record = tmp_path / "set" / "bags" / f"{number:06d}"
        with_labels(bag, record, messages)
    dataset = open_dataset(tmp_path / "set")
    assert (len(dataset), dataset.format) == (6, "bag")
    for i in range(6):
        np.testing.assert_allclose(dataset[i].labels.center, cars[i % 3].center, atol=1e-9)
