"""Which language-model approach should classify my text, and what does it cost?

Recipes and users import from here alone; inner modules may move. Nothing is loaded before it is
asked for: ``import llmclf`` costs a few milliseconds.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmclf.classical.config import BaselineConfig
    from llmclf.cli.recipe import main
    from llmclf.comparison import compare
    from llmclf.config import ConfigError, DataError, UserError
    from llmclf.data.config import DataConfig
    from llmclf.experiment import run
    from llmclf.features.config import FeaturesConfig
    from llmclf.load import load_run
    from llmclf.methods.classical import Classical
    from llmclf.methods.features import Features
    from llmclf.methods.fine_tune import FineTune
    from llmclf.methods.method import Experiment, Method
    from llmclf.methods.prompt import Prompt
    from llmclf.methods.zero_shot import ZeroShot
    from llmclf.model.config import LanguageModelConfig, ModelConfig
    from llmclf.prompt.config import ApiConfig, PromptConfig
    from llmclf.report.config import ReportConfig
    from llmclf.trackers.config import TrackConfig
    from llmclf.train.config import TrainConfig
    from llmclf.zero_shot.config import ZeroShotConfig

_WHERE = {
    "ApiConfig": "prompt.config",
    "BaselineConfig": "classical.config",
    "Classical": "methods.classical",
    "ConfigError": "config",
    "DataConfig": "data.config",
    "DataError": "config",
    "Experiment": "methods.method",
    "Features": "methods.features",
    "FeaturesConfig": "features.config",
    "FineTune": "methods.fine_tune",
    "LanguageModelConfig": "model.config",
    "Method": "methods.method",
    "ModelConfig": "model.config",
    "Prompt": "methods.prompt",
    "PromptConfig": "prompt.config",
    "ReportConfig": "report.config",
    "TrackConfig": "trackers.config",
    "TrainConfig": "train.config",
    "UserError": "config",
    "ZeroShot": "methods.zero_shot",
    "ZeroShotConfig": "zero_shot.config",
    "compare": "comparison",
    "load_run": "load",
    "main": "cli.recipe",
    "run": "experiment",
}
"""Public name -> module that has it (PEP 562)."""

__all__ = [
    "ApiConfig",
    "BaselineConfig",
    "Classical",
    "ConfigError",
    "DataConfig",
    "DataError",
    "Experiment",
    "Features",
    "FeaturesConfig",
    "FineTune",
    "LanguageModelConfig",
    "Method",
    "ModelConfig",
    "Prompt",
    "PromptConfig",
    "ReportConfig",
    "TrackConfig",
    "TrainConfig",
    "UserError",
    "ZeroShot",
    "ZeroShotConfig",
    "__version__",
    "compare",
    "load_run",
    "main",
    "run",
]


def _let_waiting_threads_sleep() -> None:
    """Have OpenMP's threads sleep soon when they wait for each other, unless the user has said how.

    GNU's libgomp, which torch brings along, turns in a loop for milliseconds first, and takes the
    processor from whatever else runs, the very thread that it waits for among them: a step took 3.0
    times as long beside one other busy process, and takes 1.4 times as long with this count, which
    costs a few percent alone (docs/measured.md). It reads the variable when it is loaded, with
    torch: hence here, before anything imports that. Other runtimes (libiomp, libomp) do not read
    it.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")


_let_waiting_threads_sleep()


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("llmclf")
    if name not in _WHERE:
        raise AttributeError(f"module 'llmclf' has no attribute {name!r}")
    return getattr(importlib.import_module(f"llmclf.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return __all__
