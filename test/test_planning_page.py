"""docs/planning.md says what is so: every setting it names exists, every decision and term is explained."""

from __future__ import annotations

import re
from pathlib import Path

import cv2

from karp_perception.core import DecisionKind
from karp_perception.pipeline import PipelineSettings
from karp_perception.planning.scoring import ScoringSettings
from karp_perception.ros.parameters import NodeSettings

DOCS = Path(__file__).parents[1] / "docs"
CODE = Path(__file__).parents[1] / "karp_perception" / "planning"
PAGE = (DOCS / "planning.md").read_text()


def test_every_setting_that_is_named_exists() -> None:
    known = [p.name for s in (PipelineSettings(), NodeSettings()) for p in s.parameters()]
    named = set(re.findall(r"`((?:planner|map)(?:\.\w+)+|signal_timeout|vehicle)`", PAGE))
    assert len(named) > 20
    missing = {
        name
        for name in named - {"planner.py"}
        if not any(full == name or full.startswith(name + ".") for full in known)
    }
    assert not missing


def test_every_file_that_is_named_exists() -> None:
    rows = re.findall(r"^\| [\w -]+ \| .* \| `.*` \| (`.*`) \|$", PAGE, re.MULTILINE)
    named = [name for row in rows for name in re.findall(r"`([\w/]+(?:\.py|/))`", row)]
    assert len(rows) == 8
    assert len(named) > 15
    assert not [name for name in [*named, "settings.py"] if not (CODE / name).exists()]


def test_the_example_is_a_parameter_file(tmp_path: Path) -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "own.yaml").write_text(example)
    settings = PipelineSettings.from_yaml(tmp_path / "own.yaml")
    assert settings.planner.speed_limit == 8.3
    assert not settings.planner.safety.rss.enabled
    assert settings.planner.safety.watchdog.enabled


def test_all_terms_and_decisions_are_explained() -> None:
    weights = ScoringSettings().weights
    for term in ("collision", "drivable", "direction", *weights):
        assert f"| `{term}` |" in PAGE
    assert all(f"`{term}_weight` |" in PAGE for term in weights)
    assert all(f"| `{kind.value}` |" in PAGE for kind in DecisionKind)


def test_its_picture_is_small() -> None:
    file = DOCS / "planning.jpg"
    assert "(planning.jpg)" in PAGE
    assert file.stat().st_size < 150_000
    assert cv2.imread(str(file)).shape[1] < 1000
