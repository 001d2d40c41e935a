"""Everything that drives in lanes: who enters where, which way they go, and when they leave."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from karp_perception.core import LightColor
from karp_perception.world.layout import Layout
from karp_perception.world.traffic import clearance
from karp_perception.world.traffic.fleet import EGO, MAX_PATH, Fleet, Kind, empty_fleet, put
from karp_perception.world.traffic.network import place_on, roads_of
from karp_perception.world.traffic.population import CRUISING, Population, Unit
from karp_perception.world.traffic.right_of_way import GREEN, MAX_USERS, RED, YELLOW
from karp_perception.world.traffic.settings import DriverSettings, TrafficSettings
from karp_perception.world.traffic.sight import Obstacles, gather, room_for
from karp_perception.world.traffic.step import step_fleet
from karp_perception.world.vehicle import DrivenVehicle

_STATE = {LightColor.GREEN: GREEN, LightColor.YELLOW: YELLOW, LightColor.RED: RED}
_TRIES = 12  # places tried for each vehicle at the beginning
_ENTER_EVERY = 0.7  # s between two that enter
_STUCK = 60.0  # s after which somebody who stands before an empty way is taken out, out of sight
_ON_LANE = 0.6  # of a lane's width: farther from its middle the vehicle under test is not in it
_TIGHT = 1.0 / 15.0  # 1/m: bends that long vehicles avoid where they can
_STRAIGHT, _LONG = 1.0 / 40.0, 12.5  # 1/m, m: who is longer only goes straight on where that is possible
_STRENGTH = {Kind.CAR: 1.0, Kind.HEAVY: 0.6, Kind.MOTORCYCLE: 1.3, Kind.BICYCLE: 0.6}  # of a car's acceleration
_GRIP = {Kind.CAR: 1.0, Kind.HEAVY: 0.7, Kind.MOTORCYCLE: 1.1, Kind.BICYCLE: 0.9}  # of a car's, in bends
_HUMAN = (0.6, 1.6)  # how far drivers differ at most, relative to the middle
_EDGE = 0.65  # m from the edge of a lane to the middle of a bicycle


class Driving:
    """The vehicles of a place, row 0 the vehicle under test.

    Args:
        layout: the place.
        settings: how many, and what their drivers are like.
        population: draws them.
        rng: draws drivers and ways.
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
        self.roads, self.row_of_lane = roads_of(layout)
        lanes = self.roads.length
        motor = lanes[self.roads.bike == 0].sum() * population.mix.vehicles
        bikes = lanes[self.roads.bike == 1].sum() * population.mix.bikeway
        self.wanted_bikes = round(settings.density * bikes / 1000.0)
        self.wanted = min(settings.max_vehicles, round(settings.density * motor / 1000.0) + self.wanted_bikes)
        self.wanted_bikes = min(self.wanted_bikes, self.wanted // 3)
        rows = self.wanted + 8
        self.fleet: Fleet = empty_fleet(rows)
        self.units: dict[int, Unit] = {}
        self.numbers: dict[int, tuple[int, int]] = {}
        self.removed_stuck = 0
        self._users = np.zeros((len(lanes), MAX_USERS), np.int64)
        self._place = np.zeros((len(lanes), MAX_USERS), np.int64)
        self._count = np.zeros(len(lanes), np.int64)
        self._signals = list(layout.signals.values())
        self._turn, self._wait = 0, 0.0
        self._route = [self.row_of_lane[n] for n in layout.route]
        self.obstacles: Obstacles = room_for(2 * rows + 256)

    # Beginning

    def fill(self, others: np.ndarray) -> None:
        """Puts as many as are wanted where there is room; `others`: see `sight.gather`."""
        roads = self.roads
        free = np.diff(roads.conflict_first) == 0
        for bikes, count in ((1, self.wanted_bikes), (0, self.wanted - self.wanted_bikes)):
            lanes = np.flatnonzero((roads.bike == bikes) & free & (roads.length > 6.0))
            if not len(lanes):
                continue
            share = np.cumsum(roads.length[lanes])
            for _ in range(count):
                unit = self._draw(bool(bikes))
                for _ in range(_TRIES):
                    lane = self._outermost(unit, int(lanes[np.searchsorted(share, self._rng.random() * share[-1])]))
                    s = float(self._rng.uniform(1.0, roads.length[lane] - 1.0))
                    if self._fits(unit, lane, s, others):
                        self.enter(unit, lane, s)
                        break

    def enter(self, unit: Unit, lane: int, s: float, v: float | None = None) -> int:
        """Adds a vehicle whose front axle is `s` m along a lane (a row of `roads`); its row in the fleet."""
        f, roads, rng, driver = self.fleet, self.roads, self._rng, self._settings.driver
        row = int(np.flatnonzero(f.alive[1:] == 0)[0]) + 1
        for column in f:
            column[row] = 0
        for name, value in unit.columns.items():
            getattr(f, name)[row] = value
        f.alive[row], f.kind[row] = 1, unit.kind
        f.eagerness[row] = 1.0 + driver.speed_spread * float(np.clip(rng.normal(), -2.0, 2.0))
        f.top_speed[row] = CRUISING[unit.kind] * (rng.uniform(0.7, 1.35) if unit.kind == Kind.BICYCLE else 1.0)
        f.headway[row] = driver.headway * self._human(driver) * (1.25 if unit.kind == Kind.HEAVY else 1.0)
        f.min_gap[row] = driver.min_gap * self._human(driver) * (0.6 if unit.kind == Kind.BICYCLE else 1.0)
        f.strength[row] = driver.acceleration * self._human(driver) * _STRENGTH[unit.kind]
        f.comfort[row] = driver.deceleration * self._human(driver)
        f.grip[row] = driver.lateral_acceleration * self._human(driver) * _GRIP[unit.kind]
        f.phase[row], f.drift[row] = rng.uniform(0.0, 2.0 * math.pi), driver.wander
        room = max(0.5 * float(roads.width[lane]) - float(f.half_width[row]), 0.0)
        if unit.kind == Kind.BICYCLE:
            f.line[row] = self._edge(lane)
        else:
            # In narrow lanes there is little to choose, and one keeps away from what comes towards one.
            aside = 0.0 if roads.left[lane] >= 0 or roads.bike[lane] else -0.1
            f.line[row] = float(np.clip(rng.normal(aside, 0.15), -0.5 * room, 0.4 * room))
            f.drift[row] = min(driver.wander, 0.25 * room)
        f.d[row] = f.goal[row] = f.line[row]
        f.path[row, 0], f.count[row] = lane, 1
        f.start[row, 1] = roads.length[lane]
        f.q[row], f.since[row] = s, rng.uniform(0.0, 5.0)
        f.grant[row] = s + f.nose[row]
        f.gap[row], f.lead[row] = math.inf, -1
        f.barrier[row] = f.hold[row] = math.inf
        pace = min(float(roads.limit[lane]) * f.eagerness[row], f.top_speed[row])
        f.v[row] = rng.uniform(0.75, 0.95) * pace if v is None else v
        f.v[row] = min(f.v[row], self._stoppable(lane, s + float(f.nose[row])))
        self.units[row] = unit
        self.numbers[row] = (self._number(), 0 if unit.trailer is None else self._number())
        self._extend(row)
        put(f, roads, row)
        return row

    def _edge(self, lane: int) -> float:
        """m to the left of a lane's middle at which bicycles ride."""
        return 0.0 if self.roads.bike[lane] else -max(0.5 * float(self.roads.width[lane]) - _EDGE, 0.0)

    def _stoppable(self, lane: int, front: float) -> float:
        """m/s at which one that appears there could still stop for whatever the lane asks it to stop for."""
        roads = self.roads
        stops = roads.crossing_stop[roads.crossing_first[lane] : roads.crossing_first[lane + 1]]
        lines = [float(stop) for stop in stops if stop > front - 6.0]
        after = roads.next_lane[roads.next_first[lane] : roads.next_first[lane + 1]]
        if roads.signal[lane] >= 0 or any(roads.conflict_first[n + 1] > roads.conflict_first[n] for n in after):
            lines.append(float(roads.length[lane]))
        return min((math.sqrt(4.0 * max(stop - 1.0 - front, 0.0)) for stop in lines), default=math.inf)

    def _outermost(self, unit: Unit, lane: int) -> int:
        """The lane itself; for bicycles the one at the right edge of the road."""
        while unit.kind == Kind.BICYCLE and self.roads.right[lane] >= 0:
            lane = int(self.roads.right[lane])
        return lane

    def _human(self, driver: DriverSettings) -> float:
        return float(np.clip(1.0 + driver.spread * self._rng.normal(), *_HUMAN))

    def _draw(self, bikeway: bool) -> Unit:
        if bikeway or self._rng.random() < self._population.mix.cyclists:
            return self._population.bicycle()
        return self._population.motor_vehicle()

    def _fits(self, unit: Unit, lane: int, s: float, others: np.ndarray) -> bool:
        """Whether a vehicle has room there, with a gap to drive with before and behind it."""
        columns, pace = unit.columns, min(float(self.roads.limit[lane]), CRUISING[unit.kind])
        gather(self.obstacles, self.fleet, others)
        tail, nose = columns["tail"], columns["nose"]
        spare = 2.0 + 0.6 * pace
        middle = s + nose - 0.5 * tail
        if middle - 0.5 * tail < -0.5 and self.roads.before[lane] == 0:
            return False
        aside = self._edge(lane) if unit.kind == Kind.BICYCLE else 0.0
        x, y, tx, ty = place_on(self.roads, lane, middle, aside)
        return not clearance.overlaps(self.obstacles, x, y, tx, ty, 0.5 * tail + spare, columns["half_width"] + 0.3)

    # Each step

    def step(self, dt: float, time: float, people: np.ndarray, others: np.ndarray, ego: DrivenVehicle | None) -> None:
        """Moves all by `dt` s. `people`: see `find_barriers`; `others`: see `sight.gather`."""
        self.place_ego(ego)
        lights = np.array([_STATE[signal.color(time)] for signal in self._signals], np.int64)
        driver = self._settings.driver
        step_fleet(
            self.fleet, self.roads, self._room(others), others, lights, people, self._users, self._place, self._count,
            self._turn, driver.safe_braking, driver.politeness, driver.change_gain, dt,
        )  # fmt: skip
        self._turn += 1
        f = self.fleet
        front = f.q + f.nose
        last = np.maximum(f.count, 1)
        end = f.start[np.arange(len(last)), last]
        for row in np.flatnonzero((f.alive == 1) & (f.driven == 0) & (end < front + 60.0 + 6.0 * f.v)):
            if not self._extend(int(row)) and f.q[row] >= f.start[row, f.count[row]] - 0.3:
                self.leave(int(row))
        for row in np.flatnonzero((f.alive == 1) & (f.driven == 0) & (f.waited > _STUCK)):
            if math.isinf(f.barrier[row]) and not self._seen(f.rear_x[row], f.rear_y[row], ego):
                self.leave(int(row))
                self.removed_stuck += 1
        self._wait -= dt
        if self._wait <= 0.0 and f.alive[1:].sum() < self.wanted:
            self._wait = _ENTER_EVERY
            self._admit(others, ego)

    def rows(self) -> Sequence[int]:
        """Rows that are in use, but for the vehicle under test."""
        return [int(row) for row in np.flatnonzero((self.fleet.alive == 1) & (self.fleet.driven == 0))]

    def leave(self, row: int) -> None:
        """Takes a vehicle out."""
        self.fleet.alive[row] = 0
        del self.units[row], self.numbers[row]

    def crossing_is_clear(self, crossing: int, duration: float, given_way: bool) -> bool:
        """Whether people may set foot on a crossing (its row) that takes them `duration` s; `given_way`: on a zebra."""
        f, roads = self.fleet, self.roads
        return clearance.crossing_is_clear(
            f, roads, self._users, self._place, self._count, crossing, duration, given_way
        )

    def way_is_clear(self, x0: float, y0: float, x1: float, y1: float, duration: float) -> bool:
        """Whether nobody comes so close to who walks from one place to the other within `duration` s."""
        return clearance.way_is_clear(self.obstacles, x0, y0, x1, y1, duration)

    def blocks(self, x: float, y: float, ux: float, uy: float) -> bool:
        """Whether a vehicle is in the next step of who walks from (x, y) in the direction (ux, uy)."""
        return clearance.blocks(self.obstacles, x, y, ux, uy)

    def _room(self, others: np.ndarray) -> Obstacles:
        needed = 2 * len(self.fleet.alive) + len(others)
        if needed > len(self.obstacles.x):
            self.obstacles = room_for(2 * needed)
        return self.obstacles

    def _seen(self, x: float, y: float, ego: DrivenVehicle | None) -> bool:
        return ego is not None and math.hypot(x - ego.x, y - ego.y) < self._settings.clear

    def _admit(self, others: np.ndarray, ego: DrivenVehicle | None) -> None:
        """Lets one more in where a lane begins at the edge of the place."""
        roads, rng = self.roads, self._rng
        bikes_now = sum(1 for row in self.units if self.roads.bike[self.fleet.path[row, 0]])
        bikeway = bikes_now < self.wanted_bikes and rng.random() < 0.5
        entries = np.flatnonzero((roads.before == 0) & (roads.bike == int(bikeway)) & (roads.length > 6.0))
        entries = [n for n in entries if roads.next_first[n + 1] > roads.next_first[n] or roads.length[n] > 60.0]
        if not entries:
            return
        unit = self._draw(bikeway)
        lane = self._outermost(unit, int(entries[int(rng.integers(len(entries)))]))
        s = unit.columns["tail"] - unit.columns["nose"] + 0.5
        if s > 0.8 * roads.length[lane] or self._seen(*place_on(roads, lane, s, 0.0)[:2], ego):
            return
        if self._fits(unit, lane, s, others):
            row = self.enter(unit, lane, s)
            self.fleet.v[row] = self.fleet.rear_v[row] = self.fleet.trailer_v[row] = self._entry_speed(row)

    def _entry_speed(self, row: int) -> float:
        """m/s at which it can follow whoever is ahead in its first lane."""
        f = self.fleet
        v = float(f.v[row])
        for other in self.rows():
            if other != row and f.path[other, 0] == f.path[row, 0]:
                gap = f.q[other] + f.nose[other] - f.tail[other] - f.q[row] - f.nose[row]
                if gap > -1.0:
                    v = min(v, math.sqrt(f.v[other] ** 2 + 2.0 * max(gap - 3.0, 0.0)))
        return v

    def _extend(self, row: int) -> bool:
        """Chooses the way on as far as it is needed; False where the way ends."""
        f, roads = self.fleet, self.roads
        while f.count[row] > 1 and f.start[row, 1] < f.q[row] + f.nose[row] - f.tail[row] - 5.0:
            f.path[row, :-1], f.start[row, :-1] = f.path[row, 1:].copy(), f.start[row, 1:].copy()
            f.count[row] -= 1
        while f.count[row] < MAX_PATH:
            n = int(f.count[row])
            if f.start[row, n] > f.q[row] + 80.0 + 8.0 * f.v[row]:
                break
            chosen = self._choose(row, int(f.path[row, n - 1]))
            if chosen is None:
                return n > 1 and f.q[row] < f.start[row, n] - 0.3
            f.path[row, n], f.start[row, n + 1] = chosen, f.start[row, n] + roads.length[chosen]
            f.count[row] += 1
        return True

    def _choose(self, row: int, lane: int) -> int | None:
        """The lane to take next: bicycles prefer their own, long vehicles wide bends, all going straight on."""
        roads = self.roads
        options = roads.next_lane[roads.next_first[lane] : roads.next_first[lane + 1]]
        kind = self.fleet.kind[row]
        if kind != Kind.BICYCLE:
            options = options[roads.bike[options] == 0]
        elif (roads.bike[options] == 1).any():
            options = options[roads.bike[options] == 1]
        if not len(options):
            return None
        if kind == Kind.HEAVY or self.fleet.trailer[row] > 0.0:
            bend = roads.bend[options]
            if bend.min() < _STRAIGHT:
                options = options[bend <= (_STRAIGHT if self.fleet.tail[row] > _LONG else _TIGHT)]
        if len(options) == 1:
            return int(options[0])
        weight = np.where(np.abs(roads.turn[options]) < 0.3, 1.6, 1.0)
        weight[np.abs(roads.turn[options]) > 2.6] = 0.02
        share = np.cumsum(weight)
        return int(options[np.searchsorted(share, self._rng.random() * share[-1])])

    def place_ego(self, ego: DrivenVehicle | None) -> None:
        """Writes the vehicle under test into row 0, in the lane that it is in."""
        f, roads = self.fleet, self.roads
        f.alive[EGO] = f.driven[EGO] = int(ego is not None)
        if ego is None:
            return
        base = ego.vehicle.wheelbase
        f.v[EGO], f.a[EGO], f.rear_v[EGO] = max(ego.speed, 0.0), ego.acceleration, ego.speed
        f.yaw[EGO], f.yaw_rate[EGO] = ego.yaw, ego.yaw_rate
        f.rear_x[EGO], f.rear_y[EGO] = ego.x - ego.axle * math.cos(ego.yaw), ego.y - ego.axle * math.sin(ego.yaw)
        length = ego.vehicle.front + ego.vehicle.rear
        f.half_length[EGO], f.half_width[EGO], f.wheelbase[EGO] = 0.5 * length, 0.5 * ego.vehicle.width, base
        f.middle[EGO] = 0.5 * length - ego.vehicle.rear_overhang
        f.nose[EGO], f.tail[EGO] = length - ego.vehicle.rear_overhang - base, length
        f.comfort[EGO], f.strength[EGO], f.grip[EGO], f.eagerness[EGO] = 3.0, 2.0, 3.0, 1.0
        f.top_speed[EGO], f.headway[EGO], f.min_gap[EGO] = 60.0, 1.2, 2.0
        x, y = f.rear_x[EGO] + base * math.cos(ego.yaw), f.rear_y[EGO] + base * math.sin(ego.yaw)
        lane, s, d = clearance.lane_of(
            roads, np.array(self._route, np.int64), x, y, math.cos(ego.yaw), math.sin(ego.yaw), _ON_LANE
        )
        if lane < 0:
            f.count[EGO] = 0
            return
        lanes = [lane]
        if lane in self._route:
            lanes += self._route[self._route.index(lane) + 1 :]
        before = self._route[: self._route.index(lane)] if lane in self._route else []
        lanes = [*before[-2:], *lanes][:MAX_PATH]
        start = np.concatenate([[0.0], np.cumsum(roads.length[lanes])])
        f.path[EGO, : len(lanes)], f.start[EGO, : len(start)], f.count[EGO] = lanes, start, len(lanes)
        f.q[EGO], f.d[EGO] = start[lanes.index(lane)] + s, d
