"""CARLA blueprints -> our classes.

Vehicles say what they are in `base_type` (0.9.14 and newer: car, truck, van, bus, motorcycle, bicycle); older ones are
told by their number of wheels and by name. `special_type` (emergency, taxi, electric) does not change the class, but
construction machines are named there or in the blueprint. Of the props only cones and barriers have a class here: a
bench or a bin is clutter, not an object.
"""

from __future__ import annotations

from collections.abc import Mapping

from karp_perception.core.classes import ObjectClass

_BASE_TYPES = {
    "car": ObjectClass.CAR,
    "van": ObjectClass.CAR,
    "truck": ObjectClass.TRUCK,
    "bus": ObjectClass.BUS,
    "trailer": ObjectClass.TRAILER,
    "motorcycle": ObjectClass.MOTORCYCLE,
    "bicycle": ObjectClass.BICYCLE,
}

# Words of a blueprint's name, where there is no base_type: the vehicles of 0.9.x and those of 0.10.
_VEHICLE_WORDS = {
    "excavator": ObjectClass.CONSTRUCTION_VEHICLE,
    "bulldozer": ObjectClass.CONSTRUCTION_VEHICLE,
    "fusorosa": ObjectClass.BUS,
    "bus": ObjectClass.BUS,
    "trailer": ObjectClass.TRAILER,
    "carlacola": ObjectClass.TRUCK,
    "firetruck": ObjectClass.TRUCK,
    "european_hgv": ObjectClass.TRUCK,
    "cybertruck": ObjectClass.CAR,
    "truck": ObjectClass.TRUCK,
    "crossbike": ObjectClass.BICYCLE,
    "omafiets": ObjectClass.BICYCLE,
    "century": ObjectClass.BICYCLE,
    "bicycle": ObjectClass.BICYCLE,
}

_PROP_WORDS = {
    "trafficcone": ObjectClass.TRAFFIC_CONE,
    "constructioncone": ObjectClass.TRAFFIC_CONE,
    "streetbarrier": ObjectClass.BARRIER,
    "trafficbarrier": ObjectClass.BARRIER,
    "barrier": ObjectClass.BARRIER,
}

LEVEL_LABELS: Mapping[str, ObjectClass] = {
    "Car": ObjectClass.CAR,
    "Truck": ObjectClass.TRUCK,
    "Bus": ObjectClass.BUS,
    "Motorcycle": ObjectClass.MOTORCYCLE,
    "Bicycle": ObjectClass.BICYCLE,
    "Vehicles": ObjectClass.CAR,  # up to 0.9.13 it stands for all of them
}
"""Names in carla.CityObjectLabel of what stands in a map without being an actor (parked vehicles)."""

# Length, width, height in m of what some releases give no size, or one with a side of 0: two-wheelers with rider, as
# their published means in nuScenes.
FALLBACK_SIZES: Mapping[ObjectClass, tuple[float, float, float]] = {
    ObjectClass.MOTORCYCLE: (2.11, 0.77, 1.47),
    ObjectClass.BICYCLE: (1.70, 0.60, 1.28),
    ObjectClass.PEDESTRIAN: (0.73, 0.67, 1.77),
}
_FALLBACK = (4.5, 1.9, 1.6)


def label_of(type_id: str, attributes: Mapping[str, str]) -> ObjectClass:
    """The class of an actor by its blueprint's id and attributes; UNKNOWN for what is no object of ours."""
    kind, _, name = type_id.partition(".")
    if kind == "walker":
        return ObjectClass.PEDESTRIAN
    if type_id.startswith("static.prop."):
        return _by_words(_PROP_WORDS, name)
    if kind != "vehicle":
        return ObjectClass.UNKNOWN
    if "construction" in attributes.get("special_type", "").lower():
        return ObjectClass.CONSTRUCTION_VEHICLE
    base = _BASE_TYPES.get(attributes.get("base_type", "").strip().lower())
    if base is not None:
        return base
    named = _by_words(_VEHICLE_WORDS, name)
    if named is not ObjectClass.UNKNOWN:
        return named
    return ObjectClass.MOTORCYCLE if attributes.get("number_of_wheels") == "2" else ObjectClass.CAR


def size_or_fallback(size: tuple[float, float, float], label: ObjectClass) -> tuple[float, float, float]:
    """`size` (length, width, height, m), with sides that are no size replaced by those usual for the class."""
    usual = FALLBACK_SIZES.get(label, _FALLBACK)
    length, width, height = (
        side if _SMALLEST < side < _LARGEST else other for side, other in zip(size, usual, strict=True)
    )
    return length, width, height


_SMALLEST, _LARGEST = 0.05, 40.0  # m; a barrier is 5 cm thick at least, an articulated lorry 25 m long


def _by_words(words: Mapping[str, ObjectClass], name: str) -> ObjectClass:
    return next((label for word, label in words.items() if word in name.lower()), ObjectClass.UNKNOWN)
