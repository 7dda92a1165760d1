"""What an approach is: settings that a user writes, and a method made of them that runs.

A new approach is one file beside this one, with a subclass of :class:`Experiment` whose
:meth:`~Experiment.prepare` returns a :class:`Method`. Nothing heavy is imported here or there: the
settings of a recipe are read, checked and shown before any framework is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, get_type_hints

from llmclf.config import ConfigError, changeable, from_json, to_json
from llmclf.data.config import DataConfig
from llmclf.run_folder.check import problems as folder_problems
from llmclf.trackers.config import TrackConfig

if TYPE_CHECKING:
    import numpy as np
    from rich.console import Console

    from llmclf.data.corpus import Splits
    from llmclf.evaluate.calibration import Calibration
    from llmclf.evaluate.outcome import Outcome


class Classifier(Protocol):
    """What a run has learnt, put to work. N: rows, C: labels."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Label names in the order of the probabilities, (C)."""

    @property
    def multilabel(self) -> bool:
        """Whether a text may have several labels, or none."""

    @property
    def calibration(self) -> Calibration:
        """Holds the thresholds of a multilabel task."""

    def probabilities(self, texts: list[str], pairs: list[str] | None = None) -> np.ndarray:
        """Calibrated probabilities, float64 (N, C)."""


class Method(Protocol):
    """An approach that is checked and ready to run on its rows; nothing has been written yet."""

    def plan(self) -> dict[str, Any]:
        """What would happen, as JSON values: for ``--dry-run`` and environment.json."""

    def truncated(self) -> dict[str, Any]:
        """What of the texts it will not see, for audit.json."""

    def warnings(self) -> list[str]:
        """What the user should know before it runs, one sentence each."""

    def run(self, folder: Path, console: Console) -> Outcome:
        """Learn, save what was learnt to ``folder / "model"``, and predict. On several ranks all of
        them call it, and the first one writes."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One approach on one corpus: everything that decides the result."""

    approach: ClassVar[str]
    """Name of the approach, the key ``method`` of experiment.json."""

    name: str
    """Name of the run, and of its folder."""
    seed: int = 0
    """Decides splits, initial weights, order of rows and dropout."""
    output_dir: Path | None = changeable(None)
    """Run folder; runs/<name> if not given."""
    data: DataConfig
    track: TrackConfig = changeable(TrackConfig())

    def __post_init__(self) -> None:
        if isinstance(self.output_dir, str):
            object.__setattr__(self, "output_dir", Path(self.output_dir))
        for name, kind in get_type_hints(type(self)).items():
            value = getattr(self, name, None)
            if is_dataclass(kind) and type(value) is not kind:
                raise ConfigError(
                    f"{name}={type(value).__name__}(...): {type(self).__name__} takes "
                    f"{getattr(kind, '__name__', kind)}(...)."
                )

    @property
    def folder(self) -> Path:
        """Where the run is written."""
        return self.output_dir or Path("runs") / self.name

    @property
    def method(self) -> str:
        """Name of the method in results.json and in tables: full, lora, prompt, classical, ..."""
        return self.approach

    @property
    def model_name(self) -> str:
        """What learns or is asked, for tables."""
        raise NotImplementedError

    def problems(self) -> list[str]:
        """What cannot work, one sentence each; found before anything is loaded or written."""
        problems = self.data.problems() + self.track.problems()
        if not self.name.replace("-", "").replace("_", "").replace(".", "").isalnum():
            problems.append(f"name={self.name!r}: allowed are letters, digits, '-', '_' and '.'.")
        return problems

    def prepare(self, splits: Splits, *, weights: bool = True) -> Method:
        """Load what is needed to run on these rows.

        With ``weights=False`` only as much as :meth:`Method.plan` needs. Raises UserError, before
        anything is written, if it cannot run.
        """
        raise NotImplementedError

    def load(self, folder: Path) -> Classifier:
        """What was learnt, from the run folder; raises UserError where it cannot classify more."""
        raise ConfigError(
            f"{folder}: a {self.method} run saves no classifier. Run it on the new texts as test "
            "rows (--data.test)."
        )

    def memory(self, method: Method) -> dict[str, int]:
        """Bytes on the fullest device of the run that would start; empty where none are planned."""
        return {}

    def to_json(self) -> dict[str, Any]:
        """The contents of experiment.json."""
        settings = to_json(self)
        return {"name": settings.pop("name"), "method": self.approach, **settings}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Experiment:
        """What :meth:`to_json` gave, as the approach that it names.

        Raises ConfigError on an approach, key or value that is not known.
        """
        settings = dict(value)
        approach = settings.pop("method", None)
        classes = {c.approach: c for c in _subclasses(Experiment) if "approach" in vars(c)}
        if approach not in classes:
            raise ConfigError(
                f"method={approach!r}: allowed are {sorted(classes)}. Import the module of an "
                "approach of your own first."
            )
        return from_json(classes[approach], settings)


def _subclasses(cls: type[Experiment]) -> list[type[Experiment]]:
    return [s for c in cls.__subclasses__() for s in (c, *_subclasses(c))]


def validate(experiment: Experiment) -> None:
    """Check all settings and their combinations at once; ConfigError lists every problem, before
    anything is downloaded."""
    if "approach" not in vars(type(experiment)):
        raise ConfigError(
            f"class {type(experiment).__name__}: give it an approach of its own, as in "
            'approach: ClassVar[str] = "mine", or its runs could not be loaded.'
        )
    from_json(type(experiment), to_json(experiment))  # types and choices, which Python lets pass
    problems = experiment.problems() + folder_problems(experiment.folder)
    if problems:
        raise ConfigError("\n".join(problems))
