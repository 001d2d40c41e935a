"""The transform buffer, against chains computed with scipy's Rotation and Slerp."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation, Slerp

from karp_perception.core.errors import InvalidInput, MissingTransform
from karp_perception.sensing.transforms import TransformBuffer

S = 1_000_000_000


def pose(rng: np.random.Generator) -> np.ndarray:
    T = np.eye(4)
    T[:3, :3] = Rotation.random(random_state=rng).as_matrix()
    T[:3, 3] = rng.normal(size=3) * 5
    return T


def message(*transforms: tuple[str, str, tuple[float, ...], tuple[float, ...], int]) -> SimpleNamespace:
    """A TFMessage look-alike from (parent, child, translation, quaternion, stamp_ns)."""
    out = []
    for parent, child, t, q, stamp in transforms:
        header = SimpleNamespace(frame_id=parent, stamp=SimpleNamespace(sec=stamp // S, nanosec=stamp % S))
        transform = SimpleNamespace(
            translation=SimpleNamespace(x=t[0], y=t[1], z=t[2]),
            rotation=SimpleNamespace(x=q[0], y=q[1], z=q[2], w=q[3]),
        )
        out.append(SimpleNamespace(header=header, child_frame_id=child, transform=transform))
    return SimpleNamespace(transforms=out)


def test_static_chain_up_and_down_the_tree_equals_the_matrix_product():
    rng = np.random.default_rng(1)
    buffer = TransformBuffer()
    T_base_rack, T_rack_camera, T_base_lidar = pose(rng), pose(rng), pose(rng)
    buffer.set("base_link", "rack", T_base_rack, None, static=True)
    buffer.set("/rack", "camera", T_rack_camera, None, static=True)
    buffer.set("base_link", "/lidar", T_base_lidar, None, static=True)
    expected = np.linalg.inv(T_base_lidar) @ T_base_rack @ T_rack_camera
    np.testing.assert_allclose(buffer.lookup("lidar", "camera", 123), expected, atol=1e-12)
    np.testing.assert_allclose(buffer.lookup("camera", "/lidar", 0), np.linalg.inv(expected), atol=1e-12)
    np.testing.assert_array_equal(buffer.lookup("camera", "camera", 5), np.eye(4))
    assert buffer.lookup("lidar", "camera", 1) is buffer.lookup("lidar", "camera", 2)  # computed once
    assert buffer.frames() == ["base_link", "camera", "lidar", "rack"]


def test_a_changed_static_transform_replaces_the_remembered_chain():
    rng = np.random.default_rng(2)
    buffer = TransformBuffer()
    buffer.set("a", "b", pose(rng), None, static=True)
    buffer.set("b", "c", np.eye(4), None, static=True)
    buffer.lookup("a", "c", 0)
    T = pose(rng)
    buffer.set("a", "b", T, None, static=True)
    np.testing.assert_allclose(buffer.lookup("a", "c", 0), T)


@settings(max_examples=40, deadline=None)
@given(order=st.permutations(range(8)), at=st.floats(0, 7), seed=st.integers(0, 1000))
def test_moving_chain_in_any_order_of_arrival_equals_scipy_slerp(order, at, seed):
    """odom -> base moves, base -> mast is static, mast -> camera moves; asked between the samples."""
    rng = np.random.default_rng(seed)
    buffer = TransformBuffer()
    times = np.arange(8)
    T_odom_base, T_mast_camera = [pose(rng) for _ in times], [pose(rng) for _ in times]
    T_base_mast = pose(rng)
    buffer.set("base", "mast", T_base_mast, None, static=True)
    for i in order:
        buffer.set("odom", "base", T_odom_base[i], S + i * S, static=False)
        buffer.set("mast", "camera", T_mast_camera[i], S + i * S)
    stamp = S + round(at * S)

    def reference(poses: list[np.ndarray]) -> np.ndarray:
        T = np.eye(4)
        rotations = Rotation.from_matrix([p[:3, :3] for p in poses])
        when = (stamp - S) / S
        T[:3, :3] = Slerp(times, rotations)(when).as_matrix()
        T[:3, 3] = [np.interp(when, times, [p[i, 3] for p in poses]) for i in range(3)]
        return T

    expected = reference(T_odom_base) @ T_base_mast @ reference(T_mast_camera)
    np.testing.assert_allclose(buffer.lookup("odom", "camera", stamp), expected, atol=1e-6)
    np.testing.assert_allclose(buffer.lookup("camera", "odom", stamp), np.linalg.inv(expected), atol=1e-6)


def test_a_time_outside_of_what_is_known_is_refused_with_the_known_range():
    buffer = TransformBuffer()
    for i in range(3):
        buffer.set("odom", "base", np.eye(4), 10 * S + i * S)
    buffer.lookup("odom", "base", 12 * S)
    with pytest.raises(MissingTransform) as error:
        buffer.lookup("odom", "base", 12 * S + 1_000_000)  # 1 ms too late is too late
    text = str(error.value)
    for part in (
        "'base'",
        "'odom'",
        "12.001000000",
        "from 10.000000000 to 12.000000000",
        "0.001 s after",
        "base, odom",
    ):
        assert part in text
    with pytest.raises(MissingTransform, match="before its oldest"):
        buffer.lookup("odom", "base", 9 * S + S // 2)


def test_unknown_frames_and_unjoined_trees_are_named():
    buffer = TransformBuffer()
    with pytest.raises(MissingTransform, match="known frames: none"):
        buffer.lookup("base_link", "velodyne", 0)
    buffer.set("base_link", "velodyne", np.eye(4), None, static=True)
    buffer.set("map", "camera", np.eye(4), None, static=True)
    with pytest.raises(
        MissingTransform, match="'radar' was never published; known frames: base_link, camera, map, vel"
    ):
        buffer.lookup("base_link", "radar", 0)
    with pytest.raises(
        MissingTransform, match=r"two trees that are not joined, \{base_link, velodyne\} and \{camera, map\}"
    ):
        buffer.lookup("base_link", "camera", 0)
    assert buffer.joined("velodyne", "base_link")
    assert not buffer.joined("velodyne", "camera")


def test_history_is_bounded_behind_the_newest():
    buffer = TransformBuffer(history_s=2.0)
    for i in range(100):
        T = np.eye(4)
        T[0, 3] = i
        buffer.set("odom", "base", T, S + i * S // 10)
    newest = S + 99 * S // 10
    assert buffer.lookup("odom", "base", newest - 2 * S)[0, 3] == 79
    with pytest.raises(MissingTransform):
        buffer.lookup("odom", "base", newest - 2 * S - S // 20)


def test_a_jump_back_beyond_the_history_starts_anew():
    buffer = TransformBuffer(history_s=2.0)
    for stamp in (100, 101, 3, 4):
        buffer.set("odom", "base", np.eye(4), stamp * S)
    buffer.lookup("odom", "base", 3 * S + S // 2)
    with pytest.raises(MissingTransform):
        buffer.lookup("odom", "base", 50 * S)
    buffer.clear()
    assert buffer.frames() == []


def test_latest_is_the_newest_time_that_all_moving_transforms_know():
    buffer = TransformBuffer()
    for i in range(5):
        T = np.eye(4)
        T[0, 3] = i
        buffer.set("map", "odom", T, i * S)
        if i < 4:
            buffer.set("odom", "base", np.eye(4), i * S)
    assert buffer.latest("map", "base")[0, 3] == 3
    assert buffer.latest("map", "odom")[0, 3] == 4


def test_a_new_parent_takes_the_frame_away_from_the_old_one():
    buffer = TransformBuffer()
    buffer.set("base_footprint", "base_link", np.eye(4), 1 * S)
    T = np.eye(4)
    T[2, 3] = 0.4
    buffer.set("odom", "base_link", T, 2 * S)
    assert buffer.lookup("odom", "base_link", 2 * S)[2, 3] == 0.4
    with pytest.raises(MissingTransform, match="never published"):
        buffer.lookup("base_footprint", "base_link", 1 * S)


def test_a_loop_is_refused_and_the_tree_stays():
    buffer = TransformBuffer()
    buffer.set("a", "b", np.eye(4), None, static=True)
    buffer.set("b", "c", np.eye(4), None, static=True)
    with pytest.raises(InvalidInput, match="a -> b -> c -> a") as error:
        buffer.set("c", "a", np.eye(4), None, static=True)
    assert error.value.reason == "transform_loop"
    np.testing.assert_array_equal(buffer.lookup("a", "c", 0), np.eye(4))


def test_the_last_of_static_and_moving_holds():
    buffer = TransformBuffer()
    buffer.set("a", "b", np.eye(4), None, static=True)
    buffer.lookup("a", "b", 77 * S)
    buffer.set("a", "b", np.eye(4), 5 * S)
    with pytest.raises(MissingTransform):
        buffer.lookup("a", "b", 77 * S)


GOOD = ("base_link", "lidar", (1.0, 2.0, 3.0), (0.0, 0.0, 0.0, 1.0), 5 * S)


@pytest.mark.parametrize(
    "bad",
    [
        ("base_link", "camera", (0, 0, 0), (0, 0, 0, 0), 5 * S),
        ("base_link", "camera", (0, 0, 0), (0, 0, 0, 0.5), 5 * S),
        ("base_link", "camera", (float("nan"), 0, 0), (0, 0, 0, 1), 5 * S),
        ("base_link", "camera", (0, 0, 0), (0, 0, float("nan"), 1), 5 * S),
        ("base_link", "camera", (0, float("inf"), 0), (0, 0, 0, 1), 5 * S),
        ("", "camera", (0, 0, 0), (0, 0, 0, 1), 5 * S),
        ("base_link", "/", (0, 0, 0), (0, 0, 0, 1), 5 * S),
        ("camera", "camera", (0, 0, 0), (0, 0, 0, 1), 5 * S),
        ("base_link", "camera", (0, 0, 0), (0, 0, 0, 1), -5 * S),
    ],
)
def test_a_malformed_transform_is_reported_after_the_good_ones_were_taken(bad):
    buffer = TransformBuffer()
    with pytest.raises(InvalidInput) as error:
        buffer.add_message(message(bad, GOOD), static=False)
    assert error.value.reason == "malformed_transform"
    np.testing.assert_allclose(buffer.lookup("base_link", "lidar", 5 * S)[:3, 3], (1, 2, 3))
    assert "camera" not in buffer.frames()


def test_a_message_quaternion_is_read_as_scipy_reads_it():
    q = Rotation.from_euler("zyx", (0.3, -0.2, 0.1)).as_quat()
    buffer = TransformBuffer()
    buffer.add_message(message(("a", "b", (0, 0, 0), tuple(q * 1.001), 0)), static=True)  # slightly off is normalised
    np.testing.assert_allclose(buffer.lookup("a", "b", 9)[:3, :3], Rotation.from_quat(q).as_matrix(), atol=1e-9)


@pytest.mark.parametrize("T", [np.zeros((4, 4)), np.eye(3), np.full((4, 4), np.nan), np.diag([1.0, 1.0, -1.0, 1.0])])
def test_a_matrix_that_is_no_pose_is_refused(T):
    with pytest.raises(InvalidInput) as error:
        TransformBuffer().set("a", "b", T, None, static=True)
    assert error.value.reason == "malformed_transform"


def test_a_lookup_can_wait_for_a_transform_that_another_thread_delivers():
    buffer = TransformBuffer()
    timer = threading.Timer(0.05, lambda: buffer.set("odom", "base", np.eye(4), 7 * S))
    timer.start()
    np.testing.assert_array_equal(buffer.lookup("odom", "base", 7 * S, timeout_s=5.0), np.eye(4))
    timer.join()
    with pytest.raises(MissingTransform):
        buffer.lookup("odom", "base", 8 * S, timeout_s=0.01)


def test_readers_and_writers_in_threads_see_whole_states():
    """x and y of the published pose are always equal; a torn read would show a difference."""
    buffer = TransformBuffer(history_s=1.0)
    failures: list[str] = []
    stop = threading.Event()

    def write() -> None:
        for i in range(3000):
            T = np.eye(4)
            T[:2, 3] = i
            buffer.set("odom", "base", T, S + i * 1_000_000)
        stop.set()

    def read() -> None:
        while not stop.is_set():
            try:
                x, y = buffer.latest("odom", "base")[:2, 3]
            except MissingTransform:
                continue
            if x != y:
                failures.append(f"{x} != {y}")

    threads = [threading.Thread(target=f) for f in (write, read, read)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures


def test_describe_draws_the_trees():
    buffer = TransformBuffer()
    assert buffer.describe() == "no transforms"
    buffer.set("odom", "base_link", np.eye(4), 2 * S)
    buffer.set("base_link", "velodyne", np.eye(4), None, static=True)
    assert buffer.describe() == ("odom\n  base_link (from 2.000000000 to 2.000000000)\n    velodyne (static)")
