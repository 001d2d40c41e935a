"""The scene from above: points, obstacles, objects, the plan, what it was chosen from, and the vehicle, in metres."""

from __future__ import annotations

import cv2
import numpy as np

from karp_perception.core import Boxes, DecisionKind, ObjectClass, Objects, Plan, Vehicle, class_name
from karp_perception.view import corridor, proposals, relevance
from karp_perception.view.palette import (
    BACKGROUND,
    DECISION_COLORS,
    EGO,
    FAINT,
    GRID,
    OBSTACLE,
    PANEL,
    TARGET,
    Color,
    class_color,
    mixed,
)
from karp_perception.view.shapes import area, arrow, blend, fixed_point, pill, polyline
from karp_perception.view.text import draw_text, text_width

_HEIGHTS = np.array([-0.5, 0.25, 0.35, 1.5, 3.0, 4.0])  # m, between which the colours of points change
_HEIGHT_COLORS = np.array(
    [[44, 51, 63], [48, 56, 70], [70, 98, 122], [104, 148, 172], [96, 122, 146], [62, 74, 92]], float
)
_ARROW_TIME = 1.0  # s: an arrow reaches as far as the object gets in this time
_LABEL_RANGE = 40.0  # m
_MAX_LABELS = 14
_FADE_AFTER = 0.35  # s without a measurement after which an object is drawn faintly


class BirdsEye:
    """Draws scenes from above: the vehicle's front is up, its left is left.

    Args:
        vehicle: its footprint is drawn, and its width is what the path sweeps.
        size: width, height of the image, px.
        ahead: m from the origin of base_link to the upper edge.
        behind: m to the lower edge.
    """

    def __init__(
        self, vehicle: Vehicle, size: tuple[int, int] = (432, 640), ahead: float = 50.0, behind: float = 14.0
    ) -> None:
        self.vehicle, self.size = vehicle, size
        self.scale = size[1] / (ahead + behind)
        self._origin = np.array([size[0] / 2, ahead * self.scale])
        self._text = max(10, round(13 * size[1] / 640))
        self._background = self._rings()

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """Pixels (..., 2) of points (..., 2 or more: x, y) in base_link, m."""
        points = np.asarray(points, np.float64)
        return np.stack([-points[..., 1], -points[..., 0]], axis=-1) * self.scale + self._origin

    def draw(
        self,
        points: np.ndarray | None = None,
        obstacles: Boxes | None = None,
        objects: Objects | None = None,
        plan: Plan | None = None,
    ) -> np.ndarray:
        """(H, W, 3) uint8 RGB. All arguments are in base_link and may be missing.

        Args:
            points: (N, 3 or more) lidar points; None writes "no lidar" where they would be.
            obstacles: drawn as thin outlines.
            objects: by class, with id, velocity and predicted paths; the decision's target in red.
            plan: the path as the strip the vehicle sweeps, in the decision's colour; thin, what it was chosen from.
        """
        image = self._background.copy()
        if points is None:
            draw_text(image, "no lidar", (self.size[0] / 2, self.size[1] - 16), TARGET, self._text + 2, align="center")
        else:
            self._draw_points(image, points)
        if obstacles is not None and len(obstacles):
            outlines = list(fixed_point(self.pixels(obstacles.footprint())))
            cv2.polylines(image, outlines, True, OBSTACLE, 1, cv2.LINE_AA, 4)
        path = corridor.resampled(plan.trajectory) if plan is not None else np.zeros((0, 4))
        if plan is not None:
            self._draw_path(image, path, plan)
            if plan.proposals is not None:
                proposals.draw_lines(image, plan.proposals, self.vehicle, self.pixels)
        if objects is not None:
            self._draw_objects(image, objects, path, plan.decision.target_id if plan is not None else None)
        self._draw_ego(image)
        if plan is not None:
            self._draw_gap(image, path, plan)
            if plan.proposals is not None:
                corner = (0.3 * self._text, self.size[1] - 0.3 * self._text)  # behind, where least is to be seen
                proposals.draw_table(image, plan.proposals, corner, max(10, self._text - 2))
        return image

    def _rings(self) -> np.ndarray:
        image = np.full((self.size[1], self.size[0], 3), BACKGROUND, np.uint8)
        center = fixed_point(self._origin)
        for distance in range(10, 200, 10):
            radius = int(distance * self.scale * 16)
            cv2.circle(image, center.tolist(), radius, GRID if distance % 20 == 0 else PANEL, 1, cv2.LINE_AA, 4)
            angle = np.deg2rad(-32)
            at = self.pixels(distance * np.array([np.cos(angle), np.sin(angle)]))
            if at[0] > self.size[0] - 24:
                # Rings that leave at the side are named at the side.
                y = (self._origin[0] - 26) / self.scale
                at = self.pixels(np.array([np.sqrt(max(distance**2 - y**2, 0)), -y]))
            draw_text(image, f"{distance} m", (at[0], at[1] + 4), FAINT, self._text - 2, align="center")
        return image

    def _draw_points(self, image: np.ndarray, points: np.ndarray) -> None:
        width, height = self.size
        x = (self._origin[0] - points[:, 1] * np.float32(self.scale)).astype(np.int32)
        y = (self._origin[1] - points[:, 0] * np.float32(self.scale)).astype(np.int32)
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        index = (y * width + x)[inside]
        z = points[:, 2][inside]
        level = np.clip((z + 0.5) * (255 / 4.5), 0, 255).astype(np.uint8)
        # What stands up is written last, so that ground does not cover it.
        stands = z > _HEIGHTS[1]
        flat = image.reshape(-1, 3)
        for part in (~stands, stands):
            flat[index[part]] = _POINT_COLORS[level[part]]

    def _draw_path(self, image: np.ndarray, path: np.ndarray, plan: Plan) -> None:
        if len(path) == 0:
            return
        left, right = (self.pixels(edge) for edge in corridor.edges(path, self.vehicle))
        color = DECISION_COLORS[plan.decision.kind]
        # Paler where the vehicle will be slow: a plan that stops fades out where it stops.
        fastest = max(5.0, float(path[:, 3].max()))
        opacity = np.round(255 * (0.16 + 0.40 * path[:, 3] / fastest)).astype(int)
        cover = np.zeros(image.shape[:2], np.uint8)
        strips = fixed_point(np.stack([left[:-1], left[1:], right[1:], right[:-1]], axis=1))
        for strip, value in zip(strips, opacity[1:], strict=True):
            cv2.fillConvexPoly(cover, strip, int(value), cv2.LINE_8, 4)
        blend(image, cover, color)
        for edge in (left, right):
            polyline(image, edge, color, 1)

    def _draw_objects(self, image: np.ndarray, objects: Objects, path: np.ndarray, target_id: int | None) -> None:
        matters = relevance.relevant(objects, path, self.vehicle, target_id)
        moves = relevance.moving(objects)
        footprints = self.pixels(objects.boxes.footprint())
        low, high = footprints.min(axis=1), footprints.max(axis=1)
        shown = np.flatnonzero((high > 0).all(axis=1) & (low < self.size).all(axis=1)) if len(objects) else []
        away = np.hypot(objects.boxes.center[:, 0], objects.boxes.center[:, 1])
        order = sorted(shown, key=lambda i: (objects.track_id[i] != target_id, away[i]))
        for i in reversed(order):
            is_target = objects.track_id[i] == target_id
            color = TARGET if is_target else class_color(objects.boxes.label[i])
            if not matters[i]:
                polyline(image, footprints[i], OBSTACLE, 1, closed=True)
                continue
            if objects.unseen[i] > _FADE_AFTER:
                color = mixed(color, BACKGROUND, 0.5)
            if moves[i]:
                self._draw_prediction(image, objects, int(i), color)
            area(image, footprints[i], color, 0.5 if is_target else 0.25)
            polyline(image, footprints[i], color, 2 if is_target else 1, closed=True)
            if moves[i]:
                start, velocity = objects.boxes.center[i, :2], objects.boxes.velocity[i]
                arrow(image, self.pixels(start), self.pixels(start + velocity * _ARROW_TIME), color, 2)
        taken: list[tuple[float, float, float, float]] = []
        for i in [i for i in order if matters[i]][:_MAX_LABELS]:
            is_target = objects.track_id[i] == target_id
            if is_target or away[i] < _LABEL_RANGE:
                name = short_name(int(objects.boxes.label[i]))
                text = f"{name} {objects.track_id[i]}"
                color = TARGET if is_target else class_color(objects.boxes.label[i])
                self._draw_label(image, text, low[i], high[i], color, taken)

    def _draw_prediction(self, image: np.ndarray, objects: Objects, i: int, color: Color) -> None:
        start = objects.boxes.center[i, :2]
        for path, probability in zip(objects.predicted[i], objects.predicted_probability[i], strict=True):
            if probability > 0.1:
                line = self.pixels(np.vstack([start, path[:, :2]]))
                polyline(image, line, mixed(BACKGROUND, color, 0.25 + 0.4 * float(probability)), 1)

    def _draw_label(
        self,
        image: np.ndarray,
        text: str,
        low: np.ndarray,
        high: np.ndarray,
        color: Color,
        taken: list[tuple[float, float, float, float]],
    ) -> None:
        """A text right of what it names, or left of it where there is no room; left out where both are taken."""
        size = self._text - 1
        wide = text_width(text, size) + 8
        y = float(low[1] + high[1]) / 2
        for x in (float(high[0]) + 4, float(low[0]) - 4 - wide):
            box = (x, y - size / 2 - 3, x + wide, y + size / 2 + 3)
            free = not any(box[0] < t[2] and t[0] < box[2] and box[1] < t[3] and t[1] < box[3] for t in taken)
            if free and box[0] >= 0 and box[2] < self.size[0]:
                taken.append(box)
                draw_text(image, text, (x + 4, y + 0.34 * size), color, size)
                return

    def _draw_ego(self, image: np.ndarray) -> None:
        half, front, rear = 0.5 * self.vehicle.width, self.vehicle.front, -self.vehicle.rear
        body = np.array([[front, half], [rear, half], [rear, -half], [front, -half]])
        area(image, self.pixels(body), mixed(BACKGROUND, EGO, 0.35))
        polyline(image, self.pixels(body), EGO, 2, closed=True)
        nose = np.array([[front - 0.4, 0], [front - 1.7, 0.62 * half], [front - 1.7, -0.62 * half]])
        area(image, self.pixels(nose), EGO)

    def _draw_gap(self, image: np.ndarray, path: np.ndarray, plan: Plan) -> None:
        """The free distance to what decides, as a bar across the way with its metres."""
        decision = plan.decision
        if decision.distance_m is None or decision.kind in (DecisionKind.CRUISE, DecisionKind.NO_INPUT):
            return
        color = DECISION_COLORS[decision.kind]
        ends = self.pixels(corridor.bar(path, self.vehicle, max(0.0, decision.distance_m)))
        polyline(image, ends, BACKGROUND, 6)
        polyline(image, ends, color, 4)
        text, size = f"{decision.distance_m:.1f} m", self._text
        x, y = float(ends[:, 0].min()) - 8, float(ends[:, 1].mean())
        wide = text_width(text, size, 600)
        pill(image, (x - wide - 8, y - size / 2 - 4, x, y + size / 2 + 4), PANEL, 4)
        draw_text(image, text, (x - 4, y + 0.36 * size), color, size, weight=600, align="right")


def short_name(label: int) -> str:
    """What a person calls it."""
    return {
        ObjectClass.UNKNOWN: "obstacle", ObjectClass.PEDESTRIAN: "person", ObjectClass.CONSTRUCTION_VEHICLE: "digger",
        ObjectClass.TRAFFIC_CONE: "cone",
    }.get(label, class_name(label))  # fmt: skip


_POINT_COLORS = np.stack(
    [np.interp(np.linspace(-0.5, 4.0, 256), _HEIGHTS, _HEIGHT_COLORS[:, c]) for c in range(3)], axis=1
).astype(np.uint8)
