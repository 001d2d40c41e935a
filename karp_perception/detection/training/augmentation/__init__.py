"""Augmentation: frames made into others that could have been recorded, with all of their sensors consistent."""

from karp_perception.detection.training.augmentation.augment import augment
from karp_perception.detection.training.augmentation.cameras import shrunk
from karp_perception.detection.training.augmentation.paste_bank import PasteBank
from karp_perception.detection.training.augmentation.sensor_dropout import drop_sensors
from karp_perception.detection.training.augmentation.settings import AugmentationSettings

__all__ = ["AugmentationSettings", "PasteBank", "augment", "drop_sensors", "shrunk"]
