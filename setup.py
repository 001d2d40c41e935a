"""The package, for `colcon build` (ament_python) and for pip alike."""

from __future__ import annotations

from pathlib import Path

from setuptools import find_packages, setup

NAME = "karp_perception"
NODES = ("detector", "tracker", "planner", "stack", "player", "recorder", "world")
HERE = Path(__file__).parent


def shared(folder: str) -> list[tuple[str, list[str]]]:
    """`folder` and all below it, as data files under share/karp_perception."""
    found: dict[str, list[str]] = {}
    for path in sorted((HERE / folder).rglob("*")):
        if path.is_file() and not any(part.startswith((".", "__")) for part in path.relative_to(HERE).parts):
            found.setdefault(f"share/{NAME}/{path.parent.relative_to(HERE)}", []).append(str(path.relative_to(HERE)))
    return list(found.items())


def version() -> str:
    """The version that the package itself names."""
    values: dict[str, str] = {}
    exec((HERE / NAME / "__init__.py").read_text(), values)
    return values["__version__"]


setup(
    name=NAME,
    version=version(),
    description="ROS 2 perception and planning for vehicles: cameras and lidar in, objects, a path and a decision out",
    license="Apache-2.0",
    author="The karp_perception authors",
    maintainer="The karp_perception authors",
    maintainer_email="karp_perception@users.noreply.github.com",
    python_requires=">=3.10,<3.15",
    packages=find_packages(include=[NAME, f"{NAME}.*"]),
    package_data={f"{NAME}.world.scenarios": ["*.yaml"]},
    install_requires=[
        "numpy>=1.26",
        "scipy>=1.11",
        "opencv-python-headless>=4.9",
        "onnxruntime>=1.18",
        "openvino>=2024.4",
        "rosbags>=0.10.9",
        "mcap>=1.2",
        "numba>=0.61",
        "foxglove-sdk>=0.16",
        "orjson>=3.9",
        "pyyaml>=6",
        "rich>=13",
        "typer>=0.12",
        "av>=12",
        "safetensors>=0.4",
        "threadpoolctl>=3.1",
    ],
    extras_require={
        "odometry": ["kiss-icp>=1.2"],
        "training": ["torch>=2.6", "onnx>=1.17", "onnxscript>=0.2", "tensorboard>=2.15"],
        "rtx": ["tensorrt-rtx-cu13-bindings>=1.7", "tensorrt-rtx-cu13-libs>=1.7"],
        "carla": ["carla>=0.9.15"],
        "lanelet2": ["lanelet2>=1.2.2"],
        "dev": ["pytest>=8", "hypothesis>=6.100", "ruff>=0.9"],
    },
    # `karp` belongs on PATH. The nodes' names are too general for that: they go where `ros2 run` and launch files look,
    # as data files, so that pip puts them there as well.
    entry_points={"console_scripts": ["karp = karp_perception.cli:main"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        (f"lib/{NAME}", [f"executables/{node}" for node in NODES]),
        *shared("launch"),
        *shared("config"),
        *shared("models"),
    ],
    zip_safe=False,
)
