"""All settings of the planner."""

from __future__ import annotations

from dataclasses import dataclass

from karp_perception.core.settings import Settings, nested, setting
from karp_perception.planning.decision import DecisionSettings
from karp_perception.planning.hazards import HazardSettings
from karp_perception.planning.idm import IdmSettings
from karp_perception.planning.proposals import ProposalSettings
from karp_perception.planning.road_ahead import RoadAheadSettings
from karp_perception.planning.route_line import RouteLineSettings
from karp_perception.planning.safety import SafetySettings
from karp_perception.planning.scoring import ScoringSettings
from karp_perception.planning.trajectory import MotionLimits


@dataclass(frozen=True)
class PlannerSettings(Settings):
    """How the vehicle is to be driven."""

    route: RouteLineSettings = nested(RouteLineSettings)
    road: RoadAheadSettings = nested(RoadAheadSettings)
    idm: IdmSettings = nested(IdmSettings)
    hazards: HazardSettings = nested(HazardSettings)
    limits: MotionLimits = nested(MotionLimits)
    proposals: ProposalSettings = nested(ProposalSettings)
    scoring: ScoringSettings = nested(ScoringSettings)
    decision: DecisionSettings = nested(DecisionSettings)
    safety: SafetySettings = nested(SafetySettings)
    speed_limit: float = setting(13.9, "where neither route nor map says", unit="m/s", low=0.0, high=70.0)
    lateral_margin: float = setting(0.25, "kept free on either side of the vehicle", unit="m", low=0.0, high=2.0)
    harmless: float = setting(1.0, "where less is needed, a moment's wait is harmless", unit="m/s2", low=0.0, high=6.0)
    return_time: float = setting(3.0, "for coming to another place on the road", unit="s", low=0.5, high=20.0)
    return_distance: float = setting(12.0, "and at least", unit="m", low=2.0, high=100.0)
    longest_gap: float = setting(1.0, "after a longer gap in time nothing is remembered", unit="s", low=0.1, high=10.0)
