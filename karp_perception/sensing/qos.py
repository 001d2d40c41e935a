"""Quality of service as recordings store it: the part of it that decides whether a publisher and a subscriber talk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_RELIABILITY = ("system_default", "reliable", "best_effort", "unknown", "best_available")
_DURABILITY = ("system_default", "transient_local", "volatile", "unknown", "best_available")
_HISTORY = ("system_default", "keep_last", "keep_all", "unknown")
_ENDLESS = {"sec": 2147483647, "nsec": 4294967295}


@dataclass(frozen=True)
class Qos:
    """An offered profile. The words are those of rmw: reliable / best_effort, volatile / transient_local."""

    reliability: str = "reliable"
    durability: str = "volatile"
    history: str = "keep_last"
    depth: int = 10

    @classmethod
    def parse(cls, profiles: str | list[Any] | None) -> tuple[Qos, ...]:
        """Profiles of an `offered_qos_profiles` entry: YAML text or a list, with names or with rmw's numbers.

        What cannot be read is left out: it never stands in the way of reading a recording.
        """
        if isinstance(profiles, str):
            import yaml

            try:
                profiles = yaml.safe_load(profiles)
            except yaml.YAMLError:
                return ()
        if not isinstance(profiles, list):
            return ()
        return tuple(
            cls(
                _name(_RELIABILITY, profile.get("reliability")),
                _name(_DURABILITY, profile.get("durability")),
                _name(_HISTORY, profile.get("history")),
                depth if isinstance(depth := profile.get("depth"), int) else 0,
            )
            for profile in profiles
            if isinstance(profile, dict)
        )

    def to_yaml(self) -> str:
        """The profile as rosbag2 stores it (with rmw's numbers, which every version reads)."""
        import yaml

        profile = {
            "history": _HISTORY.index(self.history),
            "depth": self.depth,
            "reliability": _RELIABILITY.index(self.reliability),
            "durability": _DURABILITY.index(self.durability),
            "deadline": _ENDLESS,
            "lifespan": _ENDLESS,
            "liveliness": 1,  # automatic
            "liveliness_lease_duration": _ENDLESS,
            "avoid_ros_namespace_conventions": False,
        }
        return yaml.dump([{k: dict(v) if isinstance(v, dict) else v for k, v in profile.items()}], sort_keys=False)

    def to_rosbags(self) -> Any:
        """The profile in the form of rosbags' writer."""
        from rosbags import interfaces

        endless = interfaces.QosTime(_ENDLESS["sec"], _ENDLESS["nsec"])
        return interfaces.Qos(
            interfaces.QosHistory[self.history.upper()],
            self.depth,
            interfaces.QosReliability[self.reliability.upper()],
            interfaces.QosDurability[self.durability.upper()],
            endless,
            endless,
            interfaces.QosLiveliness.AUTOMATIC,
            endless,
            False,
        )


LATCHED = Qos(durability="transient_local", depth=1)
"""What a static topic offers: late subscribers get the last message."""


def _name(names: tuple[str, ...], value: Any) -> str:
    if isinstance(value, int) and 0 <= value < len(names):
        return names[value]
    return value.lower() if isinstance(value, str) and value.lower() in names else "unknown"
