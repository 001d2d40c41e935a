"""Which NVIDIA GPUs there are, asked of the driver itself: needs neither torch nor TensorRT, and takes no time."""

from __future__ import annotations

import ctypes
import functools
from dataclasses import dataclass

_LIBRARIES = ("libcuda.so.1", "nvcuda.dll")
_NAME_BYTES = 256
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*


@dataclass(frozen=True)
class Gpu:
    """One GPU.

    Attributes:
        name: as its maker calls it.
        compute_capability: such as "8.9".
        driver: the version of CUDA that the driver speaks, such as "13.0".
    """

    name: str
    compute_capability: str
    driver: str


@functools.cache
def gpus() -> tuple[Gpu, ...]:
    """The GPUs that this process may use, in the driver's order; none where there is no driver."""
    library = _library()
    if library is None or library.cuInit(0) != 0:
        return ()
    count, version = ctypes.c_int(), ctypes.c_int()
    library.cuDeviceGetCount(ctypes.byref(count))
    library.cuDriverGetVersion(ctypes.byref(version))
    driver = f"{version.value // 1000}.{version.value % 1000 // 10}"
    return tuple(_gpu(library, number, driver) for number in range(count.value))


def _gpu(library: ctypes.CDLL, number: int, driver: str) -> Gpu:
    device, name = ctypes.c_int(), ctypes.create_string_buffer(_NAME_BYTES)
    library.cuDeviceGet(ctypes.byref(device), number)
    library.cuDeviceGetName(name, _NAME_BYTES, device)
    capability = []
    for attribute in (_MAJOR, _MINOR):
        value = ctypes.c_int()
        library.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
        capability.append(value.value)
    return Gpu(name.value.decode(errors="replace"), "{}.{}".format(*capability), driver)


def _library() -> ctypes.CDLL | None:
    for name in _LIBRARIES:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None
