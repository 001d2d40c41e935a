"""Everything about the tracker that can be set."""

from __future__ import annotations

from dataclasses import dataclass

from karp_perception.core.settings import Settings, nested, setting
from karp_perception.prediction.settings import PredictionSettings
from karp_perception.tracking.bodies import BodySettings
from karp_perception.tracking.motion import MotionSettings


@dataclass(frozen=True)
class TrackerSettings(Settings):
    """How the tracker weighs what it is told."""

    motion: MotionSettings = nested(MotionSettings)
    prediction: PredictionSettings = nested(PredictionSettings)
    bodies: BodySettings = nested(BodySettings)
    face_deviation: float = setting(0.12, "of a visible face of an obstacle", unit="m", low=0.01, high=2.0)
    side_deviation: float = setting(0.2, "of an obstacle's end seen from beside", unit="m", low=0.01, high=2.0)
    cut_deviation: float = setting(
        0.4, "of an end that is no real one, as part of the extent and 1 m", low=0.0, high=2.0
    )
    detection_deviation: float = setting(0.3, "of a detection that gives no variance", unit="m", low=0.01, high=5.0)
    detection_speed_deviation: float = setting(
        2.0, "of the velocity of a detection that gives no variance", unit="m/s", low=0.05, high=20.0
    )
    believed_speed_deviation: float = setting(
        1.0, "of a velocity that is taken in; told less surely, it is the guess of a detector of single sweeps",
        unit="m/s", low=0.0, high=20.0,
    )  # fmt: skip
    speed_outlier: float = setting(3.0, "deviations from which on a velocity loses weight", low=1.0, high=100.0)
    speed_error_lasts: float = setting(
        0.0, "a detector that errs about a speed does so again, for so long", unit="s", low=0.0, high=60.0
    )
    gate_deviation: float = setting(
        0.3,
        "what a detected centre may be off beyond its noise, when tracks and detections are paired",
        unit="m",
        low=0.0,
    )
    confident: float = setting(0.3, "detections from this score on choose tracks first", low=0.0, high=1.0)
    weak_cost: float = setting(2.0, "what a weaker one costs more, in log likelihood", low=0.0, high=20.0)
    weak_existence: float = setting(0.3, "existence a track needs to take a weaker one", low=0.0, high=1.0)
    yaw_weight: float = setting(2.0, "cost of lying across a track that is long", low=0.0, high=20.0)
    obstacle_yaw_deviation: float = setting(0.2, "of an obstacle's yaw", unit="rad", low=0.01, high=1.5)
    detection_yaw_deviation: float = setting(0.1, "of a detection's yaw", unit="rad", low=0.01, high=1.5)
    climb: float = setting(0.1, "how fast heights change", unit="m/sqrt(s)", low=0.001, high=5.0)
    unseen_acceleration: float = setting(
        1.5, "how accelerations grow for each second that a track is not seen", unit="1/s", low=0.0, high=20.0
    )
    turn_rate: float = setting(0.2, "how fast things turn", unit="rad/sqrt(s)", low=0.001, high=3.0)
    walking_speed: float = setting(
        2.5, "up to which a two-wheeler may as well be somebody on foot", unit="m/s", low=0.0, high=10.0
    )
    birth_density: float = setting(2e-4, "new things in a frame; a match must be likelier", unit="1/m2", low=1e-9)
    clutter_density: float = setting(0.1, "chance measurements near a track", unit="1/m2", low=1e-9)
    overlap_weight: float = setting(2.0, "cost of no common area, in log likelihood", low=0.0, high=20.0)
    size_weight: float = setting(0.5, "cost of an e-fold difference in area", low=0.0, high=20.0)
    class_weight: float = setting(3.0, "cost of another class", low=0.0, high=20.0)
    kindred_weight: float = setting(
        1.0, "the same where both are vehicles, or both people on foot or on two wheels", low=0.0, high=20.0
    )
    same_overlap: float = setting(0.5, "common area from which two boxes are one thing", low=0.05, high=1.0)
    birth_score: float = setting(0.3, "a detection below it only updates tracks", low=0.0, high=1.0)
    confirm: float = setting(0.7, "existence probability from which a track is reported", low=0.0, high=1.0)
    report: float = setting(0.3, "and below which it no longer is", low=0.0, high=1.0)
    forget: float = setting(0.15, "existence probability that ends a track", low=0.0, high=1.0)
    most_existence: float = setting(0.98, "existence probability is kept below", low=0.5, high=0.999999)
    missed: float = setting(12.0, "loss of log odds while in plain view but not measured", unit="1/s", low=0.0)
    hidden: float = setting(1.0, "the same while something stands in front", unit="1/s", low=0.0)
    longest_unseen: float = setting(3.0, "a track ends after (or after as long as it was seen)", unit="s", low=0.0)
    grow: float = setting(0.4, "how quickly a part's size follows a larger one", low=0.01, high=1.0)
    shrink: float = setting(0.1, "how quickly it follows a smaller one", low=0.01, high=1.0)
    settled_age: float = setting(1.0, "an older part that stands has to leave its place again", unit="s", low=0.0)
    settled_moving: float = setting(0.3, "it stands where it moves less probably", low=0.0, high=1.0)
    longest_gap: float = setting(2.0, "a longer jump in time forgets all tracks", unit="s", low=0.1, high=60.0)
    highest_ego_speed: float = setting(100.0, "a faster change of pose is a new odom frame", unit="m/s", low=1.0)
