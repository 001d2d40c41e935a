"""A frame of a world as a folder that `sensing.labelled_frame` reads, with what only a world knows beside it."""

from __future__ import annotations

from pathlib import Path

from karp_perception.core import SensorFrame
from karp_perception.sensing.frame_folder_writer import rounded, write_labelled_frame
from karp_perception.world.interface import Truth
from karp_perception.world.world_frames import labelled

SOURCE = "karp_perception, embedded world"


def write_frame(folder: Path, sensors: SensorFrame, truth: Truth) -> None:
    """Write a frame into an existing folder.

    Boxes are those of `truth`, hidden ones included: `visibility` and `points_inside` tell what can be seen of each.
    """
    more = {
        "lights": [
            {"number": light.number, "color": light.color.value, "stop": rounded(light.stop)} for light in truth.lights
        ],
        "lanes": [rounded(lane) for lane in truth.lanes],
    }
    write_labelled_frame(folder, labelled(sensors, truth), SOURCE, more)
