"""The `carla` package and a server that answers, or one line that says what to do."""

from __future__ import annotations

import importlib
import logging
from types import ModuleType
from typing import Any

from karp_perception.core.errors import BackendUnavailable, KarpError

log = logging.getLogger(__name__)


class CarlaError(KarpError):
    """CARLA is not installed, does not answer, or cannot do what was asked."""


class CarlaMissing(CarlaError, BackendUnavailable):
    """The `carla` package is not installed."""


def load_carla() -> ModuleType:
    """The `carla` package. Raises CarlaMissing where it is not installed."""
    try:
        return importlib.import_module("carla")
    except ImportError as error:
        raise CarlaMissing(
            f"the carla package cannot be imported ({error}); pip install 'karp_perception[carla]' "
            "(wheels exist for Python 3.10 to 3.12), in the version of the server"
        ) from None


def connect(carla: Any, host: str, port: int, timeout: float) -> Any:
    """A carla.Client whose server has answered. Raises CarlaError, naming host, port and how to start one."""
    try:
        client = carla.Client(host, port)
        client.set_timeout(timeout)
        server, ours = client.get_server_version(), client.get_client_version()
    except RuntimeError as error:
        raise CarlaError(
            f"no CARLA server answers on {host}:{port} within {timeout:g} s; start one (./CarlaUE4.sh -RenderOffScreen "
            f"-carla-rpc-port={port}, or docker run --gpus all --net=host carlasim/carla:0.9.16 ./CarlaUE4.sh "
            f"-RenderOffScreen), or give its host and port"
        ) from error
    if server != ours:
        log.warning("CARLA server %s, carla package %s: install the package of the server's version", server, ours)
    return client
