"""Who is about in which place: the mix of vehicles, how many, how full the parking spaces are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from karp_perception.core.errors import ConfigurationError
from karp_perception.world.models.model import Model
from karp_perception.world.traffic.fleet import Kind

Draw = Callable[[str, int], Model]
"""Family and seed -> a model, as `models.catalogue.draw`."""

CARS = {
    "sedan": 20, "hatchback": 22, "estate": 12, "suv": 20, "city_car": 8, "sports_car": 2, "pickup": 4, "van": 4,
    "panel_van": 5, "minivan": 5,
}  # fmt: skip
TRUCKS = {
    "box_truck": 4, "rigid_truck": 4, "flatbed": 2, "tipper": 2, "tanker_truck": 0.7, "garbage_truck": 0.8,
    "semi_tractor": 4, "wheel_loader": 0.2, "mobile_crane": 0.2,
}  # fmt: skip
BUSES = {"city_bus": 3, "coach": 1, "minibus": 1, "articulated_bus": 1.5}
TWO_WHEELERS = {"motorcyclist": 3, "scooter_rider": 2}
CYCLISTS = {"cyclist": 12, "cargo_bike": 1}
PARKED_BIKES = {"parked_bicycle": 3, "parked_motorcycle": 1, "parked_scooter": 1}
MACHINES = {"excavator": 3, "wheel_loader": 2, "dump_truck": 1, "road_roller": 1, "forklift": 0.5}
WALKERS = {
    "walker": 14, "backpack_walker": 4, "suitcase_walker": 1.5, "umbrella_walker": 0.7, "pram_pusher": 1,
    "wheelchair_user": 0.4, "child": 1.2,
}  # fmt: skip
BYSTANDERS = {"standing_person": 6, "phone_person": 3, "waving_person": 0.7, "bending_person": 0.7}
SEMI_TRAILERS = {"box_trailer": 4, "curtain_trailer": 5, "container_trailer": 2, "tank_trailer": 1, "low_loader": 0.5}
CAR_TRAILERS = {"car_trailer": 2, "caravan": 1}

_MOST_UNCOMMON, _MOST_CYCLISTS = 0.75, 0.4  # of what drives, where a mix is enriched

HEAVY_FAMILIES = frozenset((*TRUCKS, *BUSES, *MACHINES))
BICYCLES = frozenset(CYCLISTS)
MOTORCYCLES = frozenset(TWO_WHEELERS)
CRUISING = {Kind.CAR: 60.0, Kind.HEAVY: 24.5, Kind.MOTORCYCLE: 60.0, Kind.BICYCLE: 5.2}
"""m/s that a kind drives at most, however fast the road (heavy: EU directive 92/6/EEC, 90 km/h)."""


@dataclass(frozen=True)
class Mix:
    """What a family of places is like.

    Attributes:
        vehicles: that drive, a km of lane. cyclists: of those, the share of bicycles in lanes for all.
        bikeway: bicycles a km of lane that is theirs.
        heavy, buses, two_wheelers: shares of the motor vehicles.
        people: a km of walkway.
        parked: share of the spaces that are taken.
        parked_uncommon: times the usual share of parked two-wheelers and lorries among them.
        towing: share of cars that pull a trailer, where they have a coupling.
        evened: power of the weights of families within each share: below 1, seldom ones become less so.
    """

    vehicles: float = 16.0
    cyclists: float = 0.08
    bikeway: float = 14.0
    heavy: float = 0.07
    buses: float = 0.05
    two_wheelers: float = 0.05
    people: float = 45.0
    parked: float = 0.75
    parked_uncommon: float = 1.0
    towing: float = 0.03
    evened: float = 1.0

    def enriched(self, factor: float) -> Mix:
        """The mix with that many times the heavy vehicles, buses and two-wheelers, at most `_MOST_UNCOMMON` in all."""
        uncommon = self.heavy + self.buses + self.two_wheelers
        motor = min(factor, max(1.0, _MOST_UNCOMMON / uncommon)) if uncommon else 1.0
        return replace(
            self,
            cyclists=min(factor * self.cyclists, max(self.cyclists, _MOST_CYCLISTS)),
            heavy=motor * self.heavy,
            buses=motor * self.buses,
            two_wheelers=motor * self.two_wheelers,
            parked_uncommon=factor,
        )

    def families(self) -> dict[str, float]:
        """Weights of the families of motor vehicles."""
        cars = 1.0 - self.heavy - self.buses - self.two_wheelers
        groups = ((cars, CARS), (self.heavy, TRUCKS), (self.buses, BUSES), (self.two_wheelers, TWO_WHEELERS))
        weights = {}
        for share, group in groups:
            evened = {name: weight**self.evened for name, weight in group.items()}
            weights.update({name: share * weight / sum(evened.values()) for name, weight in evened.items()})
        return weights


MIXES: Mapping[str, Mix] = {
    "motorway": Mix(14.0, 0.0, 0.0, 0.22, 0.02, 0.03, 0.0, 0.0),
    "rural": Mix(7.0, 0.07, 6.0, 0.12, 0.02, 0.06, 6.0, 0.5),
    "parking": Mix(12.0, 0.12, 10.0, 0.03, 0.01, 0.05, 70.0, 0.85),
    "parking_street": Mix(12.0, 0.12, 10.0, 0.03, 0.01, 0.05, 70.0, 0.85),
    "yard": Mix(14.0, 0.02, 0.0, 0.45, 0.02, 0.02, 25.0, 0.6),
    "roundabout": Mix(18.0, 0.07),
    "intersection": Mix(18.0, 0.07),
    "straight": Mix(15.0, 0.06),
    "curved": Mix(13.0, 0.06),
}


def mix_of(family: str) -> Mix:
    """The mix of a family of layouts; that of a town where it is not known."""
    return MIXES.get(family, Mix())


@dataclass(frozen=True)
class Unit:
    """A vehicle and what it pulls.

    Attributes:
        model, trailer: what they look like; no trailer: None.
        kind: how it is driven.
    """

    model: Model
    kind: Kind
    trailer: Model | None = None
    columns: dict[str, float] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        model, trailer = self.model, self.trailer
        length, width, _ = model.size
        wheelbase = model.wheelbase or 0.6 * length
        rear_axle = model.rear_axle if model.wheelbase else -0.5 * wheelbase
        nose = 0.5 * length - (rear_axle + wheelbase)
        columns = {
            "nose": nose, "tail": length, "half_width": 0.5 * width, "half_length": 0.5 * length,
            "wheelbase": wheelbase, "middle": -rear_axle,
        }  # fmt: skip
        if trailer is not None:
            if trailer.king_pin is None or model.hitch is None:
                raise ConfigurationError(f"{model.family} with {trailer.family}: expected a hitch and a king pin")
            bar = trailer.king_pin - trailer.rear_axle
            columns["trailer"], columns["coupling"] = bar, model.hitch - rear_axle
            columns["trailer_middle"] = -trailer.rear_axle
            columns["trailer_half_length"], columns["trailer_half_width"] = 0.5 * trailer.size[0], 0.5 * trailer.size[1]
            columns["tail"] = 0.5 * length - model.hitch + trailer.king_pin + 0.5 * trailer.size[0]
            columns["half_width"] = 0.5 * max(width, trailer.size[1])
        object.__setattr__(self, "columns", columns)


class Population:
    """Draws vehicles and people of a place.

    Args:
        mix: of the place. rng: draws all that follows. draw: makes models.
        models: different examples of each family; fewer are drawn faster again, since models are kept.
    """

    def __init__(self, mix: Mix, rng: np.random.Generator, draw: Draw, models: int) -> None:
        self.mix, self._rng, self._draw, self._models = mix, rng, draw, models
        families = mix.families()
        self._names, self._weights = list(families), np.cumsum(list(families.values()))
        self._weights /= self._weights[-1]

    def model(self, family: str) -> Model:
        """One of the examples of a family."""
        return self._draw(family, int(self._rng.integers(self._models)))

    def motor_vehicle(self) -> Unit:
        """What drives in lanes for all, by the mix."""
        name = self._names[int(np.searchsorted(self._weights, self._rng.random()))]
        model, trailer = self.model(name), None
        if name == "semi_tractor":
            if self._rng.random() < 0.93:
                trailer = self.model(self.one_of(dict.fromkeys(SEMI_TRAILERS, 1.0)))
        elif name == "articulated_bus":
            trailer = self.model("articulated_bus_rear")
        elif name in CARS and model.hitch is not None and self._rng.random() < self.mix.towing:
            trailer = self.model(self.one_of(CAR_TRAILERS))
        return Unit(model, kind_of(name), trailer)

    def bicycle(self) -> Unit:
        """Somebody on a bicycle."""
        return Unit(self.model(self.one_of(CYCLISTS)), Kind.BICYCLE)

    def walker(self, child: bool = False) -> Model:
        """Somebody who walks."""
        return self.model("child" if child else self.one_of(WALKERS))

    def bystander(self) -> Model:
        """Somebody who stands about."""
        return self.model(self.one_of(BYSTANDERS))

    def one_of(self, weights: Mapping[str, float]) -> str:
        """A name, by weights."""
        share = np.cumsum(list(weights.values()))
        return list(weights)[int(np.searchsorted(share, self._rng.random() * share[-1]))]

    def parked_vehicle(self, length: float, width: float) -> Model | None:
        """What stands in a space of this size (m): None where nothing that was drawn fits into it."""
        more = self.mix.parked_uncommon
        if length < 3.0 or width < 1.4:
            names: Mapping[str, float] = PARKED_BIKES
        elif length > 9.0:
            names = {**TRUCKS, **BUSES, "panel_van": 3}
        else:
            names = {**CARS, "parked_motorcycle": 2 * more, "parked_scooter": more, "parked_bicycle": more}
            if length > 6.5:
                names = {**names, "box_truck": 3 * more, "rigid_truck": 5 * more}
        for _ in range(6):
            model = self.model(self.one_of(names))
            if model.size[0] <= length - 0.3 and model.size[1] <= width + 0.1:
                return model
        return None


def kind_of(family: str) -> Kind:
    """How a family of models is driven."""
    if family in BICYCLES:
        return Kind.BICYCLE
    if family in MOTORCYCLES:
        return Kind.MOTORCYCLE
    return Kind.HEAVY if family in HEAVY_FAMILIES else Kind.CAR
