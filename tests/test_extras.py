"""What a message about a missing package tells to type: a command that works where it is read."""

from __future__ import annotations

import importlib.util
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from llmclf.cli.env import OPTIONAL
from llmclf.config import ConfigError
from llmclf.extras import install_hint
from llmclf.model.config import missing_library
from llmclf.prompt.api.client import import_openai
from llmclf.trackers.config import TrackConfig
from llmclf.train.launch_check import check_launch

REPOSITORY = Path(__file__).resolve().parents[1]


def test_a_checkout_is_installed_from_its_files() -> None:
    hint = install_hint("track")
    assert "pip install -e '.[track]' in the root of the repository" in hint
    assert "make install" in hint
    assert str(REPOSITORY) not in hint


def test_a_release_is_installed_by_name(tmp_path: Path) -> None:
    assert install_hint("track", tmp_path) == "pip install 'llmclf[track]'"


def test_every_extra_that_is_named_exists() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(OPTIONAL.values()) <= set(project["optional-dependencies"])


def api_message() -> str:
    with pytest.raises(ConfigError) as caught:
        import_openai()
    return str(caught.value)


def engine_message() -> str:
    with pytest.raises(ConfigError) as caught:
        check_launch("zero2", on_cpu=False)
    return str(caught.value)


@pytest.mark.parametrize(
    ("package", "extra", "message"),
    [
        ("bitsandbytes", "quantize", lambda: "".join(missing_library("nf4"))),
        ("deepspeed", "deepspeed", engine_message),
        ("openai", "api", api_message),
        ("tensorboard", "track", lambda: "".join(TrackConfig(to=("tensorboard",)).problems())),
    ],
)
def test_each_message_gives_the_command(
    package: str, extra: str, message: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # as import finds it where there is none
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == package else found(name)
    )
    assert f"pip install -e '.[{extra}]'" in message()
    assert package in message()


def test_no_message_has_a_command_of_its_own() -> None:
    files = [p for p in (REPOSITORY / "llmclf").rglob("*.py") if p.name != "extras.py"]
    assert [p for p in files if "llmclf[" in p.read_text(encoding="utf-8")] == []
