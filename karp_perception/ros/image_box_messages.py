"""ImageBoxes -> vision_msgs/Detection2DArray.

Each detection has one entry in `results`: the class's name and score, no pose. `bbox.center` is in pixels, of which
whole numbers are the middles, `theta` 0.
"""

from __future__ import annotations

import numpy as np

from karp_perception.core import class_name
from karp_perception.core.image_boxes import ImageBoxes
from karp_perception.ros.cdr import Cdr, header_bytes, rows

_W = 7  # of the quaternion, behind score, position and the other three


def image_detections_bytes(boxes: ImageBoxes, stamp_ns: int, frame: str) -> bytes:
    """Serialised vision_msgs/Detection2DArray.

    Args:
        boxes: of one image.
        stamp_ns: of the image.
        frame: the camera's optical frame.
    """
    n = len(boxes)
    header = header_bytes(stamp_ns, frame)
    entry = np.zeros((n, 1 + 7 + 36))  # score, pose, covariance
    entry[:, 0], entry[:, _W] = boxes.score, 1.0
    center = 0.5 * (boxes.corners[:, :2] + boxes.corners[:, 2:])
    entries, bounds = rows(entry), rows(np.column_stack([center, np.zeros(n), boxes.size]))
    cdr = Cdr()
    cdr.aligned(4, header)
    cdr.put("I", n)
    for i in range(n):
        cdr.aligned(4, header)
        cdr.put("I", 1)
        cdr.string(class_name(int(boxes.label[i])))
        cdr.aligned(8, entries[i])
        cdr.aligned(8, bounds[i])
        cdr.string("")
    return cdr.message()
