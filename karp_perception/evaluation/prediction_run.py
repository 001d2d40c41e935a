"""`karp evaluate prediction`: every way to predict on the same held-out drives of the world, tables out.

Things are perceived with the errors of a tracker (`PerceptionErrors`); what is measured are those that drive or walk,
also while they wait, within 70 m of the vehicle, and that are there for the whole horizon.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from karp_perception.core.errors import ConfigurationError
from karp_perception.evaluation.held_out_frames import EVALUATION_SEEDS
from karp_perception.evaluation.prediction import MEASURES, PredictionScores, prediction_scores
from karp_perception.prediction.constant_velocity import constant_velocity_paths
from karp_perception.prediction.history import EGO_ID
from karp_perception.prediction.kinematic import kinematic_paths
from karp_perception.prediction.lanes import Lanes
from karp_perception.prediction.network import PredictorNetwork
from karp_perception.prediction.predictor import open_network
from karp_perception.prediction.settings import PredictionSettings
from karp_perception.prediction.state import GROUPS
from karp_perception.prediction.tokens import LanePieces
from karp_perception.prediction.training.moments import Moment, moments
from karp_perception.prediction.training.perceived import PerceptionErrors, perceived
from karp_perception.records import versions, write_json
from karp_perception.world.traffic_drives import TrafficDrive, TrafficDrives
from karp_perception.world.world_frames import HELD_OUT_FAMILY

CONSTANT_VELOCITY, MANOEUVRES, NETWORK = "constant velocity", "manoeuvres", "network"
LANES_KNOWN = ("none", "route", "all")
"""Which lanes a prediction knows: none, the vehicle's own route (as the pipeline does), or all of the place."""

AHEAD_S, KEPT = (1.0, 3.0, 5.0), (1, 6)
_EVERY_S = 1.0

Found = tuple[np.ndarray, np.ndarray]


@dataclass
class _Tally:
    """Scores by method, lanes, K and s ahead, and what each thing is."""

    scores: dict[tuple[str, str, int, float], list[PredictionScores]] = field(default_factory=dict)
    group: list[np.ndarray] = field(default_factory=list)
    held_out: list[np.ndarray] = field(default_factory=list)


def evaluate_prediction(
    seed: int = 0,
    drives: int = 40,
    families: Sequence[str] = (),
    network: str = "predictor",
    json: Path | None = None,
    progress: Callable[[float, str], None] = lambda share, what: None,
) -> dict[str, Any]:
    """Measure, and write `json` where it is given.

    Args:
        seed: of the held-out drives; training never sees their places.
        drives: how many, of families drawn evenly.
        families: of places; all where empty.
        network: a shipped name, a file, or none.
        progress: called with the share that is done.

    Returns:
        `rows`: a mapping for each method, lanes, K, time ahead and group of classes, with a value of each measure;
        `gain`: by how much of it minFDE at 3 s falls below constant velocity, by method and lanes.
    """
    from karp_perception.world.layouts.families import FAMILIES

    if drives < 1 or seed < 0:
        raise ConfigurationError(
            f"evaluate prediction: expected a seed of at least 0 and a drive, got {seed}, {drives}"
        )
    source = TrafficDrives(EVALUATION_SEEDS + seed, families or FAMILIES)
    net, tally = open_network(network), _Tally()
    for number in range(drives):
        _measure(source.drive(number), number, net, tally)
        progress((number + 1) / drives, f"{number + 1} of {drives} drives")
    content = _content(tally)
    content |= {"seed": seed, "drives": drives, "network": net and net.digest, "versions": versions()}
    if json is not None:
        write_json(json, content)
    return content


def predictions(
    moment: Moment, rows: np.ndarray, lanes: Mapping[str, Lanes | None], network: PredictorNetwork | None
) -> Iterator[tuple[str, str, Found]]:
    """Paths (N, K, T, 3) and probabilities (N, K) of the things `rows` (N,) of a moment by method and known lanes."""
    settings, state = PredictionSettings(), moment.state
    chosen = state.take(rows)
    velocity = chosen.speed[:, None] * np.column_stack([np.cos(chosen.heading), np.sin(chosen.heading)])
    straight = constant_velocity_paths(chosen.position, chosen.yaw, velocity, settings)
    yield CONSTANT_VELOCITY, LANES_KNOWN[0], straight
    for known, ways in lanes.items():
        yield MANOEUVRES, known, kinematic_paths(chosen, settings, ways)
        if network is not None:
            own, pieces = moment.ids == EGO_ID, None if ways is None else LanePieces.of(ways)
            yield NETWORK, known, network.paths(rows, state, moment.past, moment.size, own, pieces, settings)


def _measure(drive: TrafficDrive, number: int, network: PredictorNetwork | None, tally: _Tally) -> None:
    told = perceived(drive, PerceptionErrors(), number)
    lanes = dict(zip(LANES_KNOWN, (None, Lanes.of([drive.route]), Lanes.of(drive.ways)), strict=True))
    for moment in moments(drive, told, PredictionSettings().horizon, _EVERY_S):
        rows = np.flatnonzero(moment.alive & moment.there[:, -1])
        if len(rows) == 0:
            continue
        for method, known, (paths, probability) in predictions(moment, rows, lanes, network):
            for ahead in AHEAD_S:
                points = round(ahead / drive.step)
                for most in KEPT:
                    found = prediction_scores(paths, probability, moment.future[rows], points, most)
                    tally.scores.setdefault((method, known, most, ahead), []).append(found)
        tally.group.append(moment.state.group[rows])
        tally.held_out.append(np.full(len(rows), drive.family == HELD_OUT_FAMILY))


def _content(tally: _Tally) -> dict[str, Any]:
    if not tally.group:
        raise ConfigurationError("evaluate prediction: nothing drove or walked for the whole horizon; take more drives")
    group, held_out = np.concatenate(tally.group), np.concatenate(tally.held_out)
    kinds = {"all": np.ones(len(group), bool)} | {name: group == k for k, name in enumerate(GROUPS)}
    kinds[f"{HELD_OUT_FAMILY} (never trained on)"] = held_out
    rows, straight = [], {}
    for (method, known, most, ahead), parts in tally.scores.items():
        scores = PredictionScores.concatenate(parts)
        for kind, mask in kinds.items():
            if not mask.any():
                continue
            means = scores.means(mask)
            if method == CONSTANT_VELOCITY:
                straight[kind, most, ahead] = means["min_fde"]
            less = 1 - means["min_fde"] / max(straight[kind, most, ahead], 1e-9)
            about = {"method": method, "lanes": known, "k": most, "ahead_s": ahead, "kind": kind}
            rows.append({**about, "count": int(mask.sum()), **{m: means[m] for m in MEASURES}, "below_straight": less})
    gain = {
        f"{row['method']}, lanes {row['lanes']}, K {row['k']}": row["below_straight"]
        for row in rows
        if row["kind"] == "all" and row["ahead_s"] == 3.0 and row["method"] != CONSTANT_VELOCITY
    }
    return {"rows": rows, "gain": gain}


def prediction_tables(content: Mapping[str, Any]) -> list[Any]:
    """A table for each time ahead and kind of thing, for the terminal."""
    from rich.table import Table

    tables = []
    wanted = [(3.0, kind) for kind in dict.fromkeys(row["kind"] for row in content["rows"])]
    wanted = [(1.0, "all"), *wanted, (5.0, "all")]
    for ahead, kind in wanted:
        rows = [row for row in content["rows"] if row["ahead_s"] == ahead and row["kind"] == kind]
        if not rows:
            continue
        table = Table(title=f"{kind}, {ahead:g} s ahead, {rows[0]['count']} things", title_justify="left")
        for name in (
            "paths by",
            "lanes known",
            "K",
            "minADE m",
            "minFDE m",
            "below straight",
            "misses",
            "brier-minFDE",
        ):
            table.add_column(name, justify="left" if name in ("paths by", "lanes known") else "right")
        for row in sorted(rows, key=lambda r: (r["k"], LANES_KNOWN.index(r["lanes"]))):
            if row["method"] == CONSTANT_VELOCITY and row["k"] > 1:
                continue
            table.add_row(
                row["method"], row["lanes"], str(row["k"]), f"{row['min_ade']:.2f}", f"{row['min_fde']:.2f}",
                f"{row['below_straight']:.0%}", f"{row['miss_rate']:.1%}", f"{row['brier_min_fde']:.2f}",
            )  # fmt: skip
        tables.append(table)
    return tables
