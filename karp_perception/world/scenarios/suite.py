"""The scenario suite: files of scenarios -> cases, by name, and random drives by family and seed.

A file is a mapping with `about` (a sentence), `defaults` (merged under each scenario, mappings key by key; a layout
that names its family stands alone) and `scenarios`. A scenario's `grid` has lists of values by parameter; each
combination is a case, in which formulas (texts that begin with `=`) are worked out. `skip` is a formula for
combinations that make no sense.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from karp_perception.core.errors import ConfigurationError
from karp_perception.world.layouts.families import FAMILIES
from karp_perception.world.scenarios.avoidable import FUNCTIONS
from karp_perception.world.scenarios.case import Case, Check, Kind, Scenario
from karp_perception.world.scenarios.expressions import evaluated
from karp_perception.world.scenarios.fields import Fields
from karp_perception.world.scenarios.reading import read_case

SUITES = Path(__file__).parent
"""Where the scenario files of the package lie."""

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_MOST_CASES = 2000  # of one grid: more is a slip
_MOST_DRIVES = 10_000
_RANDOM_S = 40.0  # s, length of a random drive


def suite_names() -> tuple[str, ...]:
    """Names of the suites of the package: `all` and the groups that are its files."""
    return ("all", *sorted(path.stem for path in SUITES.glob("*.yaml")))


def load_suite(suite: str | Path = "all") -> tuple[Scenario, ...]:
    """The scenarios of a suite: `all`, the name of a group, or a file or folder of one's own.

    Raises:
        ConfigurationError: no such suite, or something wrong in a file, in one line.
    """
    path = Path(suite)
    if str(suite) == "all":
        files = sorted(SUITES.glob("*.yaml"))
    elif str(suite) in suite_names():
        files = [SUITES / f"{suite}.yaml"]
    elif path.is_dir():
        files = sorted([*path.glob("*.yaml"), *path.glob("*.yml")])
    elif path.is_file():
        files = [path]
    else:
        raise ConfigurationError(
            f"suite {str(suite)!r}: expected a file, a folder or one of {', '.join(suite_names())}"
        )
    if not files:
        raise ConfigurationError(f"suite {str(suite)!r}: expected .yaml files in the folder, got none")
    scenarios = [scenario for file in files for scenario in load_file(file)]
    names = [scenario.name for scenario in scenarios]
    for name in names:
        if names.count(name) > 1:
            raise ConfigurationError(f"scenario {name}: expected different names, got this one twice")
    return tuple(scenarios)


def load_file(path: Path) -> tuple[Scenario, ...]:
    """The scenarios of one file. Raises ConfigurationError, one line, for what is wrong with it."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: expected a readable text file: {error}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path.name}: expected YAML: {' '.join(str(error).split())}") from None
    fields = Fields(content, path.name)
    fields.text("about", "")
    defaults = fields.raw("defaults", {})
    Fields(defaults, f"{path.name}: defaults")
    found = [_scenario(item, defaults, path, i) for i, item in enumerate(fields.items("scenarios"))]
    fields.done()
    if not found:
        raise ConfigurationError(f"{path.name}: scenarios: expected at least one scenario, got none")
    return tuple(found)


def find_cases(names: Iterable[str], scenarios: Sequence[Scenario]) -> list[Case]:
    """The cases of names: of a scenario (all its cases), of a case, of part of one ("ccrs,speed=30"), or
    "random:FAMILY:SEED".

    Raises ConfigurationError for a name that fits nothing.
    """
    chosen: dict[str, Case] = {}
    for name in names:
        if name.startswith("random:"):
            cases = [random_case(name)]
        else:
            head, *wanted = name.split(",")
            cases = [case for scenario in scenarios if scenario.name == head for case in scenario.cases]
            cases = [case for case in cases if set(wanted) <= set(case.name.split(",")[1:])]
        if not cases:
            known = Fields({scenario.name: 0 for scenario in scenarios}, "scenario")
            raise known.wrong(
                name, "the name of a scenario, of one of its cases, or random:FAMILY:SEED", name, known.names
            )
        chosen |= {case.name: case for case in cases}
    return list(chosen.values())


def random_case(name: str) -> Case:
    """The drive "random:FAMILY:SEED": a place of that family with its traffic and weather, all drawn from the seed."""
    parts = name.split(":")
    if len(parts) != 3 or parts[0] != "random" or not parts[2].isdecimal() or len(parts[2]) > 9:
        raise ConfigurationError(
            f"scenario {name!r}: expected random:FAMILY:SEED with a whole number, such as random:urban:7"
        )
    return Case(
        name=name,
        scenario=name,
        group="random",
        sentence=f"A drive through a place of the family {parts[1]} with its traffic, drawn from seed {parts[2]}.",
        kind=Kind.RANDOM,
        parameters={},
        layout=parts[1],
        layout_parameters={},
        seed=int(parts[2]),
        start=0.0,
        lateral=0.0,
        speed=None,
        limit=None,
        actors=(),
        scenery=(),
        faults=(),
        traffic={},
        weather=None,
        duration=_RANDOM_S,
        avoidable=True,
        checks=(Check("no_contact"), Check("obeys_lights"), Check("keeps_lane", {"m": 1.0}), Check("comfort")),
        source=f"scenario {name}",
    )


def random_cases(count: int, seed: int = 0) -> list[Case]:
    """So many random drives, through all families in turn; other seeds give other ones.

    Raises ConfigurationError for a count that cannot be.
    """
    if not 1 <= count <= _MOST_DRIVES:
        raise ConfigurationError(f"drives: expected 1 to {_MOST_DRIVES}, got {count}")
    first = (seed * _MOST_DRIVES) % 10**9
    return [random_case(f"random:{FAMILIES[k % len(FAMILIES)]}:{first + k}") for k in range(count)]


def _scenario(value: Any, defaults: Mapping[str, Any], path: Path, index: int) -> Scenario:
    where = f"{path.name}: scenarios[{index}]"
    head = Fields(value, where)
    name = head.text("name")
    if not _NAME.fullmatch(name):
        raise head.wrong("name", "lower-case letters, digits and _", name)
    where = f"{path.name}: scenario {name}"
    merged = _merged(defaults, value)
    fields = Fields(merged, where)
    constants = fields.inner("parameters", {})
    grid = fields.inner("grid", {})
    lists = {key: grid.items(key) for key in grid.names}
    for key in (*constants.names, *lists):
        if not key.isidentifier():
            raise ConfigurationError(f"{where}: grid: {key}: expected a name of letters, digits and _")
    count = 1
    for key, values in lists.items():
        count *= len(values)
        if not values:
            raise grid.wrong(key, "at least one value", values)
        for v in values:
            if not isinstance(v, (int, float, str)) or (isinstance(v, str) and not re.fullmatch(r"[\w.+-]+", v)):
                raise grid.wrong(key, "numbers or words", v)
    if count > _MOST_CASES:
        raise ConfigurationError(f"{where}: grid: expected at most {_MOST_CASES} combinations, got {count}")
    fixed = {key: constants.raw(key) for key in constants.names}
    cases = []
    for values in itertools.product(*lists.values()):
        chosen = dict(zip(lists, values, strict=True))
        case_name = ",".join([name, *(f"{key}={_plain(v)}" for key, v in chosen.items())])
        at = where if not chosen else f"{path.name}: scenario {case_name}"
        known = {**fixed, **chosen}
        for key, constant in fixed.items():
            known[key] = _worked_out(constant, known, f"{at}: parameters: {key}")
        if _worked_out(merged.get("skip", False), known, f"{at}: skip"):
            continue
        plain = {key: v for key, v in merged.items() if key not in ("parameters", "grid", "skip")}
        cases.append(read_case(_worked_out(plain, known, at), at, path.stem, case_name, known))
    if not cases:
        raise ConfigurationError(f"{where}: skip: expected at least one combination to be left, got none")
    return Scenario(name, path.stem, cases[0].kind, str(merged.get("sentence", "")), tuple(cases))


def _worked_out(value: Any, known: Mapping[str, Any], where: str) -> Any:
    try:
        return evaluated(value, known, FUNCTIONS)
    except ConfigurationError as error:
        raise ConfigurationError(f"{where}: {error}") from None
    except RecursionError:
        raise ConfigurationError(f"{where}: expected values nested less deep") from None


def _merged(below: Any, above: Any) -> Any:
    """`above` over `below`: mappings key by key, anything else as a whole."""
    if not (isinstance(below, Mapping) and isinstance(above, Mapping)):
        return above
    if "family" in above:  # another kind of place has other parameters
        return above
    return {**below, **{key: _merged(below[key], value) if key in below else value for key, value in above.items()}}


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
