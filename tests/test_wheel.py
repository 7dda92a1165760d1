"""The wheel is enough: recipes are inside, and run without a checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
ROOT = Path(__file__).parents[1]


def typed(words: list[str], folder: Path) -> str:
    """What a command prints, run in a folder, with nothing of the checkout on its path."""
    own = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    env = {**own, "HF_HUB_OFFLINE": "1", "COLUMNS": "100"}
    done = subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


def pip(*words: str | Path) -> None:
    """Skips where it cannot have what builds the package."""
    try:
        typed([sys.executable, "-m", "pip", "-q", *map(str, words)], ROOT)
    except AssertionError as error:
        if "No matching distribution found for hatchling" in str(error):
            pytest.skip("pip finds no hatchling here")
        raise


def environment(folder: Path) -> Path:
    """A virtual environment without llmclf, which has the libraries of this one behind its own;
    returns its folder of packages. Lines in .pth files of this one, such as that of an editable
    install, are not read there."""
    venv.create(folder, symlinks=True)
    base = {"base": str(folder), "platbase": str(folder)}
    site = Path(sysconfig.get_path("purelib", "venv", vars=base))
    libraries = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    (site / "libraries.pth").write_text("\n".join(libraries))
    return site


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment with the wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", ROOT, "--no-deps", "--wheel-dir", folder / "dist")
    (wheel,) = (folder / "dist").glob("llmclf-*.whl")
    site = environment(folder / "venv")
    bin_ = folder / "venv" / "bin"
    pip("--python", bin_ / "python", "install", "--no-deps", "--no-index", wheel)
    where = typed([str(bin_ / "python"), "-c", "import llmclf; print(llmclf.__file__)"], folder)
    assert Path(where.strip()) == site / "llmclf" / "__init__.py"
    return bin_


def test_every_recipe_is_listed(installed: Path, tmp_path: Path) -> None:
    text = typed([str(installed / "llmclf"), "recipes"], tmp_path)
    names = [line.split()[0] for line in text.splitlines() if line[:1].strip()]
    assert names == sorted(path.stem for path in (ROOT / "recipes").glob("*.py"))


def test_a_copied_recipe_runs(installed: Path, tmp_path: Path) -> None:
    typed([str(installed / "llmclf"), "recipes", "copy", "demo", "my_demo.py"], tmp_path)
    assert (tmp_path / "my_demo.py").read_text() == (ROOT / "recipes" / "demo.py").read_text()
    mine = [str(installed / "python"), "my_demo.py"]
    assert "--only" in typed([*mine, "--help"], tmp_path)
    typed([*mine, "--only", "majority", "--data.limit", "300"], tmp_path)
    folder = tmp_path / "runs" / "demo"
    assert json.loads((folder / "majority" / "results.json").read_text())["test"]["n"] == 60
    assert "majority" in (folder / "report.html").read_text()


def test_an_editable_install_has_the_checkout_and_no_copies(tmp_path: Path) -> None:
    site = environment(tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    pip("--python", python, "install", "--no-deps", "-e", ROOT)
    assert not (site / "llmclf").exists()
    code = "from llmclf.cli.recipes import all_recipes as a; print(a()['demo'])"
    assert Path(typed([str(python), "-c", code], tmp_path).strip()) == ROOT / "recipes" / "demo.py"
