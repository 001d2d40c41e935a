"""All families of models by name, their examples by seed, and mixes in which one meets them.

How the sizes of the mixes compare with published ones (length, width, height in m): cars of KITTI 3.88 x 1.63 x 1.53
(Geiger et al. 2012, means as in common detectors' anchors), cars of nuScenes 4.63 x 1.96 x 1.74, trucks 6.93 x 2.51 x
2.84, buses 11.1 x 2.93 x 3.46, trailers 12.28 x 2.92 x 3.87, construction vehicles 6.56 x 2.82 x 3.20, pedestrians
0.73 x 0.67 x 1.77, motorcycles 2.10 x 0.77 x 1.46, bicycles 1.70 x 0.61 x 1.29, cones 0.41 x 0.42 x 1.07, barriers
0.50 x 2.53 x 0.98 (Caesar et al. 2020). Cars lie between the small ones of Europe in KITTI's tight boxes and those of
nuScenes; heavy vehicles keep to the 2.55 m that the law allows, as boxes of nuScenes hold mirrors and some air too.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from types import MappingProxyType

import numpy as np

from karp_perception.core import ObjectClass
from karp_perception.core.errors import ConfigurationError
from karp_perception.world.models.box_vans import BOX_VANS
from karp_perception.world.models.buildings import BUILDINGS
from karp_perception.world.models.buses import BUSES
from karp_perception.world.models.cars import CARS
from karp_perception.world.models.construction import CONSTRUCTION
from karp_perception.world.models.family import Family, Size
from karp_perception.world.models.model import Model
from karp_perception.world.models.people import PEOPLE
from karp_perception.world.models.places import PLACES
from karp_perception.world.models.roadside import ROADSIDE
from karp_perception.world.models.roadworks import ROADWORKS
from karp_perception.world.models.street_furniture import STREET_FURNITURE
from karp_perception.world.models.trailers import TRAILERS
from karp_perception.world.models.trucks import TRUCKS
from karp_perception.world.models.two_wheelers import TWO_WHEELERS
from karp_perception.world.models.vegetation import VEGETATION
from karp_perception.world.models.walls import WALLS

EXAMPLES = 512
"""Different examples of a family that `draw_mix` draws from: few enough for the cache to pay, enough to vary."""

_ALL = (
    *CARS, *BOX_VANS, *TRUCKS, *TRAILERS, *BUSES, *CONSTRUCTION, *TWO_WHEELERS, *PEOPLE, *ROADWORKS, *BUILDINGS, *WALLS,
    *VEGETATION, *ROADSIDE, *STREET_FURNITURE, *PLACES,
)  # fmt: skip

FAMILIES: Mapping[str, Family] = MappingProxyType({family.name: family for family in _ALL})
"""By name. Families with a label may be actors, those without are scenery.

Long scenery (walls, fences, hedges, buildings) runs along x, with what it shows to the street towards -y; what looks
somewhere (signs, lights, benches, shelters, the arm of a lamp) looks along +x; gantries and bridges span along y.
"""

_MIXES: dict[str, dict[str, float]] = {
    # What drives: shares of nuScenes' moving vehicles, rounded. A tractor wants a trailer, a front section its rear.
    "vehicle": {
        "sedan": 0.24, "hatchback": 0.20, "suv": 0.18, "estate": 0.08, "city_car": 0.06, "minivan": 0.05, "van": 0.03,
        "panel_van": 0.03, "pickup": 0.02, "sports_car": 0.01, "box_truck": 0.018, "rigid_truck": 0.015,
        "flatbed": 0.008, "tipper": 0.006, "tanker_truck": 0.004, "garbage_truck": 0.004,
        "semi_tractor": 0.012, "city_bus": 0.014, "coach": 0.006, "minibus": 0.005, "articulated_bus": 0.005,
    },
    "car": {
        "sedan": 0.27, "hatchback": 0.22, "suv": 0.19, "estate": 0.09, "city_car": 0.08, "minivan": 0.05, "van": 0.035,
        "panel_van": 0.03, "pickup": 0.02, "sports_car": 0.015,
    },
    "truck": {
        "box_truck": 0.24, "rigid_truck": 0.28, "flatbed": 0.18, "tipper": 0.08, "tanker_truck": 0.05,
        "garbage_truck": 0.06, "semi_tractor": 0.11,
    },
    "bus": {"city_bus": 0.48, "coach": 0.26, "minibus": 0.14, "articulated_bus": 0.12},
    "construction": {
        "excavator": 0.28, "wheel_loader": 0.22, "dump_truck": 0.12, "road_roller": 0.14, "forklift": 0.12,
        "mobile_crane": 0.12,
    },
    "parked_vehicle": {
        "sedan": 0.25, "hatchback": 0.23, "suv": 0.17, "estate": 0.1, "city_car": 0.09, "minivan": 0.05, "van": 0.04,
        "panel_van": 0.035, "pickup": 0.015, "sports_car": 0.01, "rigid_truck": 0.01,
    },
    "trailer": {
        "box_trailer": 0.34, "curtain_trailer": 0.28, "container_trailer": 0.18, "tank_trailer": 0.12,
        "low_loader": 0.08,
    },
    "light_trailer": {"car_trailer": 0.75, "caravan": 0.25},
    "people": {
        "pedestrian": 0.40, "child": 0.07, "backpack_walker": 0.10, "suitcase_walker": 0.03, "umbrella_walker": 0.03,
        "pram_pusher": 0.03, "standing_person": 0.17, "phone_person": 0.07, "waving_person": 0.02,
        "bending_person": 0.02, "sitting_person": 0.04, "wheelchair_user": 0.02,
    },
    "walker": {
        "pedestrian": 0.60, "child": 0.10, "backpack_walker": 0.16, "suitcase_walker": 0.05, "umbrella_walker": 0.05,
        "pram_pusher": 0.04,
    },
    "stander": {
        "standing_person": 0.5, "phone_person": 0.2, "waving_person": 0.08, "bending_person": 0.07,
        "sitting_person": 0.1, "wheelchair_user": 0.05,
    },
    "bicycle": {"cyclist": 0.93, "cargo_bike": 0.07},
    "motorcycle": {"motorcyclist": 0.6, "scooter_rider": 0.4},
    "parked_two_wheeler": {"parked_bicycle": 0.6, "parked_motorcycle": 0.2, "parked_scooter": 0.2},
    "cone": {"traffic_cone": 0.4, "tall_cone": 0.4, "road_drum": 0.2},
    "barrier": {"water_barrier": 0.35, "jersey_barrier": 0.25, "barricade": 0.25, "crowd_barrier": 0.15},
    "vegetation": {
        "tree": 0.3, "conifer": 0.08, "young_tree": 0.12, "bush": 0.25, "ragged_vegetation": 0.15, "grass_tuft": 0.1,
    },
    "street_furniture": {
        "pole": 0.14, "sign": 0.2, "bollard": 0.14, "hydrant": 0.04, "cabinet": 0.08, "post_box": 0.04, "bin": 0.12,
        "bench": 0.08, "planter": 0.06, "bike_rack": 0.04, "advertising_column": 0.03, "phone_box": 0.03,
    },
    "gantry": {"sign_gantry": 1.0},
    # What a detector takes for an object.
    "clutter": {
        "wall_fragment": 0.16, "facade_fragment": 0.12, "house_corner": 0.06, "ragged_vegetation": 0.16, "bush": 0.08,
        "container": 0.06, "market_stall": 0.07, "pallet_pile": 0.04, "pile": 0.03, "dumpster": 0.07,
        "kiosk": 0.03, "cafe_table": 0.04,
        "scaffolding": 0.03, "rock": 0.03, "shopping_cart": 0.02,
    },
}  # fmt: skip

MIXES: Mapping[str, Mapping[str, float]] = MappingProxyType(_MIXES)
"""Shares of families by the name of a mix."""


def draw(family: str, seed: int, size: tuple[float, float, float] | None = None, spread: float = 1.0) -> Model:
    """The example of a family that belongs to a seed: the same for ever, and kept.

    Args:
        family: key in FAMILIES, or in MIXES: then the seed also decides which of its families it is.
        seed: at least 0.
        size: (length, width, height) of its box, m; None lets the family draw it.
        spread: times the family's usual spread of sizes.

    Raises:
        ConfigurationError: for an unknown family (it names those there are), a negative seed or a size of 0.
    """
    if family not in FAMILIES:
        if family in MIXES:
            family = _of_mix(family, np.random.default_rng([zlib.crc32(family.encode()), max(0, seed)]))
        else:
            names = ", ".join(sorted({*FAMILIES, *MIXES}))
            raise ConfigurationError(f"unknown family of models {family!r}: expected one of {names}")
    if seed < 0:
        raise ConfigurationError(f"seed of a {family}: expected at least 0, got {seed}")
    if size is not None and not (len(size) == 3 and all(0 < s < 1e4 for s in size)):
        raise ConfigurationError(f"size of a {family}: expected length, width, height above 0 m, got {size}")
    given = None if size is None else (float(size[0]), float(size[1]), float(size[2]))
    return _drawn(family, int(seed), given, float(spread))


@lru_cache(maxsize=8192)
def _drawn(name: str, seed: int, size: Size | None, spread: float) -> Model:
    family = FAMILIES[name]
    rng = np.random.default_rng([zlib.crc32(name.encode()), seed])
    own = family.sizes.draw(rng, spread)
    return family.make(rng, own if size is None else size)


def draw_mix(mix: str, rng: np.random.Generator) -> Model:
    """One of the EXAMPLES of one of the families of a mix (key in MIXES), by their shares.

    Raises ConfigurationError for an unknown mix.
    """
    family = _of_mix(mix, rng)
    return draw(family, int(rng.integers(EXAMPLES)))


def _of_mix(mix: str, rng: np.random.Generator) -> str:
    names, edges = _shares(mix)
    return names[int(np.searchsorted(edges, rng.random(), side="right"))]


@lru_cache(maxsize=64)
def _shares(mix: str) -> tuple[tuple[str, ...], np.ndarray]:
    if mix not in MIXES:
        raise ConfigurationError(f"unknown mix of models {mix!r}: expected one of {', '.join(MIXES)}")
    shares = np.array(list(MIXES[mix].values()))
    return tuple(MIXES[mix]), np.cumsum(shares[:-1] / shares.sum())


def draw_trailer(tractor: Model, rng: np.random.Generator) -> Model | None:
    """What fits behind a vehicle with a hitch: a semi-trailer, an articulated bus's rear, a car's trailer, else None.

    A rear section of a bus has the colours and the width and height of its front.
    """
    if tractor.hitch is None:
        return None
    if tractor.family == "articulated_bus":
        seed = int(rng.integers(EXAMPLES))
        length = FAMILIES["articulated_bus_rear"].sizes.mean[0]
        rear = draw("articulated_bus_rear", seed, (length, tractor.size[1], tractor.size[2]))
        return replace(rear, first=tractor.first, second=tractor.second)
    return draw_mix("trailer" if tractor.label == ObjectClass.TRUCK else "light_trailer", rng)
