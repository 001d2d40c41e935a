"""What a tracker would say of a drive: the truth with errors that last, and velocities that come late."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.signal import lfilter

from karp_perception.core import ObjectClass
from karp_perception.core.settings import Settings, setting
from karp_perception.world.traffic_drives import TrafficDrive


@dataclass(frozen=True)
class PerceptionErrors(Settings):
    """Standard deviations of what a tracker says, and how long an error lasts."""

    position: float = setting(0.12, "of the middle, each way", unit="m", low=0.0, high=5.0)
    speed: float = setting(0.3, "of the velocity, each way", unit="m/s", low=0.0, high=5.0)
    pedestrian_speed: float = setting(0.15, "the same of pedestrians", unit="m/s", low=0.0, high=5.0)
    yaw: float = setting(0.05, "of the yaw", unit="rad", low=0.0, high=1.5)
    pedestrian_yaw: float = setting(0.2, "the same of pedestrians", unit="rad", low=0.0, high=1.5)
    lasting: float = setting(0.5, "time constant of errors", unit="s", low=0.01, high=10.0)
    late: float = setting(0.2, "by which velocities come behind", unit="s", low=0.0, high=2.0)

    def scaled(self, factor: float) -> PerceptionErrors:
        """Errors so many times as large; velocities come no later."""
        names = ("position", "speed", "pedestrian_speed", "yaw", "pedestrian_yaw")
        return replace(self, **{name: factor * getattr(self, name) for name in names})


def perceived(drive: TrafficDrive, errors: PerceptionErrors, seed: int) -> TrafficDrive:
    """The drive as it would be told; what is there and what it is stays true."""
    rng = np.random.default_rng([seed, 11])
    walks = drive.label == ObjectClass.PEDESTRIAN
    keep = float(np.exp(-drive.step / errors.lasting))
    shape = drive.yaw.shape

    def noise(deviation: float | np.ndarray) -> np.ndarray:
        white = rng.normal(size=shape) * np.sqrt(1 - keep**2)
        white[0] /= np.sqrt(1 - keep**2)
        return deviation * lfilter([1.0], [1.0, -keep], white, axis=0)

    position = drive.position + np.stack([noise(errors.position), noise(errors.position)], axis=-1)
    late = float(np.exp(-drive.step / errors.late)) if errors.late > 0 else 0.0
    behind = drive.velocity.copy()
    for t in range(1, len(behind)):
        before = drive.present[t - 1, :, None] & drive.present[t, :, None]
        behind[t] = np.where(before, late * behind[t - 1] + (1 - late) * drive.velocity[t], drive.velocity[t])
    deviation = np.where(walks, errors.pedestrian_speed, errors.speed)
    # What stands is known to: a tracker decides between standing and moving.
    moves = np.hypot(behind[..., 0], behind[..., 1]) > 0.1
    velocity = behind + moves[..., None] * np.stack([noise(deviation), noise(deviation)], axis=-1)
    yaw = drive.yaw + noise(np.where(walks, errors.pedestrian_yaw, errors.yaw))
    return replace(drive, position=position, velocity=velocity, yaw=yaw)
