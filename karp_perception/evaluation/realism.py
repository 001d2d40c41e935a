"""How real the embedded world's lidar is: its statistics beside those of recorded, labelled frames.

Two comparisons: places the generator makes against places that were recorded ("returns", "height", "share", "points",
"intensity"), and every recorded object against models of its size in its place ("restaged").
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from karp_perception.core import Boxes, ConfigurationError, LidarSweep
from karp_perception.evaluation.camera_view import View
from karp_perception.evaluation.restaging import paired, restage
from karp_perception.evaluation.sweep_statistics import Quantity, Scan, statistics
from karp_perception.sensing.labelled_frame import LabelledFrame, load_labelled_frame
from karp_perception.world.sensors.lidar_models import LidarModel, lidar_named

if TYPE_CHECKING:
    from rich.table import Table

    from karp_perception.world.rig import Rig

FACTOR = 1.5
"""Within which a quantity counts as like the real one."""

_RARE = 0.01  # share below which a factor says nothing
_FEW = 4  # real objects below which a median says nothing
_NOTICED = 0.2  # visibility below which annotators leave an object out
_UNDERWAY = 60.0  # m along the route: places end somewhere, recorded ones do not

# Source named by a frame -> its lidar, and where that is mounted in base_link, m: published by Geiger et al. (2013)
# and Caesar et al. (2020, calibrated_sensor); SUSTechPOINTS names no sensor: beams 1/3 deg and
# 1 deg apart in columns 2.5 deg apart are those of a Pandar40.
SOURCES: Mapping[str, tuple[str, tuple[float, float, float]]] = {
    "kitti": ("hdl64e", (0.0, 0.0, 1.73)),
    "nuscenes": ("hdl32e", (0.94, 0.0, 1.84)),
    "sustech": ("pandar40", (0.0, 0.0, 1.9)),
}
_FAR = 100.0  # m, at which a beam's direction is that from any sensor on the vehicle
_MOUNT = (0.0, 0.0, 1.8)  # m, where nothing is known of a vehicle

FAMILIES = ("straight", "curve", "intersection")
"""Kinds of place that recorded drives through towns consist of."""


@dataclass(frozen=True)
class Row:
    """One quantity of both sides.

    Attributes:
        real, world: None where that side has nothing of the kind.
        ratio: world / real, None without both.
        objects: real and simulated objects (or sweeps) behind it.
        within: whether the ratio lies within FACTOR; None where too little is there to say.
    """

    name: str
    real: float | None
    world: float | None
    ratio: float | None
    objects: tuple[int, int]
    within: bool | None


def compare(real: Mapping[str, Quantity], world: Mapping[str, Quantity]) -> list[Row]:
    """Rows in the order of `real`, then what only the world has."""
    rows = []
    for name in [*real, *(n for n in world if n not in real)]:
        a, b = real.get(name), world.get(name)
        ratio = b.value / a.value if a is not None and b is not None and a.value > 0 else None
        counts = (0 if a is None else a.count, 0 if b is None else b.count)
        share = name.startswith(("returns", "share", "height"))
        rare = a is None or b is None or (share and max(a.value, b.value) < _RARE)
        few = name.startswith(("points", "restaged")) and min(counts) < _FEW
        within = None if ratio is None or rare or few else bool(1 / FACTOR <= ratio <= FACTOR)
        rows.append(Row(name, a and a.value, b and b.value, ratio, counts, within))
    return rows


def real_scans(folders: Sequence[Path], lidar: str | None = None) -> dict[str, list[Scan]]:
    """Labelled frames by the lidar that made them.

    Args:
        folders: each one labelled frame, or holding several.
        lidar: name of the model; None tells it by the source that a frame names.
    """
    scans: dict[str, list[Scan]] = {}
    for folder in _frames(folders):
        frame = load_labelled_frame(folder)
        if frame.sensors.lidar is None:
            continue
        name, mount = _sensor_of(folder, lidar)
        points = frame.sensors.lidar.points
        scans.setdefault(name, []).append(_scan(points, frame.labels, lidar_named(name), mount, _view_of(frame)))
    if not scans:
        raise ConfigurationError(f"{', '.join(map(str, folders)) or 'no folder'}: expected labelled frames with lidar")
    return scans


def world_scans(
    frames: Iterable[tuple[LidarSweep, Boxes]],
    model: LidarModel,
    mount: tuple[float, float, float],
    view: View | None = None,
) -> Iterator[Scan]:
    """The same of simulated frames: sweeps and the truth of their moment, both in `base_link`."""
    for sweep, boxes in frames:
        yield _scan(sweep.points, boxes, model, mount, view)


def embedded_frames(rig: Rig, families: Sequence[str], frames: int, seed: int) -> Iterator[tuple[LidarSweep, Boxes]]:
    """Frames of the embedded world in clear weather: a new place for each, of each family in turn."""
    from karp_perception.world.embedded import EmbeddedWorld, Setup
    from karp_perception.world.sensors.weather import Weather

    for k in range(frames):
        setup = Setup(family=families[k % len(families)], start=_UNDERWAY, weather=Weather())
        with EmbeddedWorld(setup, rig, seed=seed + k) as world:
            sweep = world.sensors().lidar
            truth = world.truth()
            if sweep is not None:
                yield sweep, truth.boxes[(truth.points_inside > 0) & (truth.visibility > _NOTICED)]


def run(
    real: Sequence[Path],
    families: Sequence[str] = FAMILIES,
    frames: int = 40,
    seed: int = 0,
    lidar: str | None = None,
    file: Path | None = None,
) -> dict[str, list[Row]]:
    """Compare recorded frames with the embedded world, sensor by sensor.

    Args:
        real: folders of labelled frames.
        families: of layouts to drive through. frames: simulated for each sensor. seed: of the first.
        lidar: the model that all of `real` was recorded with; None tells it by each frame's source.
        file: where to write the rows as JSON; None writes nothing.

    Returns rows by the lidar's name. Raises ConfigurationError and InvalidInput for bad folders, names and numbers.
    """
    from karp_perception.world.models import catalogue
    from karp_perception.world.rig import Rig, mounted

    if frames < 1 or not families:
        raise ConfigurationError(f"realism: expected at least one frame and family, got {frames} and {list(families)}")
    found: dict[str, list[Row]] = {}
    for name, scans in real_scans(real, lidar).items():
        model, mount = lidar_named(name), tuple(float(v) for v in scans[0].origin)
        rig = Rig(name, model, mounted(*mount))
        view = next((scan.view for scan in scans if scan.view is not None), None)
        simulated = world_scans(embedded_frames(rig, families, frames, seed), model, mount, view)
        recorded, restaged = paired([restage(scan, model, catalogue.FAMILIES, seed) for scan in scans])
        found[name] = compare(statistics(scans) | recorded, statistics(simulated) | restaged)
    if file is not None:
        Path(file).write_text(json.dumps(as_json(found), indent=1) + "\n")
    return found


def as_json(found: Mapping[str, Sequence[Row]]) -> dict[str, list[dict[str, Any]]]:
    """Rows by lidar, ready for `json.dumps`."""
    return {name: [asdict(row) for row in rows] for name, rows in found.items()}


def table(name: str, rows: Sequence[Row]) -> Table:
    """Both sides beside each other, for a console."""
    from rich.table import Table

    judged = [row.within for row in rows if row.within is not None]
    title = f"{name}: {sum(judged)} of {len(judged)} quantities within a factor of {FACTOR:g}"
    grid = Table("quantity", "real", "world", "ratio", "of", "", title=title)
    for column in grid.columns[1:5]:
        column.justify = "right"
    for row in rows:
        mark = {True: "", False: "[red]off[/red]", None: "[dim]-[/dim]"}[row.within]
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        grid.add_row(row.name, _number(row.real), _number(row.world), ratio, f"{row.objects[0]}/{row.objects[1]}", mark)
    return grid


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def _scan(
    points: np.ndarray, boxes: Boxes, model: LidarModel, mount: tuple[float, float, float], view: View | None
) -> Scan:
    origin, nearest = np.array(mount), max(model.min_range, 1.8)
    pulses = model.columns * model.beams
    if view is not None:
        azimuth, elevation = np.meshgrid(np.radians(np.arange(-180.0, 180.0, 0.5)), np.radians(model.elevations))
        level = np.cos(elevation)
        rays = np.stack([np.cos(azimuth) * level, np.sin(azimuth) * level, np.sin(elevation)], axis=-1).reshape(-1, 3)
        pulses = round(pulses * float(view.sees(origin + _FAR * rays).mean()))
    return Scan(points, boxes, origin, np.array(model.elevations), pulses, nearest, view)


def _view_of(frame: LabelledFrame) -> View | None:
    """The camera's view where labels end with it."""
    camera = next(iter(frame.sensors.cameras.values()), None)
    if not frame.sector or camera is None:
        return None
    return View.of(camera)


def _frames(folders: Sequence[Path]) -> Iterator[Path]:
    for folder in map(Path, folders):
        if (folder / "frame.json").exists():
            yield folder
        else:
            yield from sorted(file.parent for file in folder.glob("*/frame.json"))


def _sensor_of(folder: Path, lidar: str | None) -> tuple[str, tuple[float, float, float]]:
    source = str(json.loads((folder / "frame.json").read_text()).get("source", "")).lower()
    known = next((value for key, value in SOURCES.items() if key in source), None)
    if lidar is not None:
        return lidar, known[1] if known is not None and known[0] == lidar else _MOUNT
    if known is None:
        raise ConfigurationError(
            f"{folder}: its source {source!r} does not tell which lidar it was; name one (--lidar)"
        )
    return known
