"""The cache of compiled engines: whatever happens to it, the answer is right and one line says what was wrong."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from karp_perception.detection.runtime.engine_cache import EngineCache, EngineKey, EngineRejected

KEY = EngineKey(
    "network",
    "0" * 64,
    "tensorrt",
    "10.9.0",
    "NVIDIA L4",
    "8.9",
    "",
    "f16",
    {"images": [1, 3, 3, 48, 96]},
    {"tf32": False},
)
ENGINE = b"an engine, compiled" * 50


class Builder:
    """Builds and counts."""

    def __init__(self, engine: bytes = ENGINE) -> None:
        self.engine, self.built = engine, 0

    def __call__(self) -> bytes:
        self.built += 1
        return self.engine


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    return EngineCache(tmp_path / "engines")


def obtained(cache: EngineCache, build: Callable[[], bytes], *keys: EngineKey) -> bytes:
    return cache.obtain(keys or (KEY,), build, bytes)


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_an_engine_is_built_once(cache: EngineCache, caplog: pytest.LogCaptureFixture) -> None:
    build = Builder()
    assert obtained(cache, build) == ENGINE
    assert obtained(EngineCache(cache.folder), build) == ENGINE
    assert build.built == 1
    assert not lines(caplog)


def test_the_sidecar_says_everything(cache: EngineCache) -> None:
    obtained(cache, Builder())
    (sidecar,) = cache.folder.glob("*.json")
    said = json.loads(sidecar.read_text())
    assert said["key"] == {
        "graph": "network", "onnx": "0" * 64, "backend": "tensorrt", "version": "10.9.0", "device": "NVIDIA L4",
        "compute_capability": "8.9", "driver": "", "precision": "f16", "shapes": {"images": [1, 3, 3, 48, 96]},
        "options": {"tf32": False},
    }  # fmt: skip
    assert said["bytes"] == len(ENGINE)
    assert len(said["sha256"]) == 64
    assert (cache.folder.stat().st_mode & 0o777, sidecar.stat().st_mode & 0o777) == (0o700, 0o600)
    assert not [file for file in cache.folder.iterdir() if file.name.startswith(".") and file.suffix != ".lock"]


CHANGES = {
    "onnx": "1" * 64, "backend": "tensorrt_rtx", "version": "10.10.0", "device": "NVIDIA L40",
    "compute_capability": "9.0", "driver": "13.1",
    "precision": "f32", "shapes": {"images": [1, 6, 3, 48, 96]}, "options": {"tf32": True},
    "graph": "position",
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_every_part_of_the_key_counts(cache: EngineCache, name: str) -> None:
    obtained(cache, Builder())
    other = replace(KEY, **{name: CHANGES[name]})  # type: ignore[arg-type]
    assert other.digest != KEY.digest
    assert obtained(cache, Builder(b"another"), other) == b"another"
    assert obtained(cache, Builder(b"never"), KEY) == ENGINE


def flip_a_byte(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))


def cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-3])


def lose_sidecar(file: Path) -> None:
    file.with_suffix(".json").unlink()


def spoil_sidecar(file: Path) -> None:
    file.with_suffix(".json").write_text("{")


def other_sidecar(file: Path) -> None:
    sidecar = file.with_suffix(".json")
    sidecar.write_text(sidecar.read_text().replace("10.9.0", "10.3.0"))


def other_engine(file: Path) -> None:
    """An engine of another ONNX under this name, whole and with its own description."""
    other = EngineCache(file.parent.parent / "other")
    key = replace(KEY, onnx="f" * 64)
    written = other.store(key, b"foreign")
    assert written is not None
    written.replace(file)
    written.with_suffix(".json").replace(file.with_suffix(".json"))


def open_to_all(file: Path) -> None:
    file.chmod(0o666)


def link(file: Path) -> None:
    elsewhere = file.with_name("elsewhere")
    file.replace(elsewhere)
    file.symlink_to(elsewhere)


def directory(file: Path) -> None:
    file.unlink()
    file.mkdir()


DAMAGES = {
    flip_a_byte: "damaged", cut_short: "damaged", lose_sidecar: "half-written", spoil_sidecar: "no JSON",
    other_sidecar: "of another engine", other_engine: "of another engine", open_to_all: "written by others",
    link: "symbolic links", directory: "not a regular file|directory",
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_what_is_not_right_is_set_aside_and_built_again(
    cache: EngineCache, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], None]
) -> None:
    obtained(cache, Builder(b"the first"))
    (file,) = cache.folder.glob("*.engine")
    damage(file)
    assert obtained(cache, Builder()) == ENGINE
    (line,) = lines(caplog)
    assert "\n" not in line
    assert "it is set aside and built again" in line
    assert re.search(DAMAGES[damage], line), line
    assert obtained(cache, Builder(b"never")) == ENGINE
    assert len(lines(caplog)) == 1
    assert len(list(cache.folder.glob("*.engine.rejected"))) == 1


def test_what_the_library_does_not_take_is_set_aside(cache: EngineCache, caplog: pytest.LogCaptureFixture) -> None:
    obtained(cache, Builder(b"of another day"))

    def load(engine: bytes) -> bytes:
        if engine != ENGINE:
            raise EngineRejected("the library does not load it")
        return engine

    assert cache.obtain((KEY,), Builder(), load) == ENGINE
    (line,) = lines(caplog)
    assert "the library does not load it; it is set aside" in line


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"version": "11.0.0"}, "version 10.9.0 -> 11.0.0"),
        ({"onnx": "a" * 64}, "onnx 000000000000... -> aaaaaaaaaaaa..."),
    ],
)
def test_another_version_and_another_onnx_are_built_anew_with_a_line_that_says_what_changed(
    cache: EngineCache, caplog: pytest.LogCaptureFixture, change: dict[str, str], said: str
) -> None:
    obtained(cache, Builder(b"old"))
    assert obtained(cache, Builder(), replace(KEY, **change)) == ENGINE  # type: ignore[arg-type]
    (line,) = lines(caplog)
    assert "is built anew" in line
    assert said in line


def test_engines_for_several_gpus_and_rigs_live_side_by_side_in_silence(
    cache: EngineCache, caplog: pytest.LogCaptureFixture
) -> None:
    keys = [KEY, replace(KEY, device="NVIDIA L40"), replace(KEY, shapes={"images": [1, 1, 3, 48, 96]})]
    for number, key in enumerate(keys):
        obtained(cache, Builder(bytes([number])), key)
    assert [obtained(cache, Builder(b"never"), key) for key in keys] == [b"\0", b"\1", b"\2"]
    assert not lines(caplog)


def test_the_first_that_is_there_serves_and_a_new_one_is_kept_under_the_first_key(cache: EngineCache) -> None:
    portable = replace(KEY, compute_capability="any")
    cache.store(portable, b"for all")
    assert obtained(cache, Builder(b"never"), KEY, portable) == b"for all"
    other = EngineCache(cache.folder.parent / "empty")
    assert obtained(other, Builder(), KEY, portable) == ENGINE
    assert obtained(other, Builder(b"never"), KEY) == ENGINE


def test_a_folder_that_others_may_write_is_not_used(cache: EngineCache, caplog: pytest.LogCaptureFixture) -> None:
    obtained(cache, Builder(b"smuggled in"))
    cache.folder.chmod(0o777)
    build = Builder()
    assert obtained(cache, build) == ENGINE
    (line,) = lines(caplog)
    assert "can be written by others (mode 777), and an engine is code: chmod go-w" in line
    assert obtained(cache, build) == ENGINE
    assert build.built == 2


def test_a_folder_that_cannot_be_made_is_done_without(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("in the way")
    assert obtained(EngineCache(tmp_path / "file" / "engines"), Builder()) == ENGINE
    (line,) = lines(caplog)
    assert "engines are not kept" in line


ROOT = Path(__file__).parents[1]
SCRIPT = """
import dataclasses, json, logging, os, resource, sys, time
from pathlib import Path
from karp_perception.detection.runtime.engine_cache import EngineCache, EngineKey
logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stdout)
folder, built = Path(sys.argv[1]), []
key = EngineKey("network", "0" * 64, "tensorrt", "10.9.0", "GPU", "8.9", "", "f16", {})
def build():
    built.append(1)
    time.sleep(float(sys.argv[2]))
    return b"engine" * 100_000
"""


def in_a_process(folder: Path, body: str, seconds: float = 0.0) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT + body, str(folder), str(seconds)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


OBTAIN = "print(len(EngineCache(folder).obtain((key,), build, bytes)), len(built))"


def said(process: subprocess.Popen[str]) -> list[str]:
    out, error = process.communicate(timeout=120)
    assert process.returncode == 0, error
    return out.splitlines()


def test_of_two_processes_one_builds_and_the_other_waits_with_a_line(tmp_path: Path) -> None:
    folder = tmp_path / "engines"
    first = in_a_process(folder, "print('ready', flush=True); input; " + OBTAIN, seconds=3.0)
    assert first.stdout is not None
    deadline = time.monotonic() + 60
    while not list(folder.glob(".*.lock")) and time.monotonic() < deadline:
        time.sleep(0.01)
    second = in_a_process(folder, OBTAIN)
    results = [said(process) for process in (first, second)]
    assert results[0][-1] == "600000 1"
    assert results[1][-1] == "600000 0"
    (line,) = results[1][:-1]
    assert line == "another process builds the same tensorrt engine: waiting for it"


def test_one_that_waited_for_a_builder_that_died_builds(tmp_path: Path) -> None:
    folder = tmp_path / "engines"
    first = in_a_process(folder, "build = lambda: (time.sleep(0.5), os._exit(1)); " + OBTAIN)
    deadline = time.monotonic() + 60
    while not list(folder.glob(".*.lock")) and time.monotonic() < deadline:
        time.sleep(0.01)
    second = in_a_process(folder, OBTAIN)
    first.communicate(timeout=60)
    assert said(second)[-1] == "600000 1"
    assert len(list(folder.glob("*.engine"))) == 1


def test_a_full_disk_is_no_obstacle(tmp_path: Path) -> None:
    """No file of this process may become longer than 100 kB: writing the engine stops in its middle."""
    body = "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)); " + OBTAIN
    folder = tmp_path / "engines"
    line, result = said(in_a_process(folder, body))
    assert result == "600000 1"
    assert "the engine cannot be kept in" in line
    assert "it is built at every start" in line
    assert [file.suffix for file in folder.iterdir()] == [".lock"], "nothing half-written stays"


def test_a_folder_that_cannot_be_written_serves_what_it_holds_and_is_no_obstacle(tmp_path: Path) -> None:
    folder = tmp_path / "engines"
    said(in_a_process(folder, OBTAIN))
    user = 65534 if os.geteuid() == 0 else os.geteuid()  # root may write anywhere
    for path in (*folder.iterdir(), folder):
        os.chown(path, user, -1)
    folder.chmod(0o555)
    for parent in tmp_path.parents:
        if parent.stat().st_uid == os.geteuid() and parent != Path("/") and "pytest" in parent.name:
            parent.chmod(0o755)
    tmp_path.chmod(0o755)
    become = f"os.geteuid() == {user} or os.seteuid({user}); "
    try:
        assert said(in_a_process(folder, become + OBTAIN)) == ["600000 0"]
        other = "key = dataclasses.replace(key, precision='f32'); "
        line, result = said(in_a_process(folder, become + other + OBTAIN))
        assert result == "600000 1"
        assert "cannot be kept" in line
        assert "Permission denied" in line
    finally:
        folder.chmod(0o755)


@given(st.binary(max_size=200), st.binary(max_size=200))
@settings(max_examples=30, deadline=None)
def test_whatever_lies_there_the_engine_is_right(engine: bytes, sidecar: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        cache = EngineCache(Path(folder))
        (cache.folder / f"{KEY.name}.engine").write_bytes(engine)
        (cache.folder / f"{KEY.name}.json").write_bytes(sidecar)
        assert obtained(cache, Builder()) == ENGINE


# A real library: OpenVINO compiles, and loads what was kept, on the CPU.


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> object:
    for module in ("openvino", "torch", "onnxscript"):
        pytest.importorskip(module)
    from small_model import small_weights

    from karp_perception.detection.model.weights import find_model
    from karp_perception.detection.runtime.artefacts import Artefacts

    folder = tmp_path_factory.mktemp("model")
    return Artefacts(find_model(str(small_weights(folder))), folder / "onnx").position


def random_inputs(graph: object) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes: dict[str, tuple[int, ...]] = graph.inputs  # type: ignore[attr-defined]
    return {name: rng.random(shape).astype(np.float32) for name, shape in shapes.items()}


def test_openvino_loads_what_it_kept_and_says_the_same_to_the_bit(
    graph: object, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from karp_perception.detection.runtime import openvino
    from karp_perception.detection.runtime.backend import BackendOptions

    kept = BackendOptions(1, "f32", tmp_path / "engines")
    (ahead,) = openvino.compile_ahead(graph, "f32", tmp_path / "engines", ())  # type: ignore[arg-type]
    compiled = openvino.open_backend(graph, BackendOptions(1, "f32")).run(random_inputs(graph))  # type: ignore[arg-type]
    (file,) = (tmp_path / "engines").glob("*.engine")
    assert file == ahead
    with monkeypatch.context() as nothing_compiles:
        nothing_compiles.setattr(openvino, "_compiled", None)
        loaded = openvino.open_backend(graph, kept).run(random_inputs(graph))  # type: ignore[arg-type]
    for name, value in compiled.items():
        np.testing.assert_array_equal(loaded[name], value)
    assert not lines(caplog)
    for damage in (flip_a_byte, cut_short, lose_sidecar):
        damage(file)
        again = openvino.open_backend(graph, kept).run(random_inputs(graph))  # type: ignore[arg-type]
        np.testing.assert_array_equal(again["image_ray"], compiled["image_ray"])
    assert len(lines(caplog)) == 3


def test_openvino_refuses_a_foreign_blob_and_another_one_is_made(
    graph: object, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whole, with the right description, and no engine at all: only the library itself can tell."""
    from karp_perception.detection.runtime import openvino
    from karp_perception.detection.runtime.backend import BackendOptions

    kept = BackendOptions(1, "f32", tmp_path / "engines")
    file, properties = openvino._plan(graph, kept)  # type: ignore[arg-type]
    EngineCache(kept.engines).store(openvino._key(graph, file, "f32", properties), b"no blob" * 1000)  # type: ignore[arg-type]
    outputs = openvino.open_backend(graph, kept).run(random_inputs(graph))  # type: ignore[arg-type]
    assert np.isfinite(outputs["image_ray"]).all()
    (line,) = lines(caplog)
    assert "openvino does not load it" in line
