"""The Dockerfile: what it copies is there, and the TrainJob finds in the image what it names."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml

from tests.processes import REPOSITORY

FILE = REPOSITORY / "launch" / "docker" / "Dockerfile"
TEXT = FILE.read_text(encoding="utf-8")
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def instructions() -> list[tuple[str, str]]:
    """Name and rest of each, continued lines joined."""
    lines = "\n".join(line for line in TEXT.splitlines() if not line.startswith("#"))
    joined = re.sub(r"\\\n\s*", "", lines).splitlines()
    return [(line.split()[0], line.partition(" ")[2]) for line in joined if line.strip()]


def values(name: str) -> list[str]:
    return [rest for found, rest in instructions() if found == name]


def copied() -> dict[str, PurePosixPath]:
    """Path in the repository -> path in the image."""
    found = {}
    for rest in values("COPY"):
        *sources, target = rest.split()
        for source in sources:
            folder = PurePosixPath(target)
            found[source] = folder / source if target.endswith("/") else folder
    return found


def environment() -> dict[str, str]:
    return dict(word.split("=", 1) for rest in values("ENV") for word in shlex.split(rest))


def in_repository(path: str) -> Path:
    """The file of the repository that lies at this path of the image."""
    for source, target in copied().items():
        if PurePosixPath(path).is_relative_to(target):
            return REPOSITORY / source / PurePosixPath(path).relative_to(target)
    raise AssertionError(f"{path}: nothing is copied there")


@pytest.fixture
def job() -> dict[str, Any]:
    path = REPOSITORY / "launch" / "kubernetes" / "trainjob.yaml"
    loaded: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return loaded["spec"]


def pod(job: dict[str, Any]) -> dict[str, Any]:
    template = job["runtimePatches"][0]["trainingRuntimeSpec"]["template"]
    found: dict[str, Any] = template["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]
    return found["spec"]


def test_instructions_are_dockers() -> None:
    known = {"FROM", "RUN", "ENV", "COPY", "USER", "VOLUME", "WORKDIR", "CMD"}
    assert {name for name, _ in instructions()} == known
    for command in values("RUN"):
        subprocess.run(["sh", "-n", "-c", command], check=True)
    (command,) = values("CMD")
    assert json.loads(command)[0] in PROJECT["scripts"]


def test_the_base_is_pinned_and_one_that_the_project_takes() -> None:
    (base,) = values("FROM")
    version = re.fullmatch(r"python:(3\.\d+)\.\d+-slim-[a-z]+(@sha256:[0-9a-f]{64})?", base)
    assert version is not None
    assert f"Programming Language :: Python :: {version[1]}" in PROJECT["classifiers"]


def test_what_is_copied_is_there_and_all_that_the_builder_gets() -> None:
    assert all((REPOSITORY / source).exists() for source in copied())
    *listed, last = FILE.with_name("Dockerfile.dockerignore").read_text().splitlines()[1:]
    assert (listed[0], last) == ("*", "**/__pycache__")
    assert {line.removeprefix("!") for line in listed[1:]} == set(copied())


def test_packages_are_the_tested_ones_and_extras_exist() -> None:
    installs = [part for run in values("RUN") for part in re.findall(r"pip install [^&]+", run)]
    assert len(installs) == 3
    for install in installs:
        constraints = shlex.split(install)[shlex.split(install).index("-c") + 1]
        assert in_repository(constraints) == REPOSITORY / "constraints.txt"
    (extras,) = re.findall(r"/opt/llmclf\[([\w,]+)\]", TEXT)
    assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"])


def test_what_is_copied_before_the_package_is_enough_to_build_it(tmp_path: Path) -> None:
    """By pip, as in the image, with the files that are there at that moment."""
    for source in ("pyproject.toml", "README.md", "LICENSE", "llmclf"):
        assert source in copied()
        whole = REPOSITORY / source
        (shutil.copytree if whole.is_dir() else shutil.copy)(whole, tmp_path / source)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "-q")
    subprocess.run(
        [*pip, "wheel", "--no-deps", "-w", str(tmp_path / "out"), str(tmp_path)], check=True
    )
    (wheel,) = (tmp_path / "out").glob("llmclf-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "llmclf/report/page.css" in names and "llmclf/cli/app.py" in names


def test_it_runs_without_root_and_holds_no_secret() -> None:
    (user,) = values("USER")
    assert int(user) > 0
    assert f"--uid {user} " in " ".join(values("RUN"))
    secret = re.compile(r"TOKEN|SECRET|PASSWORD|API_KEY", re.IGNORECASE)
    assert not any(secret.search(rest) for _, rest in instructions())


def test_downloads_and_runs_stay_on_the_volume() -> None:
    (volume,), (folder,) = values("VOLUME"), values("WORKDIR")
    assert folder == volume
    for name in ("HF_HOME", "XDG_CACHE_HOME"):
        assert PurePosixPath(environment()[name]).is_relative_to(volume)
    assert not any(PurePosixPath(volume).is_relative_to(target) for target in copied().values())


def test_the_train_job_finds_in_the_image_what_it_names(job: dict[str, Any]) -> None:
    (tag,) = re.findall(r"docker build -f launch/docker/Dockerfile -t (\S+) \.", TEXT)
    trainer, (volume,) = job["trainer"], values("VOLUME")
    assert trainer["image"] == tag
    assert tag.endswith(f"/llmclf:{PROJECT['version']}")
    mounts = pod(job)["containers"][0]["volumeMounts"]
    assert volume in [mount["mountPath"] for mount in mounts]
    assert {m["name"] for m in mounts} == {v["name"] for v in pod(job)["volumes"]}
    assert f"cd {volume} && " in trainer["command"][2]
    paths = [word for word in trainer["args"] if word.startswith("/")]
    assert [in_repository(path).suffix for path in paths] == [".yaml", ".py"]
    assert all(in_repository(path).is_file() for path in paths)
    assert str(pod(job)["securityContext"]["fsGroup"]) == values("USER")[0]


def test_the_lines_on_top_name_what_is_there() -> None:
    top = TEXT.partition("\nFROM")[0]
    for path in re.findall(r"/opt/llmclf/\S+", top):
        assert in_repository(path).is_file()
    (volume,) = values("VOLUME")
    assert f'-v "$PWD:{volume}"' in top
