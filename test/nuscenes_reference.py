"""The nuScenes detection evaluation written out in loops, one box at a time, as its paper and devkit describe it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from karp_perception.core import CLASS_NAMES
from karp_perception.evaluation.scored_frames import ScoredFrame

RANGES = dict(zip(CLASS_NAMES, [50] * 5 + [40] * 3 + [30] * 2, strict=True))
DISTANCES = (0.5, 1.0, 2.0, 4.0)
ERRORS = ("trans_err", "scale_err", "orient_err", "vel_err", "attr_err")


def attribute(name: str, velocity: tuple[float, float]) -> str:
    if math.isnan(velocity[0]) or math.isnan(velocity[1]) or name in ("traffic_cone", "barrier"):
        return ""
    moves = math.hypot(*velocity) > 0.2
    if name == "pedestrian":
        return "pedestrian.moving" if moves else "pedestrian.standing"
    if name in ("motorcycle", "bicycle"):
        return "cycle.with_rider" if moves else "cycle.without_rider"
    return "vehicle.moving" if moves else ("vehicle.stopped" if name == "bus" else "vehicle.parked")


def rows(frame: ScoredFrame, which: str) -> list[dict]:
    boxes = getattr(frame, which)
    out = []
    for i in range(len(boxes)):
        label = int(boxes.label[i])
        if label < 0:
            continue
        name = CLASS_NAMES[label]
        x, y, _ = (float(v) for v in boxes.center[i])
        if not math.sqrt(x * x + y * y) < RANGES[name]:
            continue
        if which == "truth" and frame.points_inside[i] == 0:
            continue
        velocity = tuple(float(v) for v in boxes.velocity[i])
        row = {"name": name, "x": x, "y": y, "size": [float(v) for v in boxes.size[i]], "yaw": float(boxes.yaw[i])}
        row |= {"velocity": velocity, "attribute": attribute(name, velocity), "score": float(boxes.score[i])}
        out.append(row)
    return out


def errors_of(found: dict, true: dict) -> dict[str, float]:
    inner = math.prod(min(a, b) for a, b in zip(found["size"], true["size"], strict=True))
    period = math.pi if true["name"] == "barrier" else 2 * math.pi
    turn = (true["yaw"] - found["yaw"] + period / 2) % period - period / 2
    if turn > math.pi:
        turn -= 2 * math.pi
    return {
        "trans_err": math.hypot(found["x"] - true["x"], found["y"] - true["y"]),
        "scale_err": 1 - inner / (math.prod(found["size"]) + math.prod(true["size"]) - inner),
        "orient_err": abs(turn),
        "vel_err": math.hypot(*(a - b for a, b in zip(found["velocity"], true["velocity"], strict=True))),
        "attr_err": math.nan if true["attribute"] == "" else float(true["attribute"] != found["attribute"]),
    }


def curve(boxes: list[tuple[list[dict], list[dict]]], name: str, limit: float) -> dict[str, np.ndarray]:
    """Step by step what the devkit's `accumulate` is for."""
    truth = [[row for row in there if row["name"] == name] for _, there in boxes]
    found = [(f, row) for f, (seen, _) in enumerate(boxes) for row in seen if row["name"] == name]
    recall = np.linspace(0, 1, 101)
    nothing = {"precision": np.zeros(101), "confidence": np.zeros(101), **{e: np.ones(101) for e in ERRORS}}
    positives = sum(len(t) for t in truth)
    if positives == 0:
        return nothing
    order = [i for _, i in sorted((row["score"], i) for i, (_, row) in enumerate(found))][::-1]
    taken: set[tuple[int, int]] = set()
    hits, scores, hit_scores, hit_errors = [], [], [], []
    for i in order:
        f, row = found[i]
        best, nearest = None, math.inf
        for k, true in enumerate(truth[f]):
            apart = math.sqrt((row["x"] - true["x"]) ** 2 + (row["y"] - true["y"]) ** 2)
            if (f, k) not in taken and apart < nearest:
                best, nearest = k, apart
        hit = nearest < limit
        hits.append(hit)
        scores.append(row["score"])
        if hit:
            taken.add((f, best))
            hit_scores.append(row["score"])
            hit_errors.append(errors_of(row, truth[f][best]))
    if not hit_scores:
        return nothing
    true, false, precision, reached = 0, 0, [], []
    for hit in hits:
        true, false = true + hit, false + (not hit)
        precision.append(true / (true + false))
        reached.append(true / positives)
    out = {
        "precision": np.interp(recall, reached, precision, right=0),
        "confidence": np.interp(recall, reached, scores, right=0),
    }
    for error in ERRORS:
        total, count, means = 0.0, 0, []
        for row in hit_errors:
            if not math.isnan(row[error]):
                total, count = total + row[error], count + 1
            means.append(total / count if count else 0.0)
        if count == 0:
            means = [1.0] * len(means)
        out[error] = np.interp(out["confidence"][::-1], hit_scores[::-1], means[::-1])[::-1]
    return out


def evaluate(frames: Sequence[ScoredFrame]) -> dict:
    boxes = [(rows(frame, "detections"), rows(frame, "truth")) for frame in frames]
    ap, errors = {}, {}
    for name in CLASS_NAMES:
        curves = {limit: curve(boxes, name, limit) for limit in DISTANCES}
        ap[name] = {}
        for limit, c in curves.items():
            above = [max(p - 0.1, 0.0) for p in c["precision"][11:]]
            ap[name][limit] = sum(above) / len(above) / 0.9
        at = curves[2.0]
        last = max([k for k in range(101) if at["confidence"][k] != 0], default=0)
        errors[name] = {}
        for error in ERRORS:
            if (name == "traffic_cone" and error in ERRORS[2:]) or (name == "barrier" and error in ERRORS[3:]):
                errors[name][error] = math.nan
            elif last < 11:
                errors[name][error] = 1.0
            else:
                errors[name][error] = sum(at[error][11 : last + 1]) / (last + 1 - 11)
    mean_ap = np.mean([np.mean(list(v.values())) for v in ap.values()])
    tp_errors = {e: np.nanmean([errors[name][e] for name in CLASS_NAMES]) for e in ERRORS}
    nds = (5 * mean_ap + sum(max(0.0, 1 - e) for e in tp_errors.values())) / 10
    return {"ap": ap, "class_tp_errors": errors, "mean_ap": mean_ap, "tp_errors": tp_errors, "nds": nds}
