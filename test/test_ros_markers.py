"""Drawings for RViz: few markers however many boxes, where the boxes are, and words only for what matters."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from karp_perception.core import Boxes, Decision, DecisionKind, EgoState, Objects, Plan, ScoredProposals, Trajectory
from karp_perception.core.geometry import pose_from_xy_yaw
from karp_perception.ros.markers import MarkerDrawing
from karp_perception.ros.trails import SECONDS, Trails
from karp_perception.sensing.message_types import typestore
from karp_perception.view.palette import score_color

LINE_LIST, TEXT, TRIANGLES, DELETE_ALL = 5, 9, 11, 3
SIZE = np.array([4.0, 1.8, 1.5])


def standing(count: int, label: int = -1, yaw: float = 0.7) -> Boxes:
    center = np.column_stack([5.0 * np.arange(count), np.ones(count), np.full(count, 0.75)])
    n = np.ones(count)
    return Boxes(center, np.tile(SIZE, (count, 1)), yaw * n, np.zeros((count, 2)), label * n, 0.5 * n)


def tracked(boxes: Boxes, predicted: np.ndarray | None = None) -> Objects:
    n = len(boxes)
    predicted = np.zeros((n, 0, 0, 3)) if predicted is None else predicted
    probability = np.full(predicted.shape[:2], 1 / max(1, predicted.shape[1]))
    covariance, zeros = np.tile(np.eye(6), (n, 1, 1)), np.zeros(n)
    return Objects(boxes, 1 + np.arange(n), covariance, zeros, zeros, predicted, probability)


def drawn(drawing: MarkerDrawing) -> list:
    return typestore().deserialize_cdr(drawing.message, "visualization_msgs/msg/MarkerArray").markers


def points(marker: object) -> np.ndarray:
    return np.array([(p.x, p.y, p.z) for p in marker.points])


def test_hundreds_of_standing_obstacles_are_a_handful_of_markers_without_words() -> None:
    many = standing(300)
    markers = drawn(MarkerDrawing(0, "base_link").perception(Boxes.empty(), many).objects(tracked(many)))
    assert len(markers) == 3
    assert not any(marker.text for marker in markers)
    assert markers[0].action == DELETE_ALL
    assert len({marker.id for marker in markers}) == len(markers)


def test_edges_and_faces_are_those_of_the_box() -> None:
    yaw = 0.7
    markers = drawn(MarkerDrawing(0, "base_link").perception(standing(1, label=0, yaw=yaw), Boxes.empty()))
    of_kind = {marker.type: points(marker) for marker in markers if len(marker.points)}
    c, s = np.cos(yaw), np.sin(yaw)

    def in_box(values: np.ndarray) -> np.ndarray:
        return (values - [0, 1, 0.75]) @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])

    for values in of_kind.values():
        np.testing.assert_allclose(np.abs(in_box(values)), np.broadcast_to(SIZE / 2, values.shape))
    ways = np.abs(np.diff(in_box(of_kind[LINE_LIST]).reshape(12, 2, 3), axis=1)[:, 0])
    assert Counter(map(tuple, np.round(ways, 9).tolist())) == {tuple(np.diag(SIZE)[i]): 4 for i in range(3)}
    a, b, c = in_box(of_kind[TRIANGLES]).reshape(12, 3, 3).transpose(1, 0, 2)
    normal = np.cross(b - a, c - a)
    area = 0.5 * np.linalg.norm(normal, axis=1).sum()
    np.testing.assert_allclose(area, 2 * (SIZE[0] * SIZE[1] + SIZE[1] * SIZE[2] + SIZE[0] * SIZE[2]))
    assert (np.sum(normal * (a + b + c), axis=1) > 0).all(), "front faces look outwards"


def test_objects_with_a_class_or_a_speed_are_named_and_their_paths_drawn() -> None:
    boxes = Boxes.concatenate([standing(1), standing(1, label=0), standing(1)])
    boxes = Boxes(boxes.center, boxes.size, boxes.yaw, np.array([[0, 0], [0, 0], [3.0, 4.0]]), boxes.label, boxes.score)
    steps = np.arange(1, 31)
    predicted = np.zeros((3, 2, 30, 3))
    predicted[2, :, :, 0] = 0.3 * steps
    predicted[2, 1, :, 1] = 0.4 * steps
    markers = drawn(MarkerDrawing(0, "base_link").objects(tracked(boxes, predicted)))
    assert [marker.text for marker in markers if marker.type == TEXT] == ["car 2: 0.0 m/s", "unknown 3: 5.0 m/s"]
    (paths,) = [marker for marker in markers if marker.ns == "predictions"]
    segments = points(paths).reshape(2, -1, 2, 3)
    np.testing.assert_allclose(segments[:, 1:, 0], segments[:, :-1, 1])  # each begins where the last one ends
    np.testing.assert_allclose(segments[0, 0, 0], [0.3, 0, 0.75])
    np.testing.assert_allclose(segments[1, :, :, 1] * 3, segments[1, :, :, 0] * 4)
    assert len(paths.colors) == len(paths.points)
    assert {round(color.a, 3) for color in paths.colors} == {0.6}  # 0.2 + 0.8 of its probability
    (velocity,) = [marker for marker in markers if marker.ns == "objects_velocity"]
    np.testing.assert_allclose(np.diff(points(velocity), axis=0), [[3, 4, 0]])


def test_nothing_is_a_deletion_alone_and_a_plan_says_why() -> None:
    drawing = MarkerDrawing(5, "base_link").perception(Boxes.empty(), Boxes.empty()).objects(Objects.empty())
    assert [marker.action for marker in drawn(drawing)] == [DELETE_ALL]
    plan = Plan(5, Trajectory.empty(), Decision(DecisionKind.STOP, "STOP for car 7"))
    assert drawn(drawing.plan(plan))[-1].text == "STOP: STOP for car 7"


def test_proposals_are_one_list_of_lines_in_the_colours_of_their_scores() -> None:
    time = 0.1 * np.arange(41)
    x, y = np.tile(8.0 * time, (3, 1)), np.array([[0.0], [3.0], [-3.0]]) * np.linspace(0, 1, 41)
    score, names = np.array([0.9, 0.6, 0.0]), ("lane 100%", "left 100%", "right 100%")
    proposals = ScoredProposals(names, ("lane", "left", "right"), time, x, y, 0 * x, 8 + 0 * x, score, {}, {}, 0)
    plan = Plan(5, Trajectory.empty(), Decision(DecisionKind.CRUISE, "CRUISE"), (), proposals)
    (lines,) = [marker for marker in drawn(MarkerDrawing(5, "base_link").plan(plan)) if marker.ns == "proposals"]
    assert lines.type == LINE_LIST
    segments = points(lines).reshape(3, -1, 2, 3)
    np.testing.assert_allclose(segments[:, 1:, 0], segments[:, :-1, 1])  # each begins where the last one ends
    np.testing.assert_allclose(segments[:, 0, 0, :2], 0.0)
    np.testing.assert_allclose(segments[:, -1, 1, :2], [[32, 0], [32, 3], [32, -3]])
    np.testing.assert_allclose(segments[1, ..., 1], -segments[2, ..., 1])
    colors = np.array([(c.r, c.g, c.b) for c in lines.colors]).reshape(3, -1, 3)
    np.testing.assert_allclose(colors, np.repeat([[score_color(s)] for s in score], colors.shape[1], axis=1) / 255.0)
    assert not [m for m in drawn(MarkerDrawing(5, "base_link").plan(replace(plan, proposals=None))) if "prop" in m.ns]


def seen_from(pose: np.ndarray, places: np.ndarray, labels: list[int]) -> Objects:
    """Objects at places (N, 3) of `odom`, standing as far as their velocity says, seen from `pose`."""
    n = len(places)
    boxes = Boxes(places, np.tile(SIZE, (n, 1)), np.zeros(n), np.zeros((n, 2)), labels, np.ones(n), frame="odom")
    return tracked(boxes.transformed(np.linalg.inv(pose), "base_link"))


def test_trails_are_where_objects_were_in_the_last_seconds_however_the_vehicle_moves() -> None:
    trails = Trails()
    for k in range(60):
        pose = pose_from_xy_yaw(0.8 * k, 0.1 * k, 0.02 * k)
        places = np.array([[20 + 0.5 * k, 3.0, 1.0], [30.0, -3.0, 1.0], [40 + 0.5 * k, 9.0, 1.0]])
        ego = EgoState(k * 100_000_000, pose, np.array([8.0, 0.0]))
        found = trails.step(k * 100_000_000, seen_from(pose, places, [0, 0, -1]), ego)
    (trail,) = found  # of the one that moved; what stands has none, and what has neither class nor speed neither
    world = trail.points @ pose[:3, :3].T + pose[:3, 3]
    np.testing.assert_allclose(world[:, 1:], np.tile((3.0, 1.0), (len(world), 1)), atol=1e-9)
    np.testing.assert_allclose(world[[0, -1], 0], (20 + 0.5 * (59 - 10 * SECONDS), 20 + 0.5 * 59))
    (lines,) = (m for m in drawn(MarkerDrawing(0, "base_link").trails(found)) if m.ns == "trails")
    np.testing.assert_allclose(points(lines)[::2], trail.points[:-1])
    np.testing.assert_allclose(points(lines)[1::2], trail.points[1:])
    assert trails.step(0, seen_from(np.eye(4), places[:1], [0]), EgoState.standing(0)) == []
