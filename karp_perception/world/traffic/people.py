"""People: alone and in groups, along ways on foot and over roads."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from karp_perception.core import LightColor
from karp_perception.world.actors import Actor
from karp_perception.world.layout import Layout
from karp_perception.world.models.model import Model
from karp_perception.world.traffic.driving import Driving
from karp_perception.world.traffic.footways import (
    Footway,
    Passage,
    footways_of,
    is_barred,
    marked_passages,
    unmarked_passages,
)
from karp_perception.world.traffic.population import Population
from karp_perception.world.traffic.settings import TrafficSettings
from karp_perception.world.traffic.walker import Stage, Walker, beside, face, turned

_PACE = (1.34, 0.22)  # m/s, mean and standard deviation (Weidmann 1993: 1.34 +- 0.26)
_PACES = {"wheelchair_user": 0.8, "pram_pusher": 0.9, "child": 0.95, "suitcase_walker": 0.95}
_STRIDE = 1.45  # m in one period of the gait at 1.34 m/s
_HURRY = 1.2  # how much faster people cross a road
_CROSSES = 0.35  # chance that somebody who comes by a crossing takes it
_STRAYS = 0.02  # 1/s times the setting: how often somebody who walks crosses where nothing is
_HALF_WAY = 0.45  # m: how far to the side of a way people walk
_GROUPS = 0.35  # share of people that are not alone
_CATCHING_UP = 1.6  # how much faster those behind in a group may walk
_REACTING = 1.5  # s ahead over which drivers see somebody on the road coming
_LOOKING = 0.6  # s that everybody looks before setting foot on a road
_GIVING_UP = 15.0  # s after which one no longer waits to cross where nothing says that one may
_BEHIND = 1.5  # s by which those behind in a group reach the kerb later
_STANDING = 0.2  # share of those about that stand about


class People:
    """All on foot.

    Args:
        layout: the place. settings: how many. population: draws models. rng: draws the rest.
        number: gives the next free id.
    """

    def __init__(
        self,
        layout: Layout,
        settings: TrafficSettings,
        population: Population,
        rng: np.random.Generator,
        number: Callable[[], int],
    ) -> None:
        self._layout, self._settings, self._population, self._rng, self._number = (
            layout,
            settings,
            population,
            rng,
            number,
        )
        self.ways: list[Footway] = footways_of(layout)
        self._lengths = np.array([way.length for way in self.ways])
        self._crossings = list(layout.crossings.values())
        self.passages = marked_passages(layout, self.ways)
        strays = unmarked_passages(layout, self.ways) if settings.jaywalking > 0 else []
        self._of_way: list[list[Passage]] = [[p for p in self.passages if p.way == k] for k in range(len(self.ways))]
        self._strays: list[list[Passage]] = [[p for p in strays if p.way == k] for k in range(len(self.ways))]
        self.walkers: list[Walker] = []
        total = settings.pedestrians * population.mix.people * self._lengths.sum() / 1000.0
        self._count = min(settings.max_pedestrians, round(total))

    # Beginning

    def keep_off(self, standing: Sequence[tuple[Model, float, float, float]]) -> None:
        """Forgets the places to cross that lead through something that stands."""
        for k, strays in enumerate(self._strays):
            self._strays[k] = [p for p in strays if not any(is_barred(p, *thing) for thing in standing)]

    def fill(self) -> list[tuple[Model, float, float, float]]:
        """Sets people down; returns the model, x, y, yaw of those who stand about and stay."""
        standing: list[tuple[Model, float, float, float]] = []
        if not len(self.ways):
            return standing
        while len(self.walkers) + len(standing) < self._count:
            if self._rng.random() < _STANDING:
                standing += self._bystanders()
            else:
                self._enter()
        return standing

    def _spot(self) -> tuple[int, float]:
        share = np.cumsum(self._lengths)
        r = self._rng.random() * share[-1]
        way = int(np.searchsorted(share, r))
        return way, float(np.clip(share[way] - r, 0.5, self._lengths[way] - 0.5))

    def _bystanders(self) -> list[tuple[Model, float, float, float]]:
        """One to four who stand together and face each other, beside the way."""
        rng = self._rng
        way, s = self._spot()
        side = float(rng.choice([-1.0, 1.0]))
        x, y, yaw = self.ways[way].at(s, side * rng.uniform(0.65, 0.85))
        count = int(rng.choice([1, 1, 2, 2, 3, 4]))
        found = []
        begin = rng.uniform(0.0, 2.0 * math.pi)
        for k in range(count):
            # In a row along the way when two, in a ring that stays off it when more.
            turn = yaw + math.pi * k if count == 2 else begin + 2.0 * math.pi * k / count
            radius = 0.0 if count == 1 else 0.45 if count == 2 else 0.6
            facing = turn + math.pi if count > 1 else yaw - side * math.pi / 2 + rng.normal(0.0, 0.8)
            px, py = x + radius * math.cos(turn), y + radius * math.sin(turn)
            found.append((self._population.bystander(), px, py, facing + rng.normal(0.0, 0.2)))
        return found

    def _enter(self, away: tuple[float, float] | None = None) -> None:
        """One or a group, somewhere on a way, or (away from a place) at an end of one."""
        rng = self._rng
        for _ in range(6):
            way, s = self._spot()
            direction = float(rng.choice([-1.0, 1.0]))
            if away is not None:
                s = 0.5 if direction > 0 else self._lengths[way] - 0.5
                x, y, _ = self.ways[way].at(s, 0.0)
                if math.dist((x, y), away) < self._settings.clear:
                    continue
            aside = -direction * rng.uniform(0.05, _HALF_WAY)
            x, y, _ = self.ways[way].at(s, aside)
            if any((w.x - x) ** 2 + (w.y - y) ** 2 < 1.5 for w in self.walkers):
                continue
            leader = self._walker(way, s, direction, aside)
            if rng.random() < _GROUPS / 1.7:
                self._join(leader, int(rng.choice([1, 1, 1, 2, 3])))
            return

    def _walker(self, way: int, s: float, direction: float, aside: float, child: bool = False) -> Walker:
        model = self._population.walker(child)
        pace = float(np.clip(self._rng.normal(*_PACE), 0.8, 2.0)) * _PACES.get(model.family, 1.0)
        walker = Walker(self._number(), model, pace, way, s, direction, aside)
        x, y, yaw = self.ways[way].at(s, aside)
        walker.x, walker.y, walker.yaw = x, y, yaw + (0.0 if direction > 0 else math.pi)
        walker.v, walker.walked = pace, self._rng.uniform(0.0, _STRIDE)
        self.walkers.append(walker)
        return walker

    def _join(self, leader: Walker, count: int) -> None:
        rng = self._rng
        side = -1.0 if leader.aside * leader.direction > 0 else 1.0
        for k in range(count):
            member = self._walker(leader.way, leader.s, leader.direction, leader.aside, child=rng.random() < 0.2)
            row, column = divmod(k + 1, 2)
            member.leader, member.pace = leader, leader.pace
            member.offset = (-0.95 * row - rng.uniform(0.0, 0.15), side * 0.7 * column)
            member.x, member.y = beside(leader, member.offset)
        leader.size = count + 1
        leader.pace *= 0.9

    # Each step

    def demand(self) -> np.ndarray:
        """(C,) for `find_barriers`: 1 where vehicles are to give way to people who wait, 2 where some cross."""
        asked = np.zeros(max(len(self._crossings), 1), np.int64)
        for w in self.walkers:
            row = -1 if w.passage is None else w.passage.crossing
            if row < 0:
                continue
            if w.stage == Stage.CROSSING and w.v > 0.1:
                asked[row] = 2
            elif w.stage == Stage.WAITING and self._crossings[row].signal is None and self._crossings[row].priority:
                asked[row] = max(asked[row], 1)
        return asked

    def on_road(self) -> np.ndarray:
        """(K, 9) for `sight.gather`: people on a road, each with the way before them."""
        rows = []
        for w in self.walkers:
            walking = w.leader.stage == Stage.WALKING if w.leader else w.stage == Stage.WALKING
            in_lane = walking and self.ways[w.way].lanes and self.ways[w.way].stretch((w.leader or w).s) is not None
            if w.stage != Stage.CROSSING and not in_lane:
                continue
            c, s = math.cos(w.yaw), math.sin(w.yaw)
            ahead = _REACTING * w.v
            length, width, _ = w.model.size
            x, y = w.x + 0.5 * ahead * c, w.y + 0.5 * ahead * s
            rows.append((x, y, c, s, 0.5 * (length + ahead), 0.5 * width, w.vx, w.vy, 2.0))
        return np.array(rows, float).reshape(-1, 9)

    def step(self, dt: float, time: float, driving: Driving, ego: tuple[float, float] | None) -> None:
        """Moves all by `dt` s."""
        gone = []
        for w in self.walkers:
            if w.leader is not None:
                continue
            x, y = w.x, w.y
            if w.stage != Stage.WALKING:
                self._on_legs(w, dt, time, driving)
            elif not self._along_way(w, dt, driving, ego):
                gone.append(w)
                continue
            face(w, w.x - x, w.y - y, dt)
        for w in self.walkers:
            if w.leader is not None:
                self._follow(w, dt, driving)
        if gone:
            self.walkers = [w for w in self.walkers if w not in gone and w.leader not in gone]
        if len(self.walkers) < self._count * (1.0 - _STANDING) - 4 and len(self.ways):
            self._enter(ego)

    def _along_way(self, w: Walker, dt: float, driving: Driving, ego: tuple[float, float] | None) -> bool:
        """On its footway; False when it has left the place at an end of it."""
        way, goal, pace = self.ways[w.way], w.aside, w.pace
        for other in self.walkers:
            if other is w or other.leader is w or other.way != w.way or other.stage != Stage.WALKING:
                continue
            dx, dy = other.x - w.x, other.y - w.y
            if dx * dx + dy * dy > 9.0:
                continue
            c, s = math.cos(w.yaw), math.sin(w.yaw)
            ahead, across = dx * c + dy * s, dy * c - dx * s
            if ahead < 0.1 or abs(across) > 0.75:
                continue
            if other.vx * c + other.vy * s < -0.2:
                goal = -w.direction * _HALF_WAY  # both keep to the right
            else:
                goal = w.aside + (0.5 if across < 0 else -0.5) * w.direction
                if ahead < 1.3:
                    pace = min(pace, max(other.v - 0.1, 0.2))
        if way.lanes and not self._lane_is_clear(w, way, driving):
            pace = 0.0
        goal = min(max(goal, -_HALF_WAY), _HALF_WAY)
        w.aside += min(max(goal - w.aside, -0.5 * dt), 0.5 * dt)
        w.v += min(max(pace - w.v, -4.0 * dt), 1.0 * dt)
        before = w.s
        w.s += w.direction * w.v * dt
        if not 0.0 <= w.s <= way.length:
            return self._at_end(w, ego)
        w.x, w.y, _ = way.at(w.s, w.aside)
        for passage in self._of_way[w.way]:
            if (before - passage.s) * (w.s - passage.s) <= 0.0 and passage.crossing != w.last_crossing:
                w.last_crossing = passage.crossing
                if self._rng.random() < _CROSSES:
                    self._take(w, passage)
                    return True
        if self._strays[w.way] and self._rng.random() < _STRAYS * self._settings.jaywalking * dt:
            near = [p for p in self._strays[w.way] if abs(p.s - w.s) < 4.0]
            if near and w.size == 1:
                self._take(w, near[0])
        return True

    def _lane_is_clear(self, w: Walker, way: Footway, driving: Driving) -> bool:
        """Whether one may go on where the way leads over a lane."""
        if way.stretch(w.s) is not None:
            x, y, yaw = way.at(w.s, w.aside)
            turn = 0.0 if w.direction > 0 else math.pi
            return not driving.blocks(x, y, math.cos(yaw + turn), math.sin(yaw + turn))
        ahead = way.stretch(w.s + 0.7 * w.direction)
        if ahead is None:
            return True
        begin, end = (ahead[0], ahead[1]) if w.direction > 0 else (ahead[1], ahead[0])
        duration = abs(end - begin) / w.pace + 0.5
        return driving.way_is_clear(*way.at(begin, w.aside)[:2], *way.at(end, w.aside)[:2], duration)

    def _at_end(self, w: Walker, ego: tuple[float, float] | None) -> bool:
        """On to a way that begins here; else round, or out of the place where nobody looks."""
        way = self.ways[w.way]
        s = 0.0 if w.s < 0.0 else way.length
        x, y, _ = way.at(s, 0.0)
        for k, other in enumerate(self.ways):
            if k == w.way:
                continue
            for t, direction in ((0.0, 1.0), (other.length, -1.0)):
                if math.dist((x, y), other.at(t, 0.0)[:2]) < 1.5:
                    w.way, w.s, w.direction = k, t, direction
                    w.last_crossing = -2
                    w.s, w.aside = other.project(w.x, w.y)
                    return True
        if ego is None or math.dist((x, y), ego) > self._settings.clear:
            return False
        w.s, w.direction, w.v = s, -w.direction, 0.3
        w.last_crossing = -2
        return True

    def _take(self, w: Walker, passage: Passage) -> None:
        """Sets out for a place to cross: to the kerb, over the road, and to the way beyond."""
        jitter = float(self._rng.uniform(-1.0, 1.0)) * passage.half_width
        (ax, ay), (bx, by) = passage.wait, passage.leave
        ux, uy = (bx - ax) / passage.length, (by - ay) / passage.length
        onto = self.ways[passage.onto]
        w.direction = float(self._rng.choice([-1.0, 1.0]))
        x, y, _ = onto.at(min(max(passage.t + w.direction, 0.0), onto.length), -0.25 * w.direction)
        w.legs = [(ax - uy * jitter, ay + ux * jitter), (bx - uy * jitter, by + ux * jitter), (x, y)]
        w.passage, w.stage, w.way_on = passage, Stage.TO_KERB, passage.onto

    def _on_legs(self, w: Walker, dt: float, time: float, driving: Driving) -> None:
        if w.stage == Stage.WAITING:
            self._wait(w, dt, time, driving)
            return
        over = w.stage == Stage.CROSSING
        x, y = w.legs[0]
        distance = math.hypot(x - w.x, y - w.y)
        pace = w.pace * (_HURRY if over else 1.0)
        if over and distance > 0.1 and driving.blocks(w.x, w.y, (x - w.x) / distance, (y - w.y) / distance):
            pace = 0.0
        w.v += min(max(pace - w.v, -6.0 * dt), 2.0 * dt)
        step = w.v * dt
        if step < distance:
            w.x, w.y = w.x + (x - w.x) * step / distance, w.y + (y - w.y) * step / distance
            return
        w.x, w.y = x, y
        w.legs.pop(0)
        if w.stage == Stage.TO_KERB:
            w.stage, w.waited = Stage.WAITING, 0.0
        elif over:
            w.stage, w.last_crossing = Stage.BEYOND, w.passage.crossing if w.passage else -2
            w.passage = None
        else:
            w.stage, w.way = Stage.WALKING, w.way_on
            w.s, w.aside = self.ways[w.way].project(w.x, w.y)

    def _wait(self, w: Walker, dt: float, time: float, driving: Driving) -> None:
        passage = w.passage
        assert passage is not None
        w.waited += dt
        w.v = 0.0
        w.yaw = turned(w.yaw, math.atan2(passage.leave[1] - passage.wait[1], passage.leave[0] - passage.wait[0]), dt)
        if w.waited > _LOOKING and self._may_go(w, passage, time, driving):
            w.stage = Stage.CROSSING
        elif w.waited > (_GIVING_UP if passage.crossing < 0 else 4.0 * _GIVING_UP):
            # Nobody lets one across: back to the way that one came from.
            x, y, _ = self.ways[passage.way].at(passage.s, -0.25 * w.direction)
            w.legs, w.passage, w.stage, w.way_on = [(x, y)], None, Stage.BEYOND, passage.way

    def _may_go(self, w: Walker, passage: Passage, time: float, driving: Driving) -> bool:
        duration = passage.length / (w.pace * _HURRY) + (0.8 if w.size > 1 else 0.0)
        if passage.crossing < 0:
            return driving.way_is_clear(*passage.wait, *passage.leave, duration)
        crossing = self._crossings[passage.crossing]
        if crossing.signal is not None:
            signal = self._layout.signals[crossing.signal]
            if signal.color(time) != LightColor.GREEN or signal.color(time + 0.35 * duration) != LightColor.GREEN:
                return False
        given = crossing.priority or crossing.signal is not None
        return driving.crossing_is_clear(passage.crossing, duration, given)

    def _follow(self, w: Walker, dt: float, driving: Driving) -> None:
        leader = w.leader
        assert leader is not None
        # Towards and away from a road in single file: beside the leader may be on it.
        file = leader.stage in (Stage.TO_KERB, Stage.BEYOND)
        x, y = beside(leader, (-0.75 - abs(w.offset[1]), 0.0) if file else w.offset)
        dx, dy = x - w.x, y - w.y
        distance = math.hypot(dx, dy)
        most = _CATCHING_UP * leader.pace * dt
        share = min(1.0, most / distance) if distance > 1e-9 else 0.0
        on_road = w.stage == Stage.CROSSING and distance > 0.05
        if on_road and driving.blocks(w.x, w.y, dx / distance, dy / distance):
            share = 0.0
        if leader.v < 0.05 and distance < 0.3:
            share = 0.0
        w.x, w.y = w.x + share * dx, w.y + share * dy
        w.way, w.passage = leader.way, leader.passage
        # Those behind are on the road for as long as it takes them to come across after the leader.
        if leader.stage == Stage.BEYOND and w.stage == Stage.CROSSING:
            w.waited += dt
            if w.waited > _BEHIND:
                w.stage = Stage.BEYOND
        else:
            w.stage, w.waited = leader.stage, 0.0
        face(w, share * dx, share * dy, dt)
        if w.v < 0.15:
            w.yaw = turned(w.yaw, leader.yaw, dt)

    def actors(self, level: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> list[Actor]:
        """As they are now; `level` gives the height (m) of what one stands on."""
        if not self.walkers:
            return []
        z = level(np.array([w.x for w in self.walkers]), np.array([w.y for w in self.walkers]))
        return [
            Actor(
                w.number, w.model, (w.x, w.y, float(h)), w.yaw, (w.vx, w.vy), w.turning,
                phase=2.0 * math.pi * w.walked / (_STRIDE * w.model.size[2] / 1.74) % (2.0 * math.pi),
            )
            for w, h in zip(self.walkers, z, strict=True)
        ]  # fmt: skip
