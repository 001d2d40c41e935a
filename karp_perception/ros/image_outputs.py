"""What was found in the images, a topic a camera: only where a detector looks at images first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from karp_perception.core import SensorFrame
from karp_perception.detection.lifted_detector import LiftedDetector
from karp_perception.ros.image_box_messages import image_detections_bytes

if TYPE_CHECKING:
    from karp_perception.pipeline import Detecting
    from karp_perception.ros.node import PerceptionNode
    from karp_perception.sensing.assembler import FrameAssembler


class ImageOutputs:
    """`~/output/image_detections0..N`, in the order of `~/input/image0..N`, each in its camera's frame and time."""

    def __init__(self, node: PerceptionNode, detector: LiftedDetector, assembler: FrameAssembler) -> None:
        self._detector, self._assembler = detector, assembler
        kind = "vision_msgs/msg/Detection2DArray"
        self._publishers: dict[str, Any] = {
            name: node.publisher(kind, f"~/output/image_detections{i}")
            for i, name in enumerate(node.node_settings.camera_names)
        }

    @classmethod
    def of(cls, node: PerceptionNode, detector: Detecting, assembler: FrameAssembler) -> ImageOutputs | None:
        """The publishers; None for a detector that finds objects in space at once."""
        return cls(node, detector, assembler) if isinstance(detector, LiftedDetector) else None

    def publish(self, frame: SensorFrame) -> None:
        """What the detector found in the images of the frame that it was given last, which is this one."""
        for name, boxes in self._detector.image_boxes.items():
            camera, publisher = frame.cameras.get(name), self._publishers.get(name)
            if camera is not None and publisher is not None and publisher.get_subscription_count():
                optical = self._assembler.camera_frames[name]
                publisher.publish(image_detections_bytes(boxes, camera.stamp_ns, optical))
