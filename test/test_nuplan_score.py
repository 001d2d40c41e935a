"""nuPlan's score against a slow transcription of the devkit's metrics (shapely, tick by tick), and by hand."""

from dataclasses import replace

import numpy as np
import pytest
from driving_records import FRONT, actor, record, straight
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import savgol_filter
from shapely.geometry import LineString, Point, Polygon

from karp_perception.core import Lane, ObjectClass
from karp_perception.evaluation.carla_score import FACTORS, carla_score
from karp_perception.evaluation.lane_occupancy import LaneOccupancy, lanes_of
from karp_perception.evaluation.nuplan_score import (
    ContactKind,
    NuplanRules,
    is_comfortable,
    nuplan_contacts,
    nuplan_score,
    progress_ratio,
    times_to_collision,
)

DT = 0.1
RULES = NuplanRules()
EXPERT = np.linspace(0.0, 59.0, 60)  # 10 m/s
LANES = (
    Lane(np.array([[-60.0, 0.0], [500.0, 0.0]]), 3.5, 15.0, left=1),
    Lane(np.array([[-60.0, 3.5], [500.0, 3.5]]), 3.5, 15.0, right=0),
    Lane(np.array([[500.0, 7.0], [-60.0, 7.0]]), 3.5, 15.0),
)


def on_road(*args, **more):
    """A record on two lanes eastwards and one back, with a limit of 15 m/s."""
    drive = record(*args, lanes=more.pop("lanes", LANES), **more)
    return replace(drive, limit=np.full(len(drive), 15.0), axle=0.95)


# The transcription


class Slow:
    """The devkit's metrics on a record, one tick and one track at a time."""

    def __init__(self, drive):
        self.drive = drive
        self.lanes = [
            LineString(lane.center).buffer(0.5 * lane.width, cap_style="flat", join_style="mitre")
            for lane in drive.lanes
        ]

    def ego(self, t):
        return Polygon(self.drive.ego_corners[t])

    def tracks(self, t):
        for row in np.flatnonzero(self.drive.actor_tick == t):
            yield int(row), Polygon(self.drive.actor_corners[row])

    def relative_angle(self, t, row):
        drive = self.drive
        away = np.array([drive.actor_x[row], drive.actor_y[row]]) - drive.rear_axle[t]
        heading = np.array([np.cos(drive.yaw[t]), np.sin(drive.yaw[t])])
        return np.arccos(np.clip(heading @ (away / np.linalg.norm(away)), -1, 1))

    def objects_of(self, point):
        return {k for k, lane in enumerate(self.lanes) if lane.covers(Point(point))}

    def in_common_or_connected(self, t):
        corners = [self.objects_of(point) for point in self.drive.ego_corners[t]]
        for k in range(len(self.lanes)):
            reached = {k, *self.drive.lanes[k].successors}
            if all(objects & reached for objects in corners):
                return True
        return False

    def collisions(self):
        found, collided = [], set()
        for t in range(len(self.drive)):
            for row, polygon in self.tracks(t):
                number = int(self.drive.actor_id[row])
                if number in collided or not self.ego(t).intersects(polygon):
                    continue
                collided.add(number)
                kind = self.kind(t, row, polygon)
                fault = kind in ("stopped_track", "active_front") or (
                    kind == "active_lateral" and not self.in_common_or_connected(t)
                )
                found.append((t, number, kind, fault))
        return found

    def kind(self, t, row, polygon):
        drive = self.drive
        label = drive.actor_label[row]
        is_agent = label not in (ObjectClass.TRAFFIC_CONE, ObjectClass.BARRIER)
        if drive.speed[t] <= 5e-2:
            return "stopped_ego"
        if not is_agent or np.hypot(*drive.actor_velocity[row]) <= 5e-2:
            return "stopped_track"
        if self.relative_angle(t, row) > np.deg2rad(150):
            return "active_rear"
        corners = drive.ego_corners[t]
        if LineString([corners[0], corners[3]]).intersects(polygon):
            return "active_front"
        return "active_lateral"

    def times_to_collision(self):
        drive, collisions = self.drive, self.collisions()
        found = np.full(len(drive), np.inf)
        for t in range(len(drive)):
            if any(when == t and fault for when, _, _, fault in collisions):
                found[t] = 0.0
                continue
            if drive.speed[t] <= 5e-3:
                continue
            gone = {number for when, number, _, _ in collisions if when <= t}
            wide = not self.in_common_or_connected(t) or len(self.objects_of(drive.rear_axle[t])) > 1
            tracks = []
            for row, polygon in self.tracks(t):
                angle = self.relative_angle(t, row)
                ahead, behind = angle < np.deg2rad(30), angle > np.deg2rad(150)
                if int(drive.actor_id[row]) not in gone and (ahead or (wide and not behind)):
                    tracks.append((row, polygon))
            found[t] = self.first_overlap(t, tracks)
        return found

    def first_overlap(self, t, tracks):
        from shapely.affinity import translate

        for step in np.arange(0.1, 3.0, 0.1):
            ego = translate(self.ego(t), *(self.drive.ego_velocity[t] * step))
            for row, polygon in tracks:
                if ego.intersects(translate(polygon, *(self.drive.actor_velocity[row] * step))):
                    return float(step)
        return np.inf

    def drivable(self):
        for corners in self.drive.ego_corners:
            for corner in corners:
                if min((lane.distance(Point(corner)) for lane in self.lanes), default=np.inf) >= 0.3:
                    return 0.0
        return 1.0

    def speed_limit(self):
        drive = self.drive
        depths = [max(0.0, v - limit) for v, limit in zip(drive.speed, drive.limit, strict=True)]
        return max(0.0, 1.0 - sum(depths) * DT / (2.23 * (drive.time[-1] - drive.time[0])))

    def comfortable(self):
        drive = self.drive
        heading = np.unwrap(drive.yaw)
        x, y = np.gradient(drive.speed, DT), drive.speed * np.gradient(heading, DT)
        smooth = {name: savgol_filter(a, 8, 2) for name, a in (("x", x), ("y", y), ("m", np.hypot(x, y)))}
        jerk = {name: savgol_filter(a, 15, 2, deriv=1, delta=DT) for name, a in smooth.items()}
        turn = savgol_filter(heading, 5, 2, deriv=1, delta=DT), savgol_filter(heading, 5, 3, deriv=2, delta=DT)
        return bool(
            smooth["x"].min() >= -4.05
            and smooth["x"].max() <= 2.40
            and np.abs(smooth["y"]).max() < 4.89
            and np.abs(jerk["x"]).max() < 4.13
            and np.abs(jerk["m"]).max() < 8.37
            and np.abs(turn[0]).max() < 0.95
            and np.abs(turn[1]).max() < 1.93
        )


def wild_drive(seed):
    """A drive that weaves over the road among others who come from everywhere."""
    rng = np.random.default_rng(seed)
    n = 45
    t = DT * np.arange(n)
    speed = np.clip(rng.uniform(0, 16) + rng.uniform(-3, 3) * t + rng.normal(0, 0.1, n), 0.0, None)
    yaw = rng.uniform(-0.4, 0.4) * np.sin(rng.uniform(0.3, 1.5) * t + rng.uniform(0, 6))
    x = np.concatenate([[0.0], np.cumsum(speed * np.cos(yaw) * DT)])[:-1]
    y = rng.uniform(-1, 5) + np.concatenate([[0.0], np.cumsum(speed * np.sin(yaw) * DT)])[:-1]
    others = {}
    for number in range(1, 1 + seed % 7):
        heading, pace = rng.uniform(-np.pi, np.pi), rng.choice([0.0, rng.uniform(0, 12)])
        size = rng.choice([(4.5, 1.8), (0.6, 0.6), (9.0, 2.5)])
        meet = rng.integers(5, n)
        at = np.array([x[meet], y[meet]]) + rng.normal(0, 2.5, 2)
        begin = at - pace * t[meet] * np.array([np.cos(heading), np.sin(heading)])
        others[number] = actor(*begin, heading, pace, n, *size)
    drive = on_road(np.column_stack([x, y, speed]), others, yaw=yaw)
    kinds = rng.choice([ObjectClass.CAR, ObjectClass.PEDESTRIAN, ObjectClass.BARRIER], 7)
    return replace(drive, actor_label=np.array([int(kinds[k]) for k in drive.actor_id]))


@pytest.mark.parametrize("seed", range(25))
def test_terms_agree_with_the_transcription(seed):
    drive = wild_drive(seed)
    slow, lanes = Slow(drive), LaneOccupancy(drive)
    one_lane = lanes.in_one_lane()
    assert [slow.in_common_or_connected(t) for t in range(len(drive))] == one_lane.tolist()
    touched = nuplan_contacts(drive, one_lane)
    assert [(c.tick, c.actor_id, c.kind.value, c.at_fault) for c in touched] == slow.collisions()
    ttc = times_to_collision(drive, touched, one_lane, lanes.in_junction())
    np.testing.assert_allclose(ttc, slow.times_to_collision(), atol=1e-9)
    score = nuplan_score(drive, EXPERT)
    assert score.drivable_area == slow.drivable()
    assert score.speed_limit == pytest.approx(slow.speed_limit())
    assert is_comfortable(drive) == slow.comfortable()


def test_the_wild_drives_try_everything():
    drives = [wild_drive(seed) for seed in range(25)]
    kinds = {c.kind for d in drives for c in nuplan_contacts(d, LaneOccupancy(d).in_one_lane())}
    assert kinds >= {ContactKind.STOPPED_TRACK, ContactKind.ACTIVE_FRONT, ContactKind.ACTIVE_LATERAL}
    scores = [nuplan_score(d, EXPERT) for d in drives]
    for term in ("drivable_area", "ttc", "comfort", "speed_limit"):
        values = {getattr(score, term) for score in scores}
        assert min(values) < 1.0 <= max(values), term


# By hand


def test_a_calm_drive_scores_all():
    score = nuplan_score(on_road(straight(10.0)), EXPERT)
    assert score.score == 1.0
    assert all(getattr(score, name) == 1.0 for name in (*score.GATES, *score.WEIGHTED))


def labelled(drive, label):
    return replace(drive, actor_label=np.full(len(drive.actor_id), int(label)))


@pytest.mark.parametrize(
    ("label", "gate"),
    [(ObjectClass.CAR, 0.0), (ObjectClass.PEDESTRIAN, 0.0), (ObjectClass.BICYCLE, 0.0), (ObjectClass.BARRIER, 0.5)],
)
def test_one_thing_may_be_touched_but_nobody(label, gate):
    drive = labelled(on_road(straight(10.0), {1: actor(40.0, 0.0, 0.0, 0.0)}), label)
    score = nuplan_score(drive, EXPERT)
    assert score.no_at_fault_collision == gate
    assert score.ttc == 0.0
    assert score.score <= gate
    both = on_road(straight(10.0), {1: actor(30.0, 0.0, 0.0, 0.0), 2: actor(40.0, 0.0, 0.0, 0.0)})
    assert nuplan_score(labelled(both, label), EXPERT).no_at_fault_collision == 0.0


def test_who_is_run_into_is_not_at_fault():
    behind = on_road(straight(5.0), {1: actor(-20.0, 0.0, 0.0, 15.0)})
    (contact,) = nuplan_contacts(behind, np.ones(60, bool))
    assert (contact.kind, contact.at_fault) == (ContactKind.ACTIVE_REAR, False)
    standing = on_road(straight(0.0), {1: actor(20.0, 0.0, np.pi, 8.0)})
    (contact,) = nuplan_contacts(standing, np.ones(60, bool))
    assert (contact.kind, contact.at_fault) == (ContactKind.STOPPED_EGO, False)


def test_a_side_contact_is_a_fault_only_between_lanes():
    # Another drives beside us in the next lane and comes over.
    beside = actor(0.5, 3.3, -0.05, 10.0)
    inside = on_road(straight(10.0), {1: beside})
    (contact,) = nuplan_contacts(inside, LaneOccupancy(inside).in_one_lane())
    assert (contact.kind, contact.at_fault) == (ContactKind.ACTIVE_LATERAL, False)
    shifted = straight(10.0)
    shifted[:, 1] = 1.2
    between = on_road(shifted, {1: beside})
    (contact,) = nuplan_contacts(between, LaneOccupancy(between).in_one_lane())
    assert (contact.kind, contact.at_fault) == (ContactKind.ACTIVE_LATERAL, True)


@pytest.mark.parametrize(("speed", "gate"), [(1.0, 1.0), (3.0, 0.5), (9.0, 0.0)])
def test_driving_against_a_lane_is_counted_by_metres_in_a_second(speed, gate):
    wrong = straight(speed)
    wrong[:, 1] = 7.0
    assert nuplan_score(on_road(wrong), EXPERT).driving_direction == gate


@pytest.mark.parametrize(("speed", "ratio", "gate"), [(5.0, 0.5, 1.0), (1.0, 0.1, 0.0), (20.0, 1.0, 1.0)])
def test_progress_is_compared_with_the_experts(speed, ratio, gate):
    score = nuplan_score(on_road(straight(speed)), EXPERT)
    assert score.progress == pytest.approx(ratio)
    assert score.making_progress == gate


def test_an_expert_that_stands_asks_for_nothing_and_driving_back_is_no_progress():
    assert progress_ratio(on_road(straight(0.0)), np.zeros(60)) == 1.0
    assert progress_ratio(on_road(straight(-1.0)), EXPERT) == 0.0


def test_the_expert_is_asked_for_the_time_that_was_driven():
    drive = on_road(straight(10.0, 30))
    assert progress_ratio(drive, np.linspace(0.0, 590.0, 600)) == pytest.approx(1.0)
    assert progress_ratio(drive, EXPERT[:10]) == 1.0  # who has arrived stays


def test_leaving_the_lanes_counts_unless_the_ground_is_made_for_driving():
    beside = straight(10.0)
    beside[:, 1] = -1.3  # the right side lies 0.5 m beyond the lane
    drive = on_road(beside)
    assert nuplan_score(drive, EXPERT).drivable_area == 0.0
    paved = replace(drive, off_road=np.zeros((len(drive), 4), bool))
    assert nuplan_score(paved, EXPERT).drivable_area == 1.0
    beside[:, 1] = -1.0  # by 0.2 m
    assert nuplan_score(on_road(beside), EXPERT).drivable_area == 1.0


def test_overspeed_is_taken_over_the_whole_drive():
    assert nuplan_score(on_road(straight(15.0)), EXPERT).speed_limit == 1.0
    over = nuplan_score(on_road(straight(16.0)), EXPERT).speed_limit
    assert over == pytest.approx(1.0 - 60 / 59 / 2.23)
    unknown = replace(on_road(straight(16.0)), limit=np.full(60, np.nan))
    assert nuplan_score(unknown, EXPERT).speed_limit == 1.0


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_scores_are_shares_and_gates_are_factors(seed):
    score = nuplan_score(wild_drive(seed), EXPERT)
    assert 0.0 <= score.score <= 1.0
    product = np.prod([getattr(score, name) for name in score.GATES])
    assert score.score <= product + 1e-12
    if product == 1.0:
        assert score.score >= 5 / 16 * score.progress - 1e-12


def test_lanes_hold_points_as_polygons_do():
    rng = np.random.default_rng(3)
    arc = np.linspace(0.0, 2.0, 60)
    lanes = (LANES[0], Lane(30.0 * np.column_stack([np.sin(arc), 1 - np.cos(arc)]), 3.2))
    points = rng.uniform((-20, -10), (60, 60), (600, 2))
    inside, along = lanes_of(lanes, points)
    shapes = [LineString(lane.center).buffer(0.5 * lane.width, cap_style="flat", join_style="mitre") for lane in lanes]
    for k, shape in enumerate(shapes):
        expected = np.array([shape.covers(Point(p)) for p in points])
        near = np.array([abs(shape.exterior.distance(Point(p))) for p in points]) < 0.01
        assert (inside[:, k] == expected)[~near].all()
        assert np.isfinite(along[inside[:, k], k]).all()


def test_where_lanes_cross_the_one_that_goes_our_way_is_taken():
    crossing = Lane(np.array([[20.0, -40.0], [20.0, 40.0]]), 3.5)
    drive = on_road(straight(10.0), lanes=(crossing, LANES[0]))
    lanes = LaneOccupancy(drive)
    assert (lanes.lane == 1).all()
    assert lanes.in_junction().any()
    assert not lanes.in_junction().all()
    assert not lanes.against(drive.yaw).any()


# CARLA


def test_carla_counts_the_way_and_every_infraction():
    assert carla_score(on_road(straight(10.0)), EXPERT).score == pytest.approx(1.0)
    slow = carla_score(on_road(straight(5.0)), EXPERT)
    assert (slow.completion, slow.penalty) == (pytest.approx(0.5), 1.0)
    hit = on_road(straight(10.0), {1: actor(20.0 + FRONT, 0.0, 0.0, 0.0), 2: actor(40.0 + FRONT, 0.0, 0.0, 0.0)})
    both = carla_score(labelled(hit, ObjectClass.PEDESTRIAN), EXPERT)
    assert both.penalty == pytest.approx(FACTORS["contact_with_pedestrian"] ** 2)
    assert both.infractions["contact_with_pedestrian"] == 2
    waiting = on_road(straight(0.0), {1: actor(20.0, 0.0, np.pi, 8.0)})
    assert carla_score(waiting, EXPERT).penalty == 1.0


def test_carla_takes_off_red_lights_and_the_way_against_a_lane():
    n = 60
    light = {
        "light_tick": np.arange(n), "light_number": np.ones(n, int), "light_x": np.full(n, 30.0),
        "light_y": np.zeros(n), "light_color": np.full(n, "red"),
    }  # fmt: skip
    passed = carla_score(on_road(straight(10.0), **light), EXPERT)
    assert passed.penalty == pytest.approx(FACTORS["red_light"])
    wrong = straight(10.0)
    wrong[:, 1] = 7.0
    assert carla_score(on_road(wrong), EXPERT).outside == pytest.approx(1.0)
