"""Which topics are taken, for the names that drivers, bridges and data sets use."""

from __future__ import annotations

import pytest

from karp_perception.sensing.bags import Topic
from karp_perception.sensing.topics import (
    CAMERA_INFO,
    COMPRESSED,
    IMAGE,
    ODOMETRY,
    PATH,
    POINTS,
    TRANSFORMS,
    find_inputs,
)

KINDS = {"i": IMAGE, "c": COMPRESSED, "k": CAMERA_INFO, "p": POINTS, "o": ODOMETRY, "r": PATH, "t": TRANSFORMS}


def topics(*entries: str) -> list[Topic]:
    """`i /camera/image_raw 10`: kind, name and optional count."""
    out = []
    for entry in entries:
        kind, name, *count = entry.split()
        out.append(Topic(name, KINDS[kind], int(count[0]) if count else 10))
    return out


def cameras(*entries: str) -> dict[str, tuple[str, str | None]]:
    return {name: (c.image, c.camera_info) for name, c in find_inputs(topics(*entries)).cameras.items()}


def test_a_recorded_drive_with_a_rectified_compressed_camera():
    inputs = find_inputs(
        topics(
            "c /camera/front/image_rect/compressed", "k /camera/front/camera_info", "p /lidar/points", "t /tf_static"
        )
    )
    camera = inputs.cameras["front"]
    assert (camera.image, camera.camera_info) == ("/camera/front/image_rect/compressed", "/camera/front/camera_info")
    assert camera.compressed
    assert camera.rectified
    assert (inputs.points, inputs.odometry, inputs.route, inputs.transforms) == (
        "/lidar/points",
        None,
        None,
        ("/tf_static",),
    )
    assert inputs.all_topics() == [
        "/camera/front/camera_info", "/camera/front/image_rect/compressed", "/lidar/points", "/tf_static",
    ]  # fmt: skip


def test_nuscenes_bags():
    entries = [
        f"{k} /CAM_{side}/{name}"
        for side in ("FRONT", "BACK_LEFT")
        for k, name in (("c", "image_rect_compressed"), ("k", "camera_info"))
    ]
    assert cameras(*entries) == {
        "cam_front": ("/CAM_FRONT/image_rect_compressed", "/CAM_FRONT/camera_info"),
        "cam_back_left": ("/CAM_BACK_LEFT/image_rect_compressed", "/CAM_BACK_LEFT/camera_info"),
    }
    assert find_inputs(topics("p /LIDAR_TOP", "p /RADAR_FRONT 99", "p /RADAR_BACK_LEFT 99")).points == "/LIDAR_TOP"


def test_the_carla_bridge():
    inputs = find_inputs(
        topics(
            "i /carla/ego_vehicle/rgb_front/image",
            "k /carla/ego_vehicle/rgb_front/camera_info",
            "i /carla/ego_vehicle/depth_front/image",
            "i /carla/ego_vehicle/semantic_segmentation_front/image",
            "p /carla/ego_vehicle/lidar",
            "p /carla/ego_vehicle/radar_front",
            "o /carla/ego_vehicle/odometry",
        )
    )
    assert {n: c.camera_info for n, c in inputs.cameras.items()} == {
        "rgb_front": "/carla/ego_vehicle/rgb_front/camera_info"
    }
    assert (inputs.points, inputs.odometry) == ("/carla/ego_vehicle/lidar", "/carla/ego_vehicle/odometry")


def test_a_stereo_camera_with_raw_and_compressed_images_takes_the_raw_ones():
    assert cameras(
        "i /zed/left/image_raw", "c /zed/left/image_raw/compressed", "k /zed/left/camera_info",
        "i /zed/right/image_raw", "k /zed/right/camera_info", "i /zed/depth/image_raw",
    ) == {
        "left": ("/zed/left/image_raw", "/zed/left/camera_info"),
        "right": ("/zed/right/image_raw", "/zed/right/camera_info"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("entries", "chosen"),
    [
        (("i /c/image_raw 100", "i /c/image_rect 100"), "/c/image_rect"),
        (("i /c/image_rect 3", "c /c/image_raw/compressed 100"), "/c/image_raw/compressed"),
        (("i /c/image_mono 100", "i /c/image_color 100"), "/c/image_color"),
        (("i /c/image_raw 0", "c /c/image_raw/compressed 100"), "/c/image_raw/compressed"),
        (("i /c/image_raw 95", "c /c/image_raw/compressed 100"), "/c/image_raw"),
    ],
)
def test_which_of_several_images_of_one_camera_is_taken(entries, chosen):
    assert [image for image, _ in cameras(*entries).values()] == [chosen]


@pytest.mark.parametrize(
    ("image", "info"),
    [
        ("/camera/image_raw", "/camera/camera_info"),
        ("/image_raw", "/camera_info"),
        ("/front_camera", "/front_camera/camera_info"),
        ("/cam0/image_raw", "/cam0/image_raw/camera_info"),
        ("/hero/front/image", "/hero/front/camera_info"),
        ("/images/front", "/camera_info/front"),
        ("/realsense/color/image_raw", "/realsense/color/camera_info"),
    ],
)
def test_camera_info_is_found_where_drivers_put_it(image, info):
    others = ("i /rear/image_raw", "k /rear/camera_info")
    assert (image, info) in cameras(f"i {image}", f"k {info}", *others).values()


def test_a_camera_without_camera_info_does_not_take_that_of_another():
    found = cameras("i /a/image_raw", "i /b/image_raw", "k /a/camera_info")
    assert found == {"a": ("/a/image_raw", "/a/camera_info"), "b": ("/b/image_raw", None)}


def test_names_tell_cameras_apart_and_fit_ros_parameters():
    assert sorted(cameras("i /left/front/image", "i /right/front/image")) == ["left_front", "right_front"]
    assert sorted(cameras("i /camera/image_raw")) == ["camera"]
    assert sorted(cameras("i /lidar/image")) == ["lidar_camera"]
    assert sorted(cameras("i /Cam-1/image", "i /cam.2/image")) == ["cam_1", "cam_2"]
    assert sorted(cameras("i /sensing/camera/camera0/image_raw", "i /sensing/camera/camera1/image_raw")) == [
        "camera0",
        "camera1",
    ]


@pytest.mark.parametrize(
    ("entries", "chosen"),
    [
        (("p /lidar/top/points 10", "p /lidar/concatenated/points 9"), "/lidar/concatenated/points"),
        (("p /lidar/left/points 10", "p /lidar/top/points 10"), "/lidar/top/points"),
        (("p /velodyne_points 10", "p /camera/depth/points 100"), "/velodyne_points"),
        (("p /points_a 10", "p /points_b 20"), "/points_b"),
        (("p /lidar/points 0", "p /ouster/points 5"), "/ouster/points"),
        (("p /lidar/points_obstacle 10", "p /lidar/points 10"), "/lidar/points"),
        (("p /radar/points 10",), None),
    ],
)
def test_which_cloud_is_the_lidar(entries, chosen):
    inputs = find_inputs(topics(*entries))
    assert inputs.points == chosen
    assert chosen is None or len(inputs.other_points) == len(entries) - 1


def test_odometry_and_route():
    inputs = find_inputs(
        topics("o /gps/odom 99", "o /odometry/filtered", "o /wheel/odom 50", "r /plan", "r /mission/route")
    )
    assert (inputs.odometry, inputs.route) == ("/odometry/filtered", "/mission/route")


def test_nothing_is_found_where_there_is_nothing():
    inputs = find_inputs([Topic("/chatter", "std_msgs/msg/String", 3)])
    assert (inputs.points, dict(inputs.cameras), inputs.odometry, inputs.all_topics()) == (None, {}, None, [])
