"""The categories of COCO, which most 2D detectors know, in both numberings that are in use.

COCO's own category ids run from 1 to 90 with ten gaps; networks of the DETR line have an output for each id ("coco91",
0 stands for nothing). Others number the 80 categories that exist without gaps ("coco80"). Which of ours a name stands
for is said in `core.classes`.
"""

from __future__ import annotations

_NAMES = [
    "person",
    "bicycle",
    "car",
    "motorcycle",
    "airplane",
    "bus",
    "train",
    "truck",
    "boat",
    "traffic_light",
    "fire_hydrant",
    "stop_sign",
    "parking_meter",
    "bench",
    "bird",
    "cat",
    "dog",
    "horse",
    "sheep",
    "cow",
    "elephant",
    "bear",
    "zebra",
    "giraffe",
    "backpack",
    "umbrella",
    "handbag",
    "tie",
    "suitcase",
    "frisbee",
    "skis",
    "snowboard",
    "sports_ball",
    "kite",
    "baseball_bat",
    "baseball_glove",
    "skateboard",
    "surfboard",
    "tennis_racket",
    "bottle",
    "wine_glass",
    "cup",
    "fork",
    "knife",
    "spoon",
    "bowl",
    "banana",
    "apple",
    "sandwich",
    "orange",
    "broccoli",
    "carrot",
    "hot_dog",
    "pizza",
    "donut",
    "cake",
    "chair",
    "couch",
    "potted_plant",
    "bed",
    "dining_table",
    "toilet",
    "tv",
    "laptop",
    "mouse",
    "remote",
    "keyboard",
    "cell_phone",
    "microwave",
    "oven",
    "toaster",
    "sink",
    "refrigerator",
    "book",
    "clock",
    "vase",
    "scissors",
    "teddy_bear",
    "hair_drier",
    "toothbrush",
]
_GAPS = frozenset({12, 26, 29, 30, 45, 66, 68, 69, 71, 83})
_IDS = tuple(number for number in range(1, 91) if number not in _GAPS)

COCO_80: tuple[str, ...] = tuple(_NAMES)
"""Names by number, without gaps."""

COCO_91: tuple[str, ...] = tuple(dict(zip(_IDS, _NAMES, strict=True)).get(number, "") for number in range(91))
"""Names by COCO's category id; empty where there is none."""

NUMBERINGS = {"coco80": COCO_80, "coco91": COCO_91}
