"""W&B, trackio and TensorBoard behind the same five methods. Each is imported when it is opened."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from llmclf.compat.trackio import name_run
from llmclf.compat.wandb import tell_nothing_of_the_machine
from llmclf.config import flatten
from llmclf.trackers.config import TrackConfig

TrackedTable = tuple[list[str], list[list[Any]]]
"""Column names of a table, and its rows."""


@dataclass(frozen=True, kw_only=True)
class TrackedRun:
    """What a tracker is told at the start."""

    folder: Path
    id: str
    name: str
    group: str
    job_type: str
    settings: dict[str, Any]
    config: TrackConfig
    warn: Callable[[str], None]


class Backend(Protocol):
    """One run in one tracker. Opening it drops what a local tracker holds of the run."""

    def record(self, index: int, record: dict[str, Any]) -> None:
        """Line ``index`` of metrics.jsonl; each comes once, in their order."""

    def results(self, results: dict[str, Any], *, last_step: int, next_index: int) -> None:
        """The contents of results.json, and the files of a finished run."""

    def report(self, html: Path) -> None:
        """The report on a group."""

    def close(self, *, finished: bool) -> None:
        """Return once everything is where it belongs."""


class WandB:
    """W&B: ``<folder>/wandb``, and a server unless WANDB_MODE says otherwise.

    W&B's own step is the line of metrics.jsonl: W&B drops what goes back, and the server can say
    which line comes next. The optimizer's step is the value ``step``, the axis of all charts.
    """

    def __init__(self, run: TrackedRun) -> None:
        os.environ.setdefault("WANDB_DATA_DIR", str(run.folder / "wandb"))  # of artefacts
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        self.wandb: Any = wandb
        self.about = run
        try:
            self.run = self._init()
        except Exception as error:
            wandb.teardown(exit_code=1)  # or the id would count as in use
            self.run = self._init(mode="offline")
            run.warn(
                f"{error}. Tracked offline: `wandb sync {run.folder}/wandb/offline-*` hands it over"
            )
        self.next_index = self.run.starting_step  # of a server; `step` starts at 0
        if self.run.offline:
            self.next_index = 0
            for folder in (run.folder / "wandb").glob(f"offline-run-*-{run.id}"):
                if folder != Path(self.run.dir).parent:
                    shutil.rmtree(folder)
        self.run.define_metric("step")
        for split in ("train", "validation"):
            self.run.define_metric(f"{split}/*", step_metric="step")

    def _init(self, **options: Any) -> Any:
        about, seconds = self.about, self.about.config.timeout_seconds
        quiet = self.wandb.Settings(
            console="off",
            disable_code=True,
            disable_git=True,
            finish_timeout=seconds,
            finish_timeout_raises=True,
            init_timeout=seconds,
            save_code=False,
            silent=True,
            **tell_nothing_of_the_machine(),
        )
        return self.wandb.init(
            project=about.config.project,
            group=about.group,
            id=about.id,
            name=about.name,
            job_type=about.job_type,
            dir=about.folder,
            resume="allow",
            config=about.settings,
            settings=quiet,
            **options,
        )

    def record(self, index: int, record: dict[str, Any]) -> None:
        if index >= self.next_index:
            self.run.log({"step": record["step"], **values(record)}, step=index)

    def results(self, results: dict[str, Any], *, last_step: int, next_index: int) -> None:
        table, matrix = per_label(results), confusion(results)
        final: dict[str, Any] = {
            "results/per_label": self.wandb.Table(columns=table[0], data=table[1])
        }
        if "tn" in matrix[0]:
            final["results/confusion"] = self.wandb.Table(columns=matrix[0], data=matrix[1])
        else:
            final["results/confusion"] = self.wandb.plot_table(
                vega_spec_name="wandb/confusion_matrix/v1",
                data_table=self.wandb.Table(
                    columns=["Actual", "Predicted", "nPredictions"], data=matrix[1]
                ),
                fields={name: name for name in ("Actual", "Predicted", "nPredictions")},
                string_fields={"title": "Test rows"},
            )
        if (curves := self.about.folder / "curves.png").exists():
            final["curves"] = self.wandb.Image(str(curves))
        self.run.log(final, step=max(next_index, self.next_index))
        self.run.summary.update(numbers(results))
        if self.about.config.log_model and (self.about.folder / "model").is_dir():
            artifact = self.wandb.Artifact(f"model-{self.about.id}", type="model")
            artifact.add_dir(str(self.about.folder / "model"))
            self.run.log_artifact(artifact)

    def report(self, html: Path) -> None:
        self.run.log({"report": self.wandb.Html(html.read_text(encoding="utf-8"), inject=False)})
        artifact = self.wandb.Artifact(f"report-{self.about.id}", type="report")
        artifact.add_file(str(html), name=html.name)
        self.run.log_artifact(artifact)

    def close(self, *, finished: bool) -> None:
        try:
            self.run.finish(exit_code=0 if finished else 1)
        except TimeoutError:
            self.about.warn(
                f"the server did not take everything in {self.about.config.timeout_seconds:g} s "
                f"(--track.timeout-seconds). `wandb sync {Path(self.run.dir).parent}` hands over "
                "the rest"
            )


class Trackio:
    """trackio: its database on this machine, TRACKIO_DIR or its own default."""

    def __init__(self, run: TrackedRun) -> None:
        for name in ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL"):
            os.environ.pop(name, None)  # what is elsewhere cannot be written anew
        import trackio

        self.trackio: Any = trackio
        self.about = run
        warnings.showwarning = self._on_warning  # it raises nothing
        with contextlib.suppress(ValueError):  # there is no such project yet
            for old in trackio.Api().runs(run.config.project):
                if old.id == run.id:
                    old.delete()
        self.run = trackio.init(
            project=run.config.project,
            name=run.name,
            group=run.group,
            config=run.settings,
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )
        name_run(self.run, run.id)

    def _on_warning(
        self, message: Any, category: Any, filename: str, lineno: int, *place: Any, **named: Any
    ) -> None:
        if "trackio" in filename:
            self.about.warn(f"{message}")

    def record(self, index: int, record: dict[str, Any]) -> None:
        self.run.log(values(record), step=record["step"])

    def results(self, results: dict[str, Any], *, last_step: int, next_index: int) -> None:
        tables = {"per_label": per_label(results), "confusion": confusion(results)}
        final: dict[str, Any] = {
            f"results/{name}": self.trackio.Table(columns=columns, data=rows)
            for name, (columns, rows) in tables.items()
        }
        if (curves := self.about.folder / "curves.png").exists():
            final["curves"] = self.trackio.Image(str(curves))
        self.run.log(numbers(results) | final, step=last_step)
        if self.about.config.log_model and (self.about.folder / "model").is_dir():
            name = f"model-{self.about.id}"
            self.run.log_artifact(str(self.about.folder / "model"), name=name, type="model")

    def report(self, html: Path) -> None:
        self.run.log({"report": self.trackio.Html(html.read_text(encoding="utf-8"))}, step=0)
        self.run.log_artifact(str(html), name=f"report-{self.about.id}", type="report")

    def close(self, *, finished: bool) -> None:
        self.run.finish()


class TensorBoard:
    """TensorBoard: ``<folder>/tensorboard``; `tensorboard --logdir` of the folder above shows the
    group."""

    def __init__(self, run: TrackedRun) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.about = run
        target = run.folder / "tensorboard"
        shutil.rmtree(target, ignore_errors=True)
        # A server that shows the old files is told by purge_step to forget them.
        self.writer = SummaryWriter(str(target), purge_step=0)
        settings = json.dumps(run.settings, indent=2, ensure_ascii=False)
        self.writer.add_text("settings", "\n".join(f"    {x}" for x in settings.splitlines()), 0)

    def record(self, index: int, record: dict[str, Any]) -> None:
        for name, value in values(record).items():
            if value is not None:
                self.writer.add_scalar(name, value, record["step"])

    def results(self, results: dict[str, Any], *, last_step: int, next_index: int) -> None:
        from matplotlib.image import imread

        for name, value in numbers(results).items():
            self.writer.add_scalar(name, value, last_step)
        self.writer.add_text("results/per_label", markdown(per_label(results)), last_step)
        self.writer.add_text("results/confusion", markdown(confusion(results)), last_step)
        if (curves := self.about.folder / "curves.png").exists():
            self.writer.add_image("curves", imread(curves), last_step, dataformats="HWC")

    def report(self, html: Path) -> None:
        raise AssertionError("TensorBoard shows no HTML")

    def close(self, *, finished: bool) -> None:
        self.writer.close()


OPEN: dict[str, Callable[[TrackedRun], Backend]] = {
    "wandb": WandB,
    "trackio": Trackio,
    "tensorboard": TensorBoard,
}


def values(record: dict[str, Any]) -> dict[str, Any]:
    """A record's values under the names that trackers show, such as ``validation/macro_f1``."""
    rest = {name: value for name, value in record.items() if name not in ("step", "split")}
    return {f"{record['split']}/{name}": value for name, value in rest.items()}


def numbers(results: dict[str, Any]) -> dict[str, float]:
    """The single numbers of results.json, such as ``results/test/macro_f1``."""
    chosen = {name: results[name] or {} for name in ("validation", "test", "prior", "cost")}
    for name in ("validation", "test"):
        chosen[name] = {k: v for k, v in chosen[name].items() if k != "per_label"}
    return {
        f"results/{name.replace('.', '/')}": value
        for name, value in flatten(chosen).items()
        if isinstance(value, (int, float))
    }


def per_label(results: dict[str, Any]) -> TrackedTable:
    """Scores of each label on the test rows."""
    rows = results["test"]["per_label"]
    columns = list(next(iter(rows.values())))
    return ["label", *columns], [[name, *(row[c] for c in columns)] for name, row in rows.items()]


def confusion(results: dict[str, Any]) -> TrackedTable:
    """Counts of the test rows, one row for each pair of true and predicted label; multilabel, one
    for each label."""
    labels, counts = results["labels"], results["test"]["confusion"]
    if isinstance(counts[0][0], list):
        rows = [[name, *table[0], *table[1]] for name, table in zip(labels, counts, strict=True)]
        return ["label", "tn", "fp", "fn", "tp"], rows
    return ["true label", "predicted", "rows"], [
        [true, predicted, count]
        for true, row in zip(labels, counts, strict=True)
        for predicted, count in zip(labels, row, strict=True)
    ]


def markdown(table: TrackedTable) -> str:
    """A table as Markdown; what stands in its cells stays text."""
    columns, rows = table
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(value: Any) -> str:
    text = f"{value:.4f}" if isinstance(value, float) else str(value)
    for old, new in (("&", "&amp;"), ("<", "&lt;"), ("|", "&#124;"), ("\n", " ")):
        text = text.replace(old, new)
    return text
