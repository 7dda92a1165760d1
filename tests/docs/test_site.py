"""The site as `make docs-site` builds it: without a warning, and with links that lead somewhere."""

from __future__ import annotations

import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
pytest.importorskip("sphinx", reason="needs the extra docs: make docs-site installs it")
REPOSITORY = Path(__file__).resolve().parents[2]


class Links(HTMLParser):
    """What a page links to or shows, and the ids that it has."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.ids: set[str] = set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("href", "src") and value:
                self.targets.append(value)
            elif name == "id" and value:
                self.ids.add(value)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    path = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-E", "-n", "-W", "--keep-going", "-q"]
    built = subprocess.run(
        [*command, "-d", str(folder / "doctrees"), "docs", str(folder / "html")],
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    return folder / "html"


def test_links_lead_somewhere(site: Path) -> None:
    pages = {page: Links(page) for page in site.rglob("*.html")}
    assert len(pages) > 100
    broken = []
    for page, links in pages.items():
        for target in links.targets:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            file = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            anchor = unquote(parts.fragment)
            if not file.exists() or (anchor and file in pages and anchor not in pages[file].ids):
                broken.append(f"{page.relative_to(site)}: {target}")
    assert not broken


def test_files_of_the_repository_are_shown(site: Path) -> None:
    shown = (site / "files/launch/slurm/single_node.sbatch.html").read_text(encoding="utf-8")
    assert "#SBATCH" in shown
    assert "test_accelerate.py.html" in (site / "files/tests/launch.html").read_text("utf-8")


def test_fields_stand_with_their_defaults_and_docstrings(site: Path) -> None:
    page = (site / "api/llmclf.train.config.html").read_text(encoding="utf-8")
    assert "2e-05" in page
    assert "Peak learning rate of AdamW." in page
