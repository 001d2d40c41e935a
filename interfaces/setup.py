"""Builds the wheel `karp-ros-interfaces`: ROS 2 message packages, generated and compiled against the ROS wheels.

Each folder beside this file holds the field lists (.msg, .srv) of a package. For each one a CMake project is written,
configured against the ROS wheels of the build environment, compiled and installed into a staging prefix; what Python
needs of that prefix becomes the wheel. Only the C type support is generated: rclpy uses no other.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.build_ext import build_ext

HERE = Path(__file__).parent.resolve()
VERSION = "0.1.0"


@dataclass(frozen=True)
class Package:
    """A message package: the version of the real one its fields are taken from, and what its fields refer to."""

    name: str
    version: str
    depends: tuple[str, ...]


PACKAGES = (
    Package("tf2_msgs", "0.36.14", ("builtin_interfaces", "geometry_msgs")),
    Package("vision_msgs", "4.1.1", ("std_msgs", "geometry_msgs")),
    Package("ackermann_msgs", "2.0.2", ("std_msgs",)),
    Package(
        "autoware_perception_msgs",
        "1.7.0",
        ("builtin_interfaces", "geometry_msgs", "std_msgs", "unique_identifier_msgs"),
    ),
    Package(
        "autoware_planning_msgs",
        "1.7.0",
        ("builtin_interfaces", "geometry_msgs", "std_msgs", "unique_identifier_msgs"),
    ),
    Package("composition_interfaces", "2.0.3", ("rcl_interfaces",)),
)
GENERATORS = (
    "rosidl_generator_type_description",
    "rosidl_generator_c",
    "rosidl_typesupport_fastrtps_c",
    "rosidl_typesupport_c",
    "rosidl_generator_py",
)


def cmake_lists(package: Package) -> str:
    """The CMakeLists.txt of `package`: find generators and dependencies, generate, export."""
    found = "\n".join(f"find_package({name} REQUIRED)" for name in (*GENERATORS, *package.depends))
    return f"""\
cmake_minimum_required(VERSION 3.20)
project({package.name} LANGUAGES C CXX)
find_package(ament_cmake REQUIRED)
find_package(rosidl_cmake REQUIRED)
{found}
file(GLOB interfaces RELATIVE ${{CMAKE_CURRENT_SOURCE_DIR}} CONFIGURE_DEPENDS msg/*.msg srv/*.srv)
rosidl_generate_interfaces(${{PROJECT_NAME}} ${{interfaces}} DEPENDENCIES {" ".join(package.depends)})
ament_package()
"""


def package_xml(package: Package) -> str:
    """The manifest of `package`, which the generators read for its name and dependencies."""
    depends = "".join(f"  <depend>{name}</depend>\n" for name in package.depends)
    return f"""\
<?xml version="1.0"?>
<package format="3">
  <name>{package.name}</name>
  <version>{package.version}</version>
  <description>Messages of {package.name}.</description>
  <maintainer email="karp_perception@users.noreply.github.com">karp_perception</maintainer>
  <license>Apache-2.0</license>
  <buildtool_depend>ament_cmake</buildtool_depend>
{depends}  <member_of_group>rosidl_interface_packages</member_of_group>
  <export><build_type>ament_cmake</build_type></export>
</package>
"""


def repair_include_paths(prefix: Path) -> None:
    """Points the wheels' CMake files, which name folders of the image that built them, to this Python and numpy."""
    import numpy

    for path in prefix.glob("share/*/cmake/*.cmake"):
        text = path.read_text()
        repaired = re.sub(r'/opt/python/[^";]*?/include/python3\.\d+', sysconfig.get_path("include"), text)
        repaired = re.sub(r'/opt/python/[^";]*?/numpy/_?core/include', numpy.get_include(), repaired)
        if repaired != text:
            path.write_text(repaired)


class BuildInterfaces(build_ext):
    """Compiles every package into a staging prefix and takes Python modules, libraries and `share` from there."""

    def run(self) -> None:
        """Builds all packages; a failing CMake call raises `subprocess.CalledProcessError`."""
        import ament_package

        prefix = Path(ament_package.__file__).resolve().parents[4]  # of the wheels in the build environment
        work = (HERE / self.build_temp).resolve()
        stage = work / "stage"
        repair_include_paths(prefix)
        environment = self.environment(prefix, stage, work)
        for number, package in enumerate(PACKAGES, 1):
            print(f"interfaces: {package.name} ({number}/{len(PACKAGES)})", flush=True)
            self.compile(package, work, stage, environment)
        self.collect(stage)

    def environment(self, prefix: Path, stage: Path, work: Path) -> dict[str, str]:
        """The environment of CMake: both prefixes, the wheels' libraries, and a stand-in for ament_cmake_ros.

        The wheel of ament_cmake_ros is of a newer distribution; of all it does only BUILD_SHARED_LIBS matters here.
        """
        stand_in = work / "stand_in" / "ament_cmake_ros" / "cmake"
        stand_in.mkdir(parents=True, exist_ok=True)
        (stand_in / "ament_cmake_rosConfig.cmake").write_text('option(BUILD_SHARED_LIBS "" ON)\n')
        bundled = prefix.glob("lib/python*/site-packages/ros_*.libs")
        return {
            **os.environ,
            "AMENT_PREFIX_PATH": f"{stage}:{prefix}",
            "CMAKE_PREFIX_PATH": f"{stage}:{prefix}:{stand_in.parent}",
            "LD_LIBRARY_PATH": ":".join(map(str, [stage / "lib", prefix / "lib", *bundled])),
        }

    def compile(self, package: Package, work: Path, stage: Path, environment: dict[str, str]) -> None:
        """Writes, configures, compiles and installs the CMake project of one package."""
        source, build = work / "source" / package.name, work / "build" / package.name
        shutil.rmtree(source, ignore_errors=True)
        shutil.copytree(HERE / package.name, source)
        (source / "CMakeLists.txt").write_text(cmake_lists(package))
        (source / "package.xml").write_text(package_xml(package))
        options = {
            "CMAKE_INSTALL_PREFIX": stage,
            "CMAKE_BUILD_TYPE": "Release",
            "CMAKE_C_FLAGS_RELEASE": "-O1 -DNDEBUG",  # copies fields: -O3 only takes longer to compile
            "CMAKE_CXX_FLAGS_RELEASE": "-O1 -DNDEBUG",
            "CMAKE_SHARED_LINKER_FLAGS": "-s",
            "CMAKE_MODULE_LINKER_FLAGS": "-s",
            "BUILD_TESTING": "OFF",
            "Python3_EXECUTABLE": sys.executable,
        }
        definitions = [f"-D{name}={value}" for name, value in options.items()]
        jobs = os.environ.get("KARP_JOBS", str(os.cpu_count() or 1))
        subprocess.check_call(["cmake", "-S", source, "-B", build, "-G", "Ninja", *definitions], env=environment)
        subprocess.check_call(["cmake", "--build", build, "--target", "install", "-j", jobs], env=environment)

    def collect(self, stage: Path) -> None:
        """Python modules go into the wheel's root; libraries and `share` to the prefix it is installed to."""
        root = Path(self.build_lib)
        (modules,) = stage.glob("lib/python*/site-packages")
        ignored = shutil.ignore_patterns("*.c", "__pycache__", "*.egg-info")
        shutil.copytree(modules, root, ignore=ignored, dirs_exist_ok=True)
        shutil.copy(HERE / "karp_ros_prefix.pth", root)
        shutil.copy(HERE / "karp_ros_prefix.py", root)
        folders: dict[str, list[str]] = {}
        for path in sorted([*stage.glob("lib/*.so"), *stage.glob("share/**/*")]):
            if path.is_file() and path.suffix != ".cmake":
                folders.setdefault(str(path.parent.relative_to(stage)), []).append(str(path))
        self.distribution.data_files = list(folders.items())


class BinaryDistribution(Distribution):
    """A distribution whose wheel depends on platform and Python version though it lists no extension module."""

    def has_ext_modules(self) -> bool:
        """Always true: the extensions are built by CMake."""
        return True


setup(
    name="karp-ros-interfaces",
    version=VERSION,
    description="ROS 2 message packages compiled against the ROS wheels, for karp_perception",
    license="Apache-2.0",
    python_requires=">=3.10,<3.15",
    packages=[],
    py_modules=[],
    data_files=[],
    distclass=BinaryDistribution,
    cmdclass={"build_ext": BuildInterfaces},
    install_requires=[
        "ros-builtin-interfaces~=2.0.3",
        "ros-geometry-msgs~=5.3.6",
        "ros-rcl-interfaces~=2.0.3",
        "ros-std-msgs~=5.3.6",
        "ros-unique-identifier-msgs~=2.5.0",
        "ros-wheels-bootstrapper",
    ],
)
