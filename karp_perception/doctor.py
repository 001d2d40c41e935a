"""`karp doctor`: what would go wrong with a recording, one line a fault, each with the way out.

Only a sample of every topic is read, so that a large recording takes seconds as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from karp_perception.core.errors import BagError, InvalidInput, MissingTransform
from karp_perception.doctor_sensors import check_camera, check_points, check_times
from karp_perception.findings import ERROR, INFO, SEVERITIES, WARNING, DoctorLimits, Finding
from karp_perception.sensing.bags import BagReader
from karp_perception.sensing.survey import TopicSample, sample_topic
from karp_perception.sensing.topics import CAMERA_INFO, CameraTopics, Inputs, find_inputs
from karp_perception.sensing.transforms import TransformBuffer

BASE_FRAMES = ("base_link", "base_footprint", "ego_vehicle", "hero", "base", "vehicle", "body", "ego", "chassis", "car")
"""What the vehicle's own frame is called in use, most usual first."""


def diagnose_bag(
    path: Path | str, base_frame: str = "base_link", limits: DoctorLimits = DoctorLimits()
) -> list[Finding]:
    """Everything that would go wrong with a recording, the worst first; never raises for what is in it.

    Args:
        path: bag directory or file.
        base_frame: what the vehicle's frame shall be.
        limits: from where on something counts as a fault.
    """
    try:
        bag = BagReader(path)
    except BagError as error:
        return [Finding(ERROR, str(path), str(error).removeprefix(f"{path}: "))]
    with bag:
        findings = list(_check(bag, base_frame, limits))
        findings += _damage(bag)
    unique = list(dict.fromkeys(findings))
    return sorted(unique, key=lambda finding: SEVERITIES.index(finding.severity))


def _check(bag: BagReader, base_frame: str, limits: DoctorLimits) -> Iterator[Finding]:
    if not bag.message_count:
        yield Finding(
            ERROR, bag.path.name, "has no messages", "record again; was the recorder started before the sensors?"
        )
        return
    inputs = find_inputs([topic for name, topic in bag.topics.items() if name not in bag.unknown])
    yield from _inputs(bag, inputs)
    yield from _qos(bag, inputs)
    lidar = {"lidar": inputs.points} if inputs.points else {}
    images = {name: camera.image for name, camera in inputs.cameras.items()}
    samples = {name: sample_topic(bag, topic) for name, topic in (lidar | images).items()}
    for name, sample in samples.items():
        if not len(sample):
            yield Finding(
                ERROR, sample.topic.name, "has no message that can be read", "look whether the driver was running"
            )
        elif name in inputs.cameras:
            info = inputs.cameras[name].camera_info
            yield from check_camera(sample, inputs.cameras[name], None if info is None else sample_topic(bag, info))
        else:
            yield from check_points(sample)
    present = {name: sample for name, sample in samples.items() if len(sample)}
    yield from check_times(present, bag, limits)
    yield from _transforms(bag, inputs, present, base_frame, limits)


def _damage(bag: BagReader) -> Iterator[Finding]:
    for line in bag.damage:
        file, _, problem = line.partition(": ")
        advice = "`mcap recover` writes a whole file of what can be read" if ".mcap" in file else ""
        yield Finding(WARNING, file, problem, advice)
    for topic, why in bag.unknown.items():
        yield Finding(INFO, topic, f"is left out: {why}")
    for topic, counters in bag.counters.items():
        if damaged := counters.dropped.get("undecodable"):
            share = f"{damaged} of {counters.received} messages that were read cannot be decoded"
            yield Finding(ERROR if not counters.used else WARNING, topic, share, "they will be counted and dropped")


def _inputs(bag: BagReader, inputs: Inputs) -> Iterator[Finding]:
    """What is there at all."""
    there = ", ".join(f"{topic.name} ({topic.type.split('/')[-1]})" for topic in bag.topics.values())
    if inputs.points is None and not inputs.cameras:
        advice = f"record a PointCloud2, Image or CompressedImage topic; there are {there}"
        yield Finding(ERROR, bag.path.name, "no camera and no lidar topic", advice)
        return
    if inputs.points is None:
        yield Finding(
            WARNING, bag.path.name, "no lidar topic (PointCloud2)", "distances will be poor and obstacles unseen"
        )
    elif inputs.other_points:
        others = ", ".join(inputs.other_points)
        yield Finding(
            INFO, inputs.points, f"is taken as the lidar; left out: {others}", "remap points to choose another"
        )
    if not inputs.cameras:
        yield Finding(INFO, bag.path.name, "no camera topic", "the lidar is used alone")
    if inputs.odometry is None:
        source = "lidar odometry will be used" if inputs.points else "the vehicle will be taken to stand still"
        yield Finding(INFO, bag.path.name, "no odometry (nav_msgs/Odometry)", source)
    infos = [topic.name for topic in bag.topics.values() if topic.type == CAMERA_INFO]
    for camera in inputs.cameras.values():
        if camera.camera_info is None:
            yield Finding(ERROR, camera.image, "has no camera_info", _camera_info_advice(camera, infos))


def _camera_info_advice(camera: CameraTopics, infos: list[str]) -> str:
    expected = f"record {camera.image.rsplit('/image', 1)[0]}/camera_info, in the image's namespace"
    return f"{expected}; there are {', '.join(infos)}" if infos else f"{expected}; the camera cannot be used without"


def _qos(bag: BagReader, inputs: Inputs) -> Iterator[Finding]:
    """Publishers of the recording, played back, that subscribers would not hear."""
    for name in [*inputs.transforms, *([inputs.route] if inputs.route else [])]:
        advice = f"play it with `ros2 bag play --qos-profile-overrides-path` ({name}: {{reliability: reliable"
        for profile in bag.topics[name].qos:
            if profile.reliability == "best_effort":
                yield Finding(WARNING, name, "was offered best-effort, subscribers ask for reliable", f"{advice}}})")
            if name.endswith("tf_static") and profile.durability == "volatile":
                problem = "was offered volatile: who subscribes later, or asks for transient_local, never gets it"
                yield Finding(WARNING, name, problem, f"{advice}, durability: transient_local}})")


def _transforms(
    bag: BagReader, inputs: Inputs, samples: dict[str, TopicSample], base_frame: str, limits: DoctorLimits
) -> Iterator[Finding]:
    """Whether every sensor can be placed on the vehicle."""
    base_frame = base_frame.removeprefix("/")
    used = {name: sample.frame_ids[0].removeprefix("/") for name, sample in samples.items()}
    for sample in samples.values():
        if "" in sample.frame_ids:
            yield Finding(ERROR, sample.topic.name, "its frame_id is empty", "set frame_id in the driver's parameters")
        if len(sample.frame_ids) > 1:
            frames = ", ".join(map(repr, sample.frame_ids[:4]))
            yield Finding(WARNING, sample.topic.name, f"its frame_id changes: {frames}", "are there two publishers?")
    away = {name: frame for name, frame in used.items() if frame not in ("", base_frame)}
    if not away:
        return
    buffer, faults = _read_transforms(bag, inputs, samples, limits)
    yield from faults
    frames = buffer.frames()
    listing = ", ".join(f"{samples[name].topic.name} in {frame!r}" for name, frame in away.items())
    if not frames:
        yield Finding(
            ERROR, bag.path.name, f"no transforms (/tf, /tf_static), and the sensors have their own frames: {listing}",
            f"record /tf_static, or play a static_transform_publisher from {base_frame} to each along with it",
        )  # fmt: skip
        return
    if base_frame not in frames:
        guess = next((f for f in BASE_FRAMES if f in frames and any(buffer.joined(f, a) for a in away.values())), None)
        use = f"use --base-frame {guess}" if guess else "name the vehicle's frame with --base-frame"
        yield Finding(ERROR, base_frame, "there is no such frame", f"{use}; there are {', '.join(frames)}")
        return
    for name, frame in away.items():
        yield from _placed(buffer, samples[name], frame, base_frame, name in inputs.cameras, limits)


def _read_transforms(
    bag: BagReader, inputs: Inputs, samples: dict[str, TopicSample], limits: DoctorLimits
) -> tuple[TransformBuffer, list[Finding]]:
    """All static transforms, and the moving ones around the samples."""
    buffer, faults = TransformBuffer(history_s=3600.0), []
    begin = min(int(sample.log_ns[0]) for sample in samples.values()) - 2_000_000_000
    for name in inputs.transforms:
        static = name.endswith("static")
        span = {} if static else {"start_ns": max(begin, 0)}
        for index, item in enumerate(bag.messages([name], **span)):
            if index >= limits.transforms:
                break
            try:
                buffer.add_message(item.message, static)
            except InvalidInput as error:
                faults.append(Finding(WARNING, name, str(error), "it is left out"))
    return buffer, faults


def _placed(
    buffer: TransformBuffer, sample: TopicSample, frame: str, base_frame: str, camera: bool, limits: DoctorLimits
) -> Iterator[Finding]:
    subject = sample.topic.name
    if not buffer.joined(base_frame, frame):
        try:
            buffer.latest(base_frame, frame)
        except MissingTransform as error:
            advice = "publish the missing transform (static for a mounted sensor), or choose another --base-frame"
            yield Finding(ERROR, subject, f"its frame {frame!r} is not joined to {base_frame}", f"{error}; {advice}")
        return
    try:
        T = buffer.lookup(base_frame, frame, int(sample.stamp_ns[len(sample) // 2]))
    except MissingTransform as error:
        yield Finding(ERROR, subject, "no transform at the time of its stamps", str(error))
        return
    if camera and T[2, 2] > limits.upward:  # the optical axis in base_link
        problem = f"its frame {frame!r} looks straight up: it is not an optical frame (z forward, x right, REP-103)"
        advice = "set the image's frame_id to the camera's optical frame, or turn the static transform"
        yield Finding(WARNING, subject, problem, advice)
    if not camera and np.hypot(T[0, 2], T[1, 2]) > np.sin(np.pi / 3):
        yield Finding(
            WARNING, subject, f"its frame {frame!r} lies on its side in {base_frame}", "check the mounting angles"
        )
