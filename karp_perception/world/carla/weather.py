"""Weather -> carla.WeatherParameters."""

from __future__ import annotations

import math
from typing import Any

from karp_perception.world.sensors.weather import Weather

_FULL_RAIN = 50.0  # mm/h, a cloudburst: CARLA's precipitation of 100
_CLEAR = 20000.0  # m of visibility from which on CARLA gets no fog
_DENSEST = 50.0  # m of visibility at which its fog density is 100


def weather_to_carla(carla: Any, weather: Weather) -> Any:
    """CARLA's percentages for rates and ranges of ours.

    Rain grows with the square root of its rate (what one sees of it does), fog with the logarithm of visibility. CARLA
    counts the sun's azimuth in degrees clockwise seen from above, as its yaw.
    """
    shown = math.log(_CLEAR / min(max(weather.visibility, _DENSEST), _CLEAR)) / math.log(_CLEAR / _DENSEST)
    wet = 100.0 * max(weather.wetness, min(weather.rain / _FULL_RAIN, 1.0))
    parameters = carla.WeatherParameters()
    parameters.sun_azimuth_angle = math.degrees(-weather.sun_azimuth) % 360.0
    parameters.sun_altitude_angle = math.degrees(weather.sun_elevation)
    parameters.cloudiness = 100.0 * weather.cloudiness
    parameters.precipitation = 100.0 * math.sqrt(min(weather.rain / _FULL_RAIN, 1.0))
    parameters.precipitation_deposits = wet
    parameters.wetness = wet
    parameters.fog_density = 100.0 * shown
    parameters.fog_distance = 0.0
    return parameters
