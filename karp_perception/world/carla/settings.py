"""Settings of a drive in CARLA."""

from __future__ import annotations

from dataclasses import dataclass

from karp_perception.core.settings import Settings, setting


@dataclass(frozen=True)
class CarlaSettings(Settings):
    """Server, time, vehicle, traffic, weather and truth of a CarlaWorld."""

    host: str = setting("localhost", "where the CARLA server runs")
    port: int = setting(2000, "its first port", low=1, high=65533)
    timeout: float = setting(20.0, "longest wait for an answer of the server", unit="s", low=0.1, high=600.0)
    town: str = setting("", "map to load, such as Town10HD_Opt; empty for the one that is loaded")
    reload: bool = setting(True, "reload the map at each reset: slow, and what repeatable runs need")
    step_s: float = setting(0.1, "length of a tick, that of a turn of the lidar", unit="s", low=0.005, high=0.1)
    sensor_timeout: float = setting(2.0, "longest wait for the sensors of a tick", unit="s", low=0.01, high=60.0)
    settle: int = setting(5, "ticks after a reset until vehicles rest on their wheels", unit="ticks", low=1, high=100)
    role_name: str = setting("ego_vehicle", "of the vehicle; ROS interfaces name their topics after it")
    blueprint: str = setting("vehicle.tesla.model3", "of the vehicle; with * the first match in order of the alphabet")
    spawn_point: int = setting(-1, "number of the map's spawn point to begin at; -1 draws it from the seed", low=-1)
    destination: int = setting(-1, "number of the spawn point to drive to; -1 for wherever the roads lead", low=-1)
    route_length: float = setting(800.0, "of a route without destination", unit="m", low=20.0, high=20000.0)
    speed_limit: float = setting(13.9, "where the map gives none", unit="m/s", low=1.0, high=70.0)
    control: str = setting(
        "auto",
        "how commands reach the vehicle: CARLA's Ackermann controller (0.9.14 and newer) or our own pedals",
        choices=("auto", "ackermann", "pedals"),
    )
    vehicles: int = setting(40, "other vehicles, driven by CARLA's traffic manager", low=0, high=500)
    walkers: int = setting(30, "people", low=0, high=500)
    crossing: float = setting(0.1, "share of people who cross the road anywhere", low=0.0, high=1.0)
    traffic_manager_port: int = setting(8000, "port of the traffic manager", low=1, high=65535)
    weather: bool = setting(True, "set the weather; false leaves that of the map")
    truth_range: float = setting(80.0, "within which actors, lights and lanes are told", unit="m", low=5.0, high=300.0)
    masks: bool = setting(False, "instance masks and what cameras see of an actor: a depth camera beside each camera")
