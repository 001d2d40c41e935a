"""The doctor's look at the sensors themselves: can they be decoded, calibrated and matched in time?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from karp_perception.core.errors import InvalidInput
from karp_perception.findings import ERROR, INFO, WARNING, DoctorLimits, Finding
from karp_perception.sensing.bags import BagReader
from karp_perception.sensing.survey import TopicSample
from karp_perception.sensing.topics import CameraTopics


def check_points(sample: TopicSample) -> Iterator[Finding]:
    """Clouds that cannot be decoded, hold nothing, or lack what helps."""
    from karp_perception.sensing.pointclouds import INTENSITY_FIELDS, TIME_FIELDS, decode_pointcloud

    subject = sample.topic.name
    clouds, findings = _decoded(sample, decode_pointcloud)
    yield from findings
    if clouds and not any(len(cloud.points) for cloud in clouds):
        advice = "look whether the sensor or a filter before the recorder delivers points"
        yield Finding(ERROR, subject, "no point has a finite position", advice)
    fields = {field.name for message in sample.messages for field in message.fields}
    if clouds and not fields & set(INTENSITY_FIELDS):
        yield Finding(INFO, subject, f"no intensity (fields: {', '.join(sorted(fields))})", "it is taken as 0")
    if clouds and not fields & set(TIME_FIELDS):
        yield Finding(INFO, subject, "no time per point", "the turning of the sensor is not corrected for fast driving")


def check_camera(sample: TopicSample, camera: CameraTopics, info: TopicSample | None) -> Iterator[Finding]:
    """Images that cannot be decoded, and calibrations that cannot be theirs."""
    from karp_perception.sensing.calibration import decode_camera_info
    from karp_perception.sensing.images import decode_compressed_image, decode_image

    images, findings = _decoded(sample, decode_compressed_image if camera.compressed else decode_image)
    yield from findings
    if info is None:
        return
    if not len(info):
        yield Finding(ERROR, info.topic.name, "has no message that can be read", "the camera cannot be used without")
        return
    models, findings = _decoded(info, decode_camera_info)
    yield from findings
    if not models:
        return
    model = models[0]
    if len(models) > 1 and any(not np.array_equal(m.intrinsics, model.intrinsics) for m in models):
        yield Finding(INFO, info.topic.name, "the calibration changes during the recording", "each change is followed")
    for height, width in {image.shape[:2] for image in images}:
        try:
            if model.scaled(width, height) is not model:
                problem = f"images are {width} x {height}, camera_info says {model.width} x {model.height}"
                yield Finding(
                    WARNING, sample.topic.name, problem, "the intrinsics are scaled; correct it in the driver"
                )
        except InvalidInput as error:
            yield Finding(ERROR, sample.topic.name, str(error))
    frames = {frame.removeprefix("/") for frame in info.frame_ids} - {""}
    if frames and sample.frame_ids[0].removeprefix("/") not in frames | {""}:
        problem = (
            f"its frame is {sample.frame_ids[0]!r}, that of its camera_info {', '.join(map(repr, sorted(frames)))}"
        )
        yield Finding(WARNING, sample.topic.name, problem, "the image's counts; is this the right camera_info?")
    if camera.rectified and model.distortion.coefficients:
        problem = "is called rectified, and its camera_info has distortion"
        advice = "it is taken as rectified, with P of the camera_info; set `rectified: no` where it is not"
        yield Finding(INFO, sample.topic.name, problem, advice)


def _decoded(sample: TopicSample, decode: Callable[[Any], Any]) -> tuple[list[Any], list[Finding]]:
    """What can be decoded of the kept messages, and one line for each different reason why others cannot."""
    good: list[Any] = []
    bad: dict[str, list[InvalidInput]] = {}
    for message in sample.messages:
        try:
            good.append(decode(message))
        except InvalidInput as error:
            bad.setdefault(error.reason, []).append(error)
    findings = [
        Finding(
            WARNING if good else ERROR,
            sample.topic.name,
            f"{len(errors)} of {len(sample.messages)} looked at: {errors[0]}",
            "such messages are counted and dropped" if good else "",
        )
        for reason, errors in bad.items()
        if reason != "absurd_stamp"  # said for the whole sample elsewhere
    ]
    return good, findings


def check_times(samples: Mapping[str, TopicSample], bag: BagReader, limits: DoctorLimits) -> Iterator[Finding]:
    """Stamps that cannot be, irregular or lost messages, and sensors that never see the same moment."""
    good: dict[str, TopicSample] = {}
    for name, sample in samples.items():
        findings = list(_stamps(sample, limits))
        yield from findings
        if any(finding.severity == ERROR for finding in findings):
            continue
        good[name] = sample
        yield from _rate(sample, bag, limits)
    anchor_name = "lidar" if "lidar" in good else next(iter(good), None)
    for name, sample in good.items():
        if anchor_name is not None and name != anchor_name:
            yield from _together(sample, good[anchor_name], limits)


def _stamps(sample: TopicSample, limits: DoctorLimits) -> Iterator[Finding]:
    subject, stamps = sample.topic.name, sample.stamp_ns
    if (zero := int((stamps <= 0).sum())) == len(stamps):
        yield Finding(ERROR, subject, "all stamps are zero", "let the driver fill header.stamp")
        return
    if zero:
        yield Finding(WARNING, subject, f"{zero} of {len(stamps)} stamps are zero", "they are dropped")
    used = stamps > 0
    stamps, logs = stamps[used], sample.log_ns[used]
    backwards = int((np.diff(stamps) < 0).sum())
    if backwards:
        problem = f"stamps go backwards {backwards} times in {len(stamps)} messages"
        yield Finding(WARNING, subject, problem, "two publishers on one topic, or a clock that is being set?")
    if repeated := int((np.diff(stamps) == 0).sum()):
        yield Finding(
            WARNING, subject, f"{repeated} stamps are those of the message before", "the second one is dropped"
        )
    offset = float(np.median(logs - stamps)) / 1e9
    if abs(offset) > limits.log_offset_s:
        problem = f"stamps are {abs(offset):.1f} s {'older' if offset > 0 else 'newer'} than the times of recording"
        advice = (
            "harmless where all sensors are alike; else synchronise their clocks (PTP), or let the driver use ROS time"
        )
        yield Finding(WARNING, subject, problem, advice)


def _rate(sample: TopicSample, bag: BagReader, limits: DoctorLimits) -> Iterator[Finding]:
    period = sample.period_s
    if period is None or period <= 0:
        return
    subject, steps = sample.topic.name, np.diff(sample.stamp_ns) / 1e9
    rate = f"{1 / period:.1f} Hz"
    gaps = steps[steps > limits.gap_periods * period]
    span = (sample.last_ns - int(sample.log_ns[0])) / 1e9
    expected = round(span / period) + 1
    lost = expected - sample.topic.count
    if len(gaps):
        problem = f"{len(gaps)} gaps of up to {gaps.max():.2f} s at {rate}"
        yield Finding(
            WARNING, subject, problem, "was the recorder or the network too slow? (disk, QoS depth, shared memory)"
        )
    elif lost > max(1, limits.lost_fraction * expected):
        problem = f"about {lost} of {expected} messages are missing at {rate}"
        yield Finding(
            WARNING, subject, problem, "was the recorder or the network too slow? (disk, QoS depth, shared memory)"
        )
    spread = float(np.subtract(*np.percentile(steps, (90, 10)))) / 2
    if spread > limits.jitter_fraction * period:
        problem = f"irregular: between messages pass {steps.min():.3f} to {steps.max():.3f} s, {period:.3f} s mostly"
        yield Finding(WARNING, subject, problem, "stamp at the sensor, not at arrival")
    early = bag.end_ns - sample.last_ns
    if early > 1e9 and early > 0.1 * (bag.end_ns - bag.start_ns):
        yield Finding(
            WARNING, subject, f"ends {early / 1e9:.1f} s before the recording does", "the sensor is masked then"
        )


def _together(sample: TopicSample, anchor: TopicSample, limits: DoctorLimits) -> Iterator[Finding]:
    subject, other = sample.topic.name, anchor.topic.name
    ours, theirs = np.sort(sample.stamp_ns[sample.stamp_ns > 0]), np.sort(anchor.stamp_ns[anchor.stamp_ns > 0])
    # Where the sample is not the whole topic, it goes on for as long as its log times do.
    our_end = int(ours[-1]) + (0 if sample.complete else sample.last_ns - int(sample.log_ns[-1]))
    their_end = int(theirs[-1]) + (0 if anchor.complete else anchor.last_ns - int(anchor.log_ns[-1]))
    slack = round(1e9 * (anchor.period_s or 0.1))
    if our_end + slack < theirs[0] or their_end + slack < ours[0]:
        apart = max(int(theirs[0]) - our_end, int(ours[0]) - their_end) / 1e9
        problem = f"no overlap in time with {other}: their stamps are {apart:.1f} s apart"
        advice = "they can never be matched: synchronise the clocks, or record them together"
        yield Finding(ERROR, subject, problem, advice)
        return
    within = theirs[(theirs >= ours[0] - slack) & (theirs <= ours[-1] + slack)]
    if len(within) < 3 or anchor.period_s is None:
        return
    right = np.clip(np.searchsorted(ours, within), 1, max(len(ours) - 1, 1))
    candidates = np.stack([ours[np.minimum(right, len(ours) - 1)] - within, ours[right - 1] - within])
    nearest = np.take_along_axis(candidates, np.abs(candidates).argmin(axis=0)[None], axis=0)[0] / 1e9
    offset = float(np.median(nearest))
    if abs(offset) > limits.camera_offset_fraction * anchor.period_s:
        when = "after" if offset > 0 else "before"
        problem = f"its stamps are {abs(offset) * 1e3:.0f} ms {when} those of {other}"
        advice = (
            f"objects that move are shifted; set its expected offset ({offset:.3f} s), or trigger it with the lidar"
        )
        yield Finding(WARNING, subject, problem, advice)
