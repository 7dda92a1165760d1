"""A run folder read back: the classifier answers as it did in the run, and mistakes are named."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from llmclf import (
    BaselineConfig,
    Classical,
    ConfigError,
    DataConfig,
    DataError,
    Experiment,
    Features,
    FeaturesConfig,
    FineTune,
    LanguageModelConfig,
    ModelConfig,
    Prompt,
    PromptConfig,
    TrainConfig,
    ZeroShot,
    ZeroShotConfig,
    load_run,
    run,
)
from llmclf.load import load_experiment

QUIET = Console(quiet=True)


def several_labels(corpus: Path, folder: Path) -> Path:
    """The corpus with a second label on its long rows."""
    lines = corpus.read_text(encoding="utf-8").splitlines()
    both = [f"{line};long" if len(line) > 90 else line for line in lines[1:]]
    path = folder / "several.csv"
    path.write_text("\n".join([lines[0], *both]) + "\n", encoding="utf-8")
    return path


def experiments(data: DataConfig, checkpoint: Path, folder: Path) -> list[Experiment]:
    train = TrainConfig(max_steps=12, learning_rate=1e-2, precision="fp32")
    model = ModelConfig(checkpoint=str(checkpoint))
    svm = BaselineConfig(classifier="linear_svm", search_folds=0)
    return [
        FineTune(name="bert", output_dir=folder / "bert", data=data, model=model, train=train),
        Classical(name="svm", output_dir=folder / "svm", data=data, baseline=svm),
        Features(
            name="features",
            output_dir=folder / "features",
            data=data,
            model=LanguageModelConfig(checkpoint=str(checkpoint)),
            features=FeaturesConfig(precision="fp32", search_folds=2),
        ),
        ZeroShot(
            name="zero-shot",
            output_dir=folder / "zero-shot",
            data=data,
            model=LanguageModelConfig(checkpoint=str(checkpoint)),
            zero_shot=ZeroShotConfig(precision="fp32"),
        ),
    ]


@pytest.mark.parametrize("several", [False, True], ids=["one label", "several labels"])
@pytest.mark.parametrize("which", [0, 1, 2, 3], ids=["bert", "svm", "features", "zero_shot"])
def test_new_texts_are_classified_as_in_the_run(
    bert: Path,
    corpus: Path,
    tmp_path: Path,
    several: bool,
    which: int,
) -> None:
    source = several_labels(corpus, tmp_path) if several else corpus
    data = DataConfig(source=str(source), label_separator=";" if several else None)
    experiment = experiments(data, bert, tmp_path)[which]
    loaded = load_run(str(run(experiment, console=QUIET)))
    assert loaded.experiment == experiment
    test = loaded.predictions()
    assert len(test) == loaded.results["test"]["n"] and test["text"].notna().all()
    expected_NC = test[[f"p_{label}" for label in loaded.labels]].to_numpy()
    texts = test["text"].tolist()
    np.testing.assert_allclose(loaded.probabilities(texts), expected_NC, atol=1e-5)
    # In another order, and alone: rows do not depend on each other.
    np.testing.assert_allclose(loaded.probabilities(texts[::-1]), expected_NC[::-1], atol=1e-5)
    np.testing.assert_allclose(loaded.probabilities(texts[:1]), expected_NC[:1], atol=1e-5)
    given = loaded.classify(texts)
    truth = test["label"].tolist()
    if several:
        sets = [set(label) if not isinstance(label, str) else {label} for label in truth]
        right = np.mean([set(g) == t for g, t in zip(given, sets, strict=True)])
    else:
        right = np.mean([g == t for g, t in zip(given, truth, strict=True)])
    assert right == pytest.approx(loaded.results["test"]["accuracy"])
    assert loaded.probabilities([]).shape == (0, len(loaded.labels)) and loaded.classify([]) == []
    assert len(loaded.predictions("validation")) == loaded.results["validation"]["n"]


def test_what_cannot_be_read_is_named(bert: Path, corpus: Path, tmp_path: Path) -> None:
    data = DataConfig(source=str(corpus))
    _, svm, *_ = experiments(data, bert, tmp_path)
    folder = run(svm, console=QUIET)
    loaded = load_run(folder)
    for texts, pairs, message in (
        ("one text", None, "a single text; give a list"),
        (["good", None], None, r"texts\[1\] is None \(NoneType\)"),
        (["good"], ["pair"], "give it texts alone"),
    ):
        with pytest.raises(DataError, match=message):
            loaded.probabilities(texts, pairs)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"experiment.json cannot be read"):
        load_run(tmp_path)
    (folder / "results.json").unlink()
    with pytest.raises(DataError, match="not finished"):
        load_run(folder)


def test_a_prompted_run_says_that_it_saves_no_classifier(
    byte_llama: Path,
    corpus: Path,
    tmp_path: Path,
) -> None:
    experiment = Prompt(
        name="prompt",
        output_dir=tmp_path / "prompt",
        data=DataConfig(source=str(corpus), limit=60),
        model=LanguageModelConfig(checkpoint=str(byte_llama)),
        prompt=PromptConfig(),
    )
    loaded = load_run(run(experiment, console=QUIET))
    assert loaded.experiment == experiment and len(loaded.predictions()) == 12
    with pytest.raises(ConfigError, match=r"a prompt run saves no classifier.*--data.test"):
        loaded.classify(["good"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"method": "boosting"},
            r"method='boosting': allowed are \[.*'classical', 'features', 'fine_tune'",
        ),
        ({"epochs": 3}, "unknown key 'epochs'"),
        ({"model": {"checkpoint": "x"}}, "unknown key 'model'"),
        ({"seed": "one"}, "seed='one'"),
        ({"data": {}}, "missing key 'data.source'"),
    ],
)
def test_settings_reload_strictly(tmp_path: Path, changes: dict, message: str) -> None:
    experiment = Classical(name="svm", output_dir=tmp_path, data=DataConfig(source="opinions"))
    path = tmp_path / "experiment.json"
    path.write_text(json.dumps(experiment.to_json()), encoding="utf-8")
    assert load_experiment(tmp_path) == experiment
    path.write_text(json.dumps(experiment.to_json() | changes), encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        load_experiment(tmp_path)


def test_an_output_folder_may_be_a_str() -> None:
    experiment = Classical(name="svm", output_dir="runs/x", data=DataConfig(source="opinions"))  # type: ignore[arg-type]
    assert experiment.folder == Path("runs/x")
    assert dataclasses.replace(experiment, seed=1).folder == Path("runs/x")


def test_a_section_of_another_approach_is_refused() -> None:
    """Settings that a prompted model does not read must not be taken in silence."""
    with pytest.raises(ConfigError, match=r"model=ModelConfig.*Prompt takes LanguageModelConfig"):
        Prompt(name="p", data=DataConfig(source="opinions"), model=ModelConfig(tune="lora"))
    with pytest.raises(ConfigError, match=r"data=str.*Classical takes DataConfig"):
        Classical(name="c", data="opinions")  # type: ignore[arg-type]


def test_what_python_lets_pass_is_refused_before_a_run(corpus: Path, tmp_path: Path) -> None:
    data = DataConfig(source=str(corpus))
    unknown = BaselineConfig(classifier="boosting")  # type: ignore[arg-type]
    experiment = Classical(name="c", output_dir=tmp_path / "c", data=data, baseline=unknown)
    with pytest.raises(ConfigError, match=r"baseline.classifier='boosting': allowed are"):
        run(experiment, console=QUIET)

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Nameless(Classical):
        pass

    with pytest.raises(ConfigError, match="class Nameless: give it an approach of its own"):
        run(Nameless(name="n", output_dir=tmp_path / "n", data=data), console=QUIET)
    assert not list(tmp_path.iterdir())


def test_sections_of_older_versions_decide_nothing(corpus: Path, tmp_path: Path) -> None:
    """They wrote the settings of all approaches; a run of theirs is known again, and resumed."""
    svm = BaselineConfig(classifier="linear_svm", search_folds=0)
    data = DataConfig(source=str(corpus))
    experiment = Classical(name="svm", output_dir=tmp_path / "svm", data=data, baseline=svm)
    folder = run(experiment, console=QUIET)
    stored = json.loads((folder / "experiment.json").read_text(encoding="utf-8"))
    older = stored | {"prompt": {"shots": 0}, "model": {"checkpoint": "minilm-l6"}}
    (folder / "experiment.json").write_text(json.dumps(older), encoding="utf-8")
    with pytest.raises(ConfigError, match="another version of llmclf wrote it"):
        load_run(folder)
    with pytest.raises(ConfigError, match="this run is finished; there is nothing to resume"):
        run(experiment, resume=True, console=QUIET)
    other = dataclasses.replace(experiment, seed=5)
    with pytest.raises(ConfigError, match="a finished run of other settings: seed: 0 -> 5"):
        run(other, console=QUIET)
    (folder / "results.json").unlink()
    assert run(experiment, resume=True, console=QUIET) == folder


def test_predictions_are_joined_to_the_file_by_row(tmp_path: Path) -> None:
    """Ids count from 1, pandas from 0; empty rows are dropped and counted all the same."""
    source = tmp_path / "rows.csv"
    lines = [f"{'a good' if i % 2 else 'a bad'} thing {i},{'bg'[i % 2]}" for i in range(60)]
    lines[7] = " ,b"
    source.write_text("\n".join(["text,label", *lines]), encoding="utf-8")
    data = DataConfig(source=str(source))
    loaded = load_run(run(Classical(name="x", output_dir=tmp_path / "x", data=data), console=QUIET))
    table = pd.read_csv(source)
    for split in ("test", "validation"):
        found = loaded.predictions(split)
        ours = table.iloc[found["row"]]
        assert ours["label"].tolist() == found["label"].tolist()
        assert (found["id"].astype(int) - 1).tolist() == found["row"].tolist()
        assert set(found["predicted"]) <= {"b", "g"}
    found = loaded.predictions()
    assert table.iloc[found["row"]]["text"].tolist() == found["text"].tolist()
    right = (found["predicted"] == found["label"]).mean()
    assert right == pytest.approx(loaded.results["test"]["accuracy"])


def test_rows_of_a_given_file_count_in_that_file(tmp_path: Path) -> None:
    for name, count in (("train", 40), ("test", 9)):
        lines = [f"{name} thing {i},{'bg'[i % 2]}" for i in range(count)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["text,label", *lines]), encoding="utf-8")
    data = DataConfig(source=str(tmp_path / "train.csv"), test=str(tmp_path / "test.csv"))
    loaded = load_run(run(Classical(name="x", output_dir=tmp_path / "x", data=data), console=QUIET))
    found = loaded.predictions()
    assert found["row"].tolist() == list(range(9)) and found["id"][0] == "test:1"


def test_a_folder_of_an_older_version_has_predictions_without_row(tmp_path: Path) -> None:
    source = tmp_path / "rows.csv"
    lines = [f"thing {i},{'bg'[i % 2]}" for i in range(40)]
    source.write_text("\n".join(["text,label", *lines]), encoding="utf-8")
    svm = Classical(name="x", output_dir=tmp_path / "x", data=DataConfig(source=str(source)))
    folder = run(svm, console=QUIET)
    path = folder / "splits.parquet"
    pd.read_parquet(path).drop(columns="row").to_parquet(path)
    found = load_run(folder).predictions()
    assert "row" not in found and found["text"].notna().all() and len(found["predicted"]) == 8
