"""How much traffic there is and how its drivers behave."""

from __future__ import annotations

from dataclasses import dataclass

from karp_perception.core.settings import Settings, nested, setting


@dataclass(frozen=True)
class DriverSettings(Settings):
    """The middle of what drivers do; each differs from it by `spread`.

    Following: Treiber, Hennecke, Helbing (Physical Review E 62, 2000). Changing lanes: MOBIL, Kesting, Treiber,
    Helbing (Transportation Research Record 1999, 2007).
    """

    headway: float = setting(1.3, "time gap kept when driving", unit="s", low=0.5, high=5.0)
    min_gap: float = setting(2.0, "gap kept when standing", unit="m", low=0.5, high=10.0)
    acceleration: float = setting(1.6, "most used by a car", unit="m/s2", low=0.3, high=5.0)
    deceleration: float = setting(2.0, "comfortable", unit="m/s2", low=0.5, high=6.0)
    lateral_acceleration: float = setting(2.2, "comfortable in bends", unit="m/s2", low=0.5, high=6.0)
    speed_spread: float = setting(0.1, "standard deviation of wanted speed over speed limit", low=0.0, high=0.3)
    spread: float = setting(0.15, "relative standard deviation of the other numbers", low=0.0, high=0.3)
    politeness: float = setting(0.25, "weight of others' acceleration in a lane change", low=0.0, high=1.0)
    change_gain: float = setting(0.15, "acceleration that a lane change must win", unit="m/s2", low=0.0, high=2.0)
    safe_braking: float = setting(
        3.0, "most that a lane change may ask of whoever follows", unit="m/s2", low=0.5, high=8
    )
    wander: float = setting(0.08, "lateral drift about one's line", unit="m", low=0.0, high=0.5)


@dataclass(frozen=True)
class TrafficSettings(Settings):
    """Numbers of each kind are scaled by the family of the place (see `population.Mix`)."""

    density: float = setting(1.0, "of driving traffic; 1 is the family's usual", low=0.0, high=5.0)
    uncommon: float = setting(
        1.0, "times the family's usual share of heavy vehicles, buses and two-wheelers", low=0.0, high=20.0
    )
    evened: float = setting(
        1.0, "power of the weights of models within each of these shares: below 1, seldom ones become less so", low=0.0,
        high=1.0,
    )  # fmt: skip
    towing: float = setting(0.03, "share of cars with a coupling that pull a trailer", low=0.0, high=1.0)
    pedestrians: float = setting(1.0, "of people; 1 is the family's usual", low=0.0, high=5.0)
    parking: float = setting(1.0, "of parked vehicles; 1 is the family's usual", low=0.0, high=3.0)
    roadworks: float = setting(0.3, "chance that a place has some", low=0.0, high=1.0)
    halted: int = setting(
        0, "lorries, buses, trailers, machines and two-wheelers left standing beside the road", low=0, high=60
    )
    jaywalking: float = setting(0.15, "chance that someone who crosses does it anywhere", low=0.0, high=1.0)
    max_vehicles: int = setting(40, "that drive at once", low=0, high=200)
    max_pedestrians: int = setting(40, "that are about at once", low=0, high=200)
    clear: float = setting(60.0, "from the vehicle under test within which none appears", unit="m", low=0.0, high=500.0)
    models: int = setting(24, "different examples drawn of each family of models", low=1, high=10000)
    sizes: float = setting(1.0, "times the usual spread of the sizes of models within a family", low=0.0, high=3.0)
    driver: DriverSettings = nested(DriverSettings)
