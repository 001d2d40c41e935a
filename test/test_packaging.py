"""The package installs by pip as a whole, its declarations agree with its code, and the set-up does what it says."""

from __future__ import annotations

import ast
import importlib.util
import os
import shutil
import stat
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import karp_perception
from karp_perception.core.errors import ConfigurationError
from karp_perception.core.resources import find_root, resource, resource_root

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
NODES = {"detector", "tracker", "planner", "stack", "player", "recorder", "world"}
ROS_ONLY = {"rclpy", "torch", "tensorrt"}


def requirements(name: str) -> list[Requirement]:
    lines = [line.split("#")[0].strip() for line in (ROOT / "requirements" / name).read_text().splitlines()]
    return [Requirement(line) for line in lines if line]


def applies(requirement: Requirement, python: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"python_version": python})


def key(requirement: Requirement) -> str:
    return requirement.name.lower().replace("_", "-")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory) -> Path:
    """The package's wheel, built from a copy so that nothing is left in the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git checkout: the list of the package's files comes from git")
    for name in filter(None, listed.stdout.decode().split("\0")):
        source, target = ROOT / name, folder / "source" / name
        if source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", folder]
    subprocess.run([*pip, folder / "source"], check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="session")
def installed(wheel, tmp_path_factory) -> Path:
    """A prefix with the wheel installed and nothing else."""
    prefix = tmp_path_factory.mktemp("prefix")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--ignore-installed"]
    subprocess.run([*pip, "--prefix", prefix, wheel], check=True, capture_output=True)
    return prefix


def test_the_wheel_holds_every_module_and_every_shared_file(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        data = f"karp_perception-{karp_perception.__version__}.data/data"
        package = ROOT / "karp_perception"
        modules = {str(path.relative_to(ROOT)) for end in ("py", "yaml") for path in package.rglob(f"*.{end}")}
        assert modules <= names
        for folder in ("launch", "config", "models"):
            files = [p for p in (ROOT / folder).rglob("*") if p.is_file() and "__pycache__" not in p.parts]
            assert {f"{data}/share/karp_perception/{path.relative_to(ROOT)}" for path in files} <= names
        assert f"{data}/share/karp_perception/package.xml" in names
        assert f"{data}/share/ament_index/resource_index/packages/karp_perception" in names
        nodes = {name.rsplit("/", 1)[1] for name in names if name.startswith(f"{data}/lib/karp_perception/")}
        assert nodes == NODES
        (entry_points,) = [name for name in names if name.endswith("entry_points.txt")]
        assert archive.read(entry_points).decode().split() == [
            "[console_scripts]",
            "karp",
            "=",
            "karp_perception.cli:main",
        ]


def test_an_installed_package_finds_its_resources_and_puts_only_karp_on_the_path(installed):
    assert [path.name for path in (installed / "bin").iterdir()] == ["karp"]
    (site_packages,) = installed.glob("lib/python*/site-packages")
    program = (
        "from karp_perception.core.resources import resource, resource_root\n"
        "import karp_perception; print(karp_perception.__file__)\n"
        "print(resource_root()); print(resource('package.xml'))"
    )
    environment = {**os.environ, "PYTHONPATH": str(site_packages)}
    answer = subprocess.run(
        [sys.executable, "-c", program], cwd=installed, env=environment, capture_output=True, text=True, check=True
    )
    share = installed / "share" / "karp_perception"
    assert answer.stdout.split() == [
        str(site_packages / "karp_perception" / "__init__.py"),
        str(share),
        str(share / "package.xml"),
    ]


def test_a_node_executable_runs_the_module_of_its_name_with_the_python_of_its_prefix(installed, tmp_path):
    prefix = tmp_path / "prefix"
    shutil.copytree(installed / "lib" / "karp_perception", prefix / "lib" / "karp_perception")
    module = prefix / "modules" / "karp_perception" / "ros" / "tracker_node.py"
    module.parent.mkdir(parents=True)
    (module.parents[1] / "__init__.py").touch()
    (module.parent / "__init__.py").touch()
    module.write_text("import sys\ndef main():\n    print(sys.executable, sys.argv[1:])\n    return 7\n")
    python = prefix / "bin" / "python3"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nPYTHONPATH={module.parents[2]} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    node = prefix / "lib" / "karp_perception" / "tracker"
    assert node.stat().st_mode & stat.S_IXUSR
    run = subprocess.run([node, "--ros-args", "a b"], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (run.returncode, run.stdout.strip()) == (7, f"{sys.executable} ['--ros-args', 'a b']"), run.stderr


def test_resources_are_found_in_a_checkout_and_in_a_colcon_prefix(tmp_path):
    assert resource_root() == ROOT
    assert resource("package.xml") == ROOT / "package.xml"
    prefix = tmp_path / "install" / "karp_perception"
    module = prefix / "local" / "lib" / "python3.10" / "dist-packages" / "karp_perception" / "core" / "resources.py"
    share = prefix / "share" / "karp_perception"
    for folder in (module.parent, share):
        folder.mkdir(parents=True)
    module.touch()
    with pytest.raises(ConfigurationError, match="installed in part only"):
        find_root(module)
    (share / "package.xml").touch()
    assert find_root(module) == share


def test_a_missing_resource_is_named_with_the_folder_it_should_be_in():
    with pytest.raises(ConfigurationError, match=r"'config/none.yaml' in .*" + ROOT.name):
        resource("config", "none.yaml")


@pytest.mark.parametrize("python", PYTHONS)
def test_every_requirement_has_exactly_one_pinned_version(python):
    pins: dict[str, list[str]] = {}
    for pin in requirements("constraints.txt"):
        if applies(pin, python):
            pins.setdefault(key(pin), []).append(str(pin.specifier))
    assert {name: versions for name, versions in pins.items() if len(versions) != 1} == {}
    for name in ("runtime.txt", "training.txt", "tensorrt.txt", "dev.txt"):
        wanted = {key(requirement) for requirement in requirements(name) if applies(requirement, python)}
        assert wanted - set(pins) == set()
    for pin in requirements("constraints.txt") + requirements("ros.txt"):
        assert str(pin.specifier).startswith("==")


def test_pins_satisfy_what_the_package_asks_for(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("METADATA")]
        lines = archive.read(name).decode().splitlines()
    asked = [Requirement(line.split(": ", 1)[1]) for line in lines if line.startswith("Requires-Dist")]
    assert {"numpy", "rosbags", "torch"} <= {key(requirement) for requirement in asked}
    for pins in (requirements("constraints.txt"), requirements("constraints-numpy1.txt")):
        for pin in pins:
            version = str(pin.specifier).removeprefix("==")
            for requirement in asked:
                assert key(requirement) != key(pin) or version in requirement.specifier, (pin, requirement)


def test_package_xml_names_every_ros_package_that_the_code_imports():
    manifest = ElementTree.parse(ROOT / "package.xml").getroot()
    assert manifest.findtext("version") == karp_perception.__version__
    declared = {element.text for element in manifest.findall("exec_depend")}
    imported: set[str] = set()
    for path in [*(ROOT / "karp_perception" / "ros").rglob("*.py"), *(ROOT / "launch").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                imported.add(node.module.split(".")[0])
    of_ros = {
        name
        for name in imported
        if name.endswith(("_msgs", "_interfaces")) or name in {"rclpy", "launch", "launch_ros"}
    }
    assert of_ros - declared == set()


def test_everything_but_the_nodes_imports_without_ros_torch_and_tensorrt():
    program = f"""
import importlib, pathlib, sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {sorted(ROS_ONLY)}:
            raise ModuleNotFoundError("No module named " + name, name=name)
sys.meta_path.insert(0, Absent())
root = pathlib.Path("karp_perception")
parts = ["core", "sensing", "tracking", "planning", "evaluation", "world"]
files = [*root.glob("*.py"), *(p for part in parts for p in (root / part).rglob("*.py") if "training" not in p.parts)]
for path in sorted(files):
    importlib.import_module(".".join(path.with_suffix("").parts).removesuffix(".__init__"))
"""
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


@pytest.fixture
def tools(monkeypatch):
    """The set-up program's modules."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import message_packages
    import setup_environment

    return setup_environment, message_packages


def test_an_apt_ros_built_for_numpy_1_gets_versions_that_go_with_it(tools, monkeypatch, tmp_path):
    setup_environment, _ = tools
    monkeypatch.setattr(setup_environment, "VENV", tmp_path)
    usual = setup_environment.write_constraints(system_ros=False).read_text().split("\n")
    monkeypatch.setattr(setup_environment, "system_numpy_major", lambda: 1)
    with_numpy1 = setup_environment.write_constraints(system_ros=True).read_text().split("\n")
    changed = {line.split("==")[0] for line in set(usual) ^ set(with_numpy1) if "==" in line}
    assert changed == {"numpy", "scipy", "opencv-python-headless"}
    assert [line for line in with_numpy1 if line.startswith("numpy==")] == ["numpy==1.26.4"]


def test_a_machine_without_ros_wheels_or_without_a_compiler_is_told_so(tools, monkeypatch, tmp_path):
    _, message_packages = tools
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(message_packages.platform, "machine", lambda: "riscv64")
    assert "no ROS wheels for" in message_packages.reason_against_wheels()
    monkeypatch.setattr(message_packages.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(message_packages.sys, "platform", "linux")
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert "g++" in message_packages.reason_against_wheels()
    # A wheel compiled before needs no compiler.
    message_packages.wheel_folder().mkdir(parents=True)
    (message_packages.wheel_folder() / "karp_ros_interfaces-0.1.0-cp311.whl").touch()
    assert message_packages.reason_against_wheels() is None


def test_the_cached_wheel_is_another_one_when_fields_or_pins_change(tools, monkeypatch, tmp_path):
    _, message_packages = tools
    for name in ("interfaces", "requirements"):
        shutil.copytree(ROOT / name, tmp_path / name)
        monkeypatch.setattr(message_packages, name.upper(), tmp_path / name)
    monkeypatch.setattr(message_packages, "ROOT", tmp_path)
    first = message_packages.wheel_folder()
    assert message_packages.wheel_folder() == first
    field_list = tmp_path / "interfaces" / "tf2_msgs" / "msg" / "TFMessage.msg"
    field_list.write_text(field_list.read_text() + "uint8 more\n")
    second = message_packages.wheel_folder()
    (tmp_path / "requirements" / "ros.txt").write_text("ros-rclpy==0\n")
    assert len({first, second, message_packages.wheel_folder()}) == 3


def test_a_step_of_pip_that_fails_says_what_and_where_to_look(tools, monkeypatch, tmp_path):
    import installer

    monkeypatch.setattr(installer, "ROOT", tmp_path)
    monkeypatch.setattr(installer, "VENV_PYTHON", Path(sys.executable))
    with pytest.raises(
        installer.SetupError, match=r"^pip install: Could not find a version .*\(see setup\.log\)$"
    ) as failure:
        installer.pip("install", "--no-index", "karp-perception-has-no-such-friend", log_file=tmp_path / "setup.log")
    assert "\n" not in str(failure.value)
    assert "karp-perception-has-no-such-friend" in (tmp_path / "setup.log").read_text()


def test_the_prefix_is_appended_once_and_a_foreign_bootstrap_is_forgotten():
    specification = importlib.util.spec_from_file_location("prefix", ROOT / "interfaces" / "karp_ros_prefix.py")
    module = importlib.util.module_from_spec(specification)
    before = dict(os.environ)
    try:
        specification.loader.exec_module(module)
    finally:
        os.environ.clear()
        os.environ.update(before)
    environment = {"AMENT_PREFIX_PATH": "/a", "LD_LIBRARY_PATH": "/other/lib", module.BOOTSTRAPPED: "1"}
    module.add_prefix("/venv", environment)
    module.add_prefix("/venv", environment)
    assert environment == {"AMENT_PREFIX_PATH": f"/a{os.pathsep}/venv", "LD_LIBRARY_PATH": "/other/lib"}
    own = {"LD_LIBRARY_PATH": "/venv/lib", module.BOOTSTRAPPED: "1"}
    module.add_prefix("/venv", own)
    assert own[module.BOOTSTRAPPED] == "1"


@pytest.mark.slow
@pytest.mark.parametrize("mode", [[], ["--symlink-install"]], ids=["copied", "symlinked"])
def test_colcon_builds_it(mode, tmp_path):
    if shutil.which("colcon") is None:
        pytest.skip("colcon is not on PATH (`pip install colcon-core colcon-ros ...` or apt)")
    subprocess.run(["git", "clone", "--quiet", ROOT, tmp_path / "src" / "karp_perception"], check=True)
    build = subprocess.run(["colcon", "build", *mode], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert build.returncode == 0, build.stdout + build.stderr
    install = tmp_path / "install" / "karp_perception"
    assert {path.name for path in (install / "lib" / "karp_perception").iterdir()} == NODES
    program = "from karp_perception.core.resources import resource; print(resource('package.xml'))"
    where = f'. {tmp_path}/install/setup.sh; which karp; python3 -c "{program}"; cat "$(which karp)" | head -1'
    answer = subprocess.run(["sh", "-c", where], cwd="/", capture_output=True, text=True, check=False)
    found = answer.stdout.splitlines()
    assert found[0] == str(install / "bin" / "karp"), answer.stderr
    assert Path(found[1]).is_relative_to(tmp_path), answer.stderr
