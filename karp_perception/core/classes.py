"""Object classes: the ten of nuScenes, in the order every label index means, and the one table of other names."""

from __future__ import annotations

from enum import IntEnum


class ObjectClass(IntEnum):
    """Index of a class in every `label` array. UNKNOWN marks what has no class, such as a geometric obstacle."""

    UNKNOWN = -1
    CAR = 0
    TRUCK = 1
    BUS = 2
    TRAILER = 3
    CONSTRUCTION_VEHICLE = 4
    PEDESTRIAN = 5
    MOTORCYCLE = 6
    BICYCLE = 7
    TRAFFIC_CONE = 8
    BARRIER = 9


CLASS_NAMES: tuple[str, ...] = tuple(c.name.lower() for c in ObjectClass if c >= 0)
"""The ten names, index = label."""

VEHICLES = frozenset({0, 1, 2, 3, 4})
"""Labels of vehicles with four or more wheels."""

TWO_WHEELERS = frozenset({6, 7})

KIND: tuple[int, ...] = (0, 0, 0, 0, 0, 1, 1, 1, 2, 3)
"""By label; classes of one kind are easily taken for each other: vehicles, people on foot or on two wheels."""

# Names used elsewhere -> our class. KITTI: the object and tracking label files. nuScenes: full category names.
# COCO: what 2D detectors say. Others: what public labelling tools write.
_ALIASES: dict[str, ObjectClass] = {
    # KITTI
    "van": ObjectClass.CAR,
    "tram": ObjectClass.BUS,
    "person_sitting": ObjectClass.PEDESTRIAN,
    "cyclist": ObjectClass.BICYCLE,
    # nuScenes
    "vehicle.car": ObjectClass.CAR,
    "vehicle.truck": ObjectClass.TRUCK,
    "vehicle.bus.bendy": ObjectClass.BUS,
    "vehicle.bus.rigid": ObjectClass.BUS,
    "vehicle.trailer": ObjectClass.TRAILER,
    "vehicle.construction": ObjectClass.CONSTRUCTION_VEHICLE,
    "human.pedestrian.adult": ObjectClass.PEDESTRIAN,
    "human.pedestrian.child": ObjectClass.PEDESTRIAN,
    "human.pedestrian.construction_worker": ObjectClass.PEDESTRIAN,
    "human.pedestrian.police_officer": ObjectClass.PEDESTRIAN,
    "vehicle.motorcycle": ObjectClass.MOTORCYCLE,
    "vehicle.bicycle": ObjectClass.BICYCLE,
    "movable_object.trafficcone": ObjectClass.TRAFFIC_CONE,
    "movable_object.barrier": ObjectClass.BARRIER,
    # Labelling tools, COCO
    "person": ObjectClass.PEDESTRIAN,
    "motorcyclist": ObjectClass.MOTORCYCLE,
    "motorbike": ObjectClass.MOTORCYCLE,
    "bicyclist": ObjectClass.BICYCLE,
    "suv": ObjectClass.CAR,
    "trafficcone": ObjectClass.TRAFFIC_CONE,
    "train": ObjectClass.BUS,  # what shares a road with cars is a tram
}

# autoware_perception_msgs/ObjectClassification: UNKNOWN 0, CAR 1, TRUCK 2, BUS 3, TRAILER 4, MOTORCYCLE 5, BICYCLE 6,
# PEDESTRIAN 7.
_AUTOWARE: dict[ObjectClass, int] = {
    ObjectClass.UNKNOWN: 0,
    ObjectClass.CAR: 1,
    ObjectClass.TRUCK: 2,
    ObjectClass.BUS: 3,
    ObjectClass.TRAILER: 4,
    ObjectClass.CONSTRUCTION_VEHICLE: 2,
    ObjectClass.PEDESTRIAN: 7,
    ObjectClass.MOTORCYCLE: 5,
    ObjectClass.BICYCLE: 6,
    ObjectClass.TRAFFIC_CONE: 0,
    ObjectClass.BARRIER: 0,
}


def class_name(label: int) -> str:
    """Lower-case name of a label; "unknown" for anything that is none of the ten."""
    return CLASS_NAMES[label] if 0 <= label < len(CLASS_NAMES) else "unknown"


def class_from_name(name: str) -> ObjectClass:
    """Our class for a name of KITTI, nuScenes, COCO or a labelling tool (any case); UNKNOWN where none fits."""
    key = name.strip().lower().replace(" ", "_")
    if key in _ALIASES:
        return _ALIASES[key]
    return ObjectClass[key.upper()] if key.upper() in ObjectClass.__members__ else ObjectClass.UNKNOWN


def autoware_label(label: int) -> int:
    """autoware_perception_msgs/ObjectClassification label of one of ours (construction vehicles become TRUCK)."""
    return _AUTOWARE[ObjectClass(label)] if label in _AUTOWARE else 0


def class_from_autoware(label: int) -> ObjectClass:
    """Our class for an Autoware label; UNKNOWN for hazards, animals and anything newer."""
    return next((ours for ours, theirs in _AUTOWARE.items() if theirs == label and theirs), ObjectClass.UNKNOWN)
