"""KITTI's object evaluation written out in loops, one image and one object at a time, as its C++ source has it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from karp_perception.evaluation.kitti_metrics import KittiFrame

NONE = -10000000.0
LIMITS = {"car": 0.7, "pedestrian": 0.5, "cyclist": 0.5}
MIN_HEIGHT, MAX_OCCLUSION, MAX_TRUNCATION = (40, 25, 25), (0, 1, 2), (0.15, 0.3, 0.5)


def shared_area(a: Sequence[float], b: Sequence[float]) -> float:
    """Of rectangles x, y, length, width, yaw: hull of the corners of each in the other and of where edges cross."""

    def corners(box: Sequence[float]) -> list[complex]:
        x, y, length, width, yaw = box
        turn = complex(math.cos(yaw), math.sin(yaw))
        half = [(length / 2, width / 2), (-length / 2, width / 2), (-length / 2, -width / 2), (length / 2, -width / 2)]
        return [complex(x, y) + complex(*corner) * turn for corner in half]

    def inside(point: complex, box: Sequence[float]) -> bool:
        local = (point - complex(box[0], box[1])) * complex(math.cos(box[4]), -math.sin(box[4]))
        return abs(local.real) <= box[2] / 2 + 1e-12 and abs(local.imag) <= box[3] / 2 + 1e-12

    def cross(p: complex, q: complex) -> float:
        return p.real * q.imag - p.imag * q.real

    ours, theirs = corners(a), corners(b)
    points = [p for p in ours if inside(p, b)] + [p for p in theirs if inside(p, a)]
    for i in range(4):
        for k in range(4):
            p, q = ours[i], theirs[k]
            along, other = ours[(i + 1) % 4] - p, theirs[(k + 1) % 4] - q
            if abs(cross(along, other)) < 1e-15:
                continue
            t, u = cross(q - p, other) / cross(along, other), cross(q - p, along) / cross(along, other)
            if 0 <= t <= 1 and 0 <= u <= 1:
                points.append(p + t * along)
    if len(points) < 3:
        return 0.0
    middle = sum(points) / len(points)
    points.sort(key=lambda p: math.atan2((p - middle).imag, (p - middle).real))
    pairs = zip(points, points[1:] + points[:1], strict=True)
    return sum(cross(p - middle, q - middle) for p, q in pairs) / 2


def shared_ground(a: dict, b: dict) -> float:
    return shared_area(*((o["x"], o["z"], abs(o["l"]), abs(o["w"]), -o["ry"]) for o in (a, b)))


def overlap_2d(a: dict, b: dict, over_a: bool = False) -> float:
    width = min(a["box"][2], b["box"][2]) - max(a["box"][0], b["box"][0])
    height = min(a["box"][3], b["box"][3]) - max(a["box"][1], b["box"][1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(o["box"][2] - o["box"][0]) * (o["box"][3] - o["box"][1]) for o in (a, b)]
    return width * height / (areas[0] if over_a else areas[0] + areas[1] - width * height)


def overlap_bev(a: dict, b: dict, over_a: bool = False) -> float:
    shared = shared_ground(a, b)
    return shared / (abs(a["l"] * a["w"]) if over_a else abs(a["l"] * a["w"]) + abs(b["l"] * b["w"]) - shared)


def overlap_3d(a: dict, b: dict, over_a: bool = False) -> float:
    height = min(a["y"], b["y"]) - max(a["y"] - a["h"], b["y"] - b["h"])
    shared = shared_ground(a, b) * max(0.0, height)
    if shared == 0:
        return 0.0
    volumes = [o["h"] * o["l"] * o["w"] for o in (a, b)]
    return shared / (volumes[0] if over_a else volumes[0] + volumes[1] - shared)


OVERLAPS: dict[str, Callable[..., float]] = {"2d": overlap_2d, "bev": overlap_bev, "3d": overlap_3d}


def objects(of) -> list[dict]:
    out = []
    for i in range(len(of.type)):
        h, w, length = (float(v) for v in of.size[i])
        x, y, z = (float(v) for v in of.location[i])
        out.append(
            {
                "type": str(of.type[i]).lower(),
                "truncated": float(of.truncated[i]),
                "occluded": int(of.occluded[i]),
                "alpha": float(of.alpha[i]),
                "box": [float(v) for v in of.bbox2d[i]],
                "h": h, "w": w, "l": length, "x": x, "y": y, "z": z,
                "ry": float(of.rotation_y[i]),
                "score": float(of.score[i]),
            }
        )  # fmt: skip
    return out


def ignored(name: str, truth: list[dict], found: list[dict], level: int) -> tuple[list[int], list[int]]:
    ignored_truth, ignored_found = [], []
    for t in truth:
        valid = 1 if t["type"] == name else -1
        if (name, t["type"]) in (("car", "van"), ("pedestrian", "person_sitting")):
            valid = 0
        height = t["box"][3] - t["box"][1]
        ignore = t["occluded"] > MAX_OCCLUSION[level] or t["truncated"] > MAX_TRUNCATION[level]
        ignore = ignore or height <= MIN_HEIGHT[level]
        if valid == 1 and not ignore:
            ignored_truth.append(0)
        elif valid == 0 or (ignore and valid == 1):
            ignored_truth.append(1)
        else:
            ignored_truth.append(-1)
    for d in found:
        if int(abs(d["box"][1] - d["box"][3])) < MIN_HEIGHT[level]:
            ignored_found.append(1)
        else:
            ignored_found.append(0 if d["type"] == name else -1)
    return ignored_truth, ignored_found


def statistics(image: dict, limit: float, measure: str, threshold: float | None) -> tuple[int, int, float, list[float]]:
    """True and false positives, similarity, and scores of the hits."""
    truth, found, ignored_truth, ignored_found = (image[k] for k in ("truth", "found", "ig_truth", "ig_found"))
    overlaps = image[measure]
    assigned = [False] * len(found)
    below = [threshold is not None and d["score"] < threshold for d in found]
    true, similarity, scores = 0, 0.0, []
    for i in range(len(truth)):
        if ignored_truth[i] == -1:
            continue
        chosen, valid, most, chose_ignored = -1, NONE, 0.0, False
        for j in range(len(found)):
            if ignored_found[j] == -1 or assigned[j] or below[j]:
                continue
            overlap = overlaps[j][i]
            if overlap <= limit:
                continue
            if threshold is None:
                if found[j]["score"] > valid:
                    chosen, valid = j, found[j]["score"]
            elif (overlap > most or chose_ignored) and ignored_found[j] == 0:
                most, chosen, valid, chose_ignored = overlap, j, 1.0, False
            elif valid == NONE and ignored_found[j] == 1:
                chosen, valid, chose_ignored = j, 1.0, True
        if valid == NONE:
            continue
        assigned[chosen] = True
        if ignored_truth[i] == 0 and ignored_found[chosen] == 0:
            true += 1
            scores.append(found[chosen]["score"])
            similarity += (1 + math.cos(truth[i]["alpha"] - found[chosen]["alpha"])) / 2
    false = 0
    for j, d in enumerate(found):
        if assigned[j] or ignored_found[j] != 0 or below[j]:
            continue
        stuff = any(t["type"] == "dontcare" and OVERLAPS[measure](d, t, True) > limit for t in truth)
        false += not stuff
    return true, false, similarity, scores


def thresholds_of(scores: list[float], positives: int) -> list[float]:
    scores = sorted(scores, reverse=True)
    out, current = [], 0.0
    for i, score in enumerate(scores):
        left = (i + 1) / positives
        right = (i + 2) / positives if i < len(scores) - 1 else left
        if right - current < current - left and i < len(scores) - 1:
            continue
        out.append(score)
        current += 1 / 40
    return out


def evaluate(frames: Sequence[KittiFrame]) -> dict[str, dict[str, dict[str, list[float]]]]:
    """ap40 and ap11 of easy, moderate, hard by class and measure."""
    images = []
    for frame in frames:
        truth, found = objects(frame.truth), objects(frame.detections)
        image = {"truth": truth, "found": found}
        image |= {name: [[f(d, t) for t in truth] for d in found] for name, f in OVERLAPS.items()}
        images.append(image)
    result: dict = {}
    for name, limit in LIMITS.items():
        result[name] = {m: {"ap40": [], "ap11": []} for m in ("2d", "bev", "3d", "aos")}
        for level in range(3):
            positives = 0
            for image in images:
                image["ig_truth"], image["ig_found"] = ignored(name, image["truth"], image["found"], level)
                positives += image["ig_truth"].count(0)
            for measure in OVERLAPS:
                scores = [s for image in images for s in statistics(image, limit, measure, None)[3]]
                precision, aos = [0.0] * 41, [0.0] * 41
                levels = thresholds_of(scores, positives)
                for k, threshold in enumerate(levels):
                    each = [statistics(image, limit, measure, threshold) for image in images]
                    true, false = sum(e[0] for e in each), sum(e[1] for e in each)
                    if true + false:
                        precision[k] = true / (true + false)
                        aos[k] = sum(e[2] for e in each) / (true + false)
                for k in range(len(levels)):
                    precision[k], aos[k] = max(precision[k:]), max(aos[k:])
                for kind, values in ((measure, precision), ("aos", aos)):
                    if kind == measure or measure == "2d":
                        result[name][kind]["ap40"].append(float(np.sum(values[1:]) / 40))
                        result[name][kind]["ap11"].append(float(np.sum(values[::4]) / 11))
    return result
