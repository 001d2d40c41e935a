"""The tables of nuScenes (Caesar et al. 2020): JSON lists of records that name each other by tokens.

Those of the whole data set have two gigabytes: they are read record by record, as fast as `json` reads them whole, and
only what frames are made of is kept (in tables of a tenth of v1.0-trainval: 90 MB).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from karp_perception.core import class_from_name
from karp_perception.core.errors import InvalidInput

LIDAR = "LIDAR_TOP"

_BLOCK = 1 << 20  # characters read at once
_LONGEST_RECORD = 1 << 22  # characters; those of nuScenes have less than a thousand
_LEVELS = 4  # of visibility
_SEPARATOR = re.compile(r"[\s,]*")


@dataclass(frozen=True)
class Sensor:
    """A sensor of a vehicle: channel, modality, where it is in the vehicle, and (3, 3) intrinsics of a camera."""

    channel: str
    modality: str
    translation: tuple[float, ...]
    rotation: tuple[float, ...]
    intrinsics: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class Recording:
    """What a sensor recorded once: its file, time (µs), and the pose of the vehicle at that time."""

    file: str
    sensor: Sensor
    time_us: int
    translation: tuple[float, ...]
    rotation: tuple[float, ...]


@dataclass(frozen=True)
class Annotations:
    """All boxes of all samples, in global coordinates; those of sample s are rows `first[s]` to `first[s + 1]`.

    Attributes:
        first: (S + 1,).
        center: (A, 3) m.
        size: (A, 3) width, length, height, m.
        rotation: (A, 4) quaternions w x y z.
        velocity: (A, 3) m/s, NaN where it is not known.
        instance: (A,) number of the object.
        label: (A,).
        visibility: (A,) level 1 to 4, 0 where it is not told.
    """

    first: np.ndarray
    center: np.ndarray
    size: np.ndarray
    rotation: np.ndarray
    velocity: np.ndarray
    instance: np.ndarray
    label: np.ndarray
    visibility: np.ndarray


@dataclass(frozen=True)
class Tables:
    """What frames are made of. Samples are in order of scene and time.

    Attributes:
        recordings: for each sample, by channel.
        sweeps: recordings of the lidar for each scene, in order of time.
        scene: (S,) of each sample, into `sweeps`.
        annotations: of all samples.
    """

    recordings: list[dict[str, Recording]]
    sweeps: list[list[Recording]]
    scene: np.ndarray
    annotations: Annotations


def records(file: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSON list, one after another. Raises InvalidInput, naming the file, for anything else."""
    decoder = json.JSONDecoder()
    advice = "it is truncated or no table of nuScenes: unpack it again"
    try:
        with file.open(encoding="utf-8") as stream:
            text, at, opened = stream.read(_BLOCK), 0, False
            while True:
                at = _SEPARATOR.match(text, at).end()  # type: ignore[union-attr]
                if at < len(text) and not opened:
                    if text[at] != "[":
                        raise InvalidInput(str(file), "a JSON list", repr(text[at : at + 20]), advice)
                    opened, at = True, at + 1
                    continue
                if at < len(text) and text[at] == "]":
                    return
                try:
                    if at == len(text):
                        raise json.JSONDecodeError("more", text, at)
                    record, at = decoder.raw_decode(text, at)
                except (json.JSONDecodeError, RecursionError):
                    more = stream.read(_BLOCK)
                    if not more or len(text) - at > _LONGEST_RECORD:
                        got = repr(text[at : at + 40]) if text[at:] else "the end of the file"
                        raise InvalidInput(str(file), "a list of records up to its ]", got, advice) from None
                    text, at = text[at:] + more, 0
                    continue
                if not isinstance(record, dict):
                    raise InvalidInput(str(file), "a list of records", repr(record)[:40], advice)
                yield record
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(
            str(file), "a table of nuScenes", f"one that cannot be read ({error})", "is it there?"
        ) from None


def rows(file: Path, *keys: str) -> Iterator[tuple[Any, ...]]:
    """The values of some keys, record by record. Raises InvalidInput, naming file and record, where one is missing."""
    links = [key for key in keys if key.endswith("token") and key != "visibility_token"]
    for number, record in enumerate(records(file)):
        try:
            values = tuple([record[key] for key in keys])
        except KeyError as error:
            raise InvalidInput(f"{file} record {number}", f"a key {error}", f"only {', '.join(record)}") from None
        for key in links:
            if not isinstance(record[key], str):
                raise InvalidInput(f"{file} record {number}: {key}", "a string", repr(record[key])[:80])
        yield values


def _numbers(file: Path, token: object, name: str, values: Any, count: int) -> tuple[float, ...]:
    """`count` finite numbers, or InvalidInput naming file, record and key."""
    try:
        numbers = tuple(map(float, values))
    except (TypeError, ValueError, OverflowError):
        numbers = ()
    if len(numbers) != count or not all(map(math.isfinite, numbers)):
        raise InvalidInput(f"{file} record {token}: {name}", f"{count} finite numbers", repr(values)[:80])
    return numbers


def _integer(file: Path, token: object, name: str, value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        raise InvalidInput(f"{file} record {token}: {name}", "an integer", repr(value)[:80]) from None


def read_tables(folder: Path, scenes: Container[str] | None = None) -> Tables:
    """The tables in a folder such as `v1.0-mini`, of all scenes or of those with some names.

    Raises InvalidInput, naming the file, where one is missing, damaged or names something that is not there.
    """
    wanted = None
    if scenes is not None:
        wanted = {token for token, name in rows(folder / "scene.json", "token", "name") if name in scenes}
        if not wanted:
            raise InvalidInput(str(folder / "scene.json"), "at least one of the scenes asked for", "none of them")
    file = folder / "sample.json"
    samples = [
        (scene, _integer(file, token, "timestamp", time), token)
        for token, time, scene in rows(file, "token", "timestamp", "scene_token")
        if wanted is None or scene in wanted
    ]
    begin: dict[str, int] = {}
    for scene, time, _ in samples:
        begin[scene] = min(begin.get(scene, time), time)
    samples.sort(key=lambda s: (begin[s[0]], s[0], s[1]))
    number = {token: i for i, (_, _, token) in enumerate(samples)}
    scene_number = {scene: i for i, scene in enumerate(dict.fromkeys(scene for scene, _, _ in samples))}
    scene_of = np.array([scene_number[scene] for scene, _, _ in samples], np.int64)
    of_samples, sweeps = _recordings(folder, number, scene_of, len(scene_number))
    times = np.array([time for _, time, _ in samples], np.float64) * 1e-6
    return Tables(of_samples, sweeps, scene_of, _annotations(folder, number, times))


def _sensors(folder: Path) -> dict[str, Sensor]:
    channels = {token: (c, m) for token, c, m in rows(folder / "sensor.json", "token", "channel", "modality")}
    file = folder / "calibrated_sensor.json"
    sensors = {}
    for token, sensor, translation, rotation, intrinsics in rows(
        file, "token", "sensor_token", "translation", "rotation", "camera_intrinsic"
    ):
        if sensor not in channels:
            raise InvalidInput(f"{file} sensor_token", "one of sensor.json", repr(sensor))
        channel, modality = channels[sensor]
        placed = _numbers(file, token, "translation", translation, 3), _numbers(file, token, "rotation", rotation, 4)
        if modality != "camera":
            intrinsics = []
        elif not isinstance(intrinsics, list) or len(intrinsics) != 3:
            raise InvalidInput(f"{file} record {token}: camera_intrinsic", "3 rows", repr(intrinsics)[:80])
        matrix = tuple(_numbers(file, token, "camera_intrinsic", row, 3) for row in intrinsics)
        sensors[token] = Sensor(channel, modality, *placed, matrix)
    return sensors


def _recordings(
    folder: Path, sample_number: dict[str, int], scene_of: np.ndarray, scenes: int
) -> tuple[list[dict[str, Recording]], list[list[Recording]]]:
    sensors = _sensors(folder)
    file, poses = folder / "sample_data.json", folder / "ego_pose.json"
    kept: list[tuple[int, bool, Sensor, str, int, str]] = []
    for sample, sensor_token, pose, key_frame, name, time in rows(
        file, "sample_token", "calibrated_sensor_token", "ego_pose_token", "is_key_frame", "filename", "timestamp"
    ):
        number = sample_number.get(sample)
        if number is None:
            continue
        sensor = sensors.get(sensor_token)
        if sensor is None:
            raise InvalidInput(f"{file} calibrated_sensor_token", "one of calibrated_sensor.json", repr(sensor_token))
        if sensor.channel == LIDAR or (key_frame and sensor.modality == "camera"):
            time = _integer(file, name, "timestamp", time)
            kept.append((number, bool(key_frame), sensor, pose, time, str(name)))
    needed = {pose for _, _, _, pose, _, _ in kept}
    pose_of = {
        token: (
            _numbers(poses, token, "translation", translation, 3),
            _numbers(poses, token, "rotation", rotation, 4),
        )
        for token, translation, rotation in rows(poses, "token", "translation", "rotation")
        if token in needed
    }
    of_samples: list[dict[str, Recording]] = [{} for _ in sample_number]
    sweeps: list[list[Recording]] = [[] for _ in range(scenes)]
    for number, key_frame, sensor, pose, time, name in kept:
        if pose not in pose_of:
            raise InvalidInput(f"{file} ego_pose_token", "one of ego_pose.json", repr(pose))
        recording = Recording(name, sensor, time, *pose_of[pose])
        if key_frame:
            of_samples[number][sensor.channel] = recording
        if sensor.channel == LIDAR:
            sweeps[scene_of[number]].append(recording)
    for of_scene in sweeps:
        of_scene.sort(key=lambda recording: recording.time_us)
    return of_samples, sweeps


def _annotations(folder: Path, sample_number: dict[str, int], times: np.ndarray) -> Annotations:
    names = dict(rows(folder / "category.json", "token", "name"))
    instances: dict[str, tuple[int, int]] = {}
    for token, category in rows(folder / "instance.json", "token", "category_token"):
        label = int(class_from_name(str(names.get(category, ""))))
        instances[token] = (len(instances) + 1, label)
    file = folder / "sample_annotation.json"
    numbers: list[tuple[int, ...]] = []
    values: list[tuple[float, ...]] = []
    tokens: list[tuple[bytes, bytes, bytes]] = []
    for token, sample, instance, visibility, center, size, rotation, before, after in rows(
        file, "token", "sample_token", "instance_token", "visibility_token", "translation", "size", "rotation",
        "prev", "next",
    ):  # fmt: skip
        if sample not in sample_number:
            continue
        if instance not in instances:
            raise InvalidInput(f"{file} instance_token", "one of instance.json", repr(instance))
        try:
            level = min(max(int(visibility or 0), 0), _LEVELS)
            numbers.append((sample_number[sample], *instances[instance], level))
            values.append((*map(float, center), *map(float, size), *map(float, rotation)))
            tokens.append((token.encode(), before.encode(), after.encode()))
        except (TypeError, ValueError, AttributeError, OverflowError) as error:
            raise InvalidInput(f"{file} record {token}", "tokens and numbers", error) from None
        if len(values[-1]) != 10:
            got = f"{len(values[-1])} numbers"
            raise InvalidInput(f"{file} record {token}", "translation (3), size (3), rotation (4)", got)
    table = np.reshape(np.array(values, np.float64), (-1, 10))
    integers = np.reshape(np.array(numbers, np.int64), (-1, 4))
    order = np.argsort(integers[:, 0], kind="stable")
    table, integers = table[order], integers[order]
    links = np.reshape(np.array(tokens, dtype="S"), (-1, 3))[order]
    velocity = _velocity(table[:, :3], times[integers[:, 0]], *_neighbours(links))
    first = np.searchsorted(integers[:, 0], np.arange(len(sample_number) + 1))
    return Annotations(
        first, table[:, :3], table[:, 3:6], table[:, 6:], velocity, integers[:, 1], integers[:, 2], integers[:, 3]
    )  # fmt: skip


def _neighbours(links: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows (A,) of the previous and the next annotation of each one's object, its own row where there is none."""
    count = len(links)
    own = np.arange(count)
    if not count:
        return own, own
    order = np.argsort(links[:, 0])
    ordered = links[order, 0]

    def find(tokens: np.ndarray) -> np.ndarray:
        place = np.minimum(np.searchsorted(ordered, tokens), count - 1)
        return np.where(ordered[place] == tokens, order[place], own)

    return find(links[:, 1]), find(links[:, 2])


_LONGEST_S = 1.5  # between annotations, for a difference to one side; twice that between both


def _velocity(center: np.ndarray, time: np.ndarray, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """(A, 3) m/s by central differences where an object was annotated before and after, else by one-sided ones.

    As the benchmark defines it: NaN for objects that were annotated once, and where too much time lies between.
    """
    own = np.arange(len(time))
    seconds = time[after] - time[before]
    longest = np.where((before != own) & (after != own), 2 * _LONGEST_S, _LONGEST_S)
    known = (seconds > 0) & (seconds <= longest)
    velocity = (center[after] - center[before]) / np.where(known, seconds, 1.0)[:, None]
    return np.where(known[:, None], velocity, np.nan)
