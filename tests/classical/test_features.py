"""Which terms are read, by the script of the training texts; settings that are given win."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from llmclf import BaselineConfig, Classical, DataConfig, run
from llmclf.classical.baseline import Baseline, fit
from llmclf.classical.features import with_features
from llmclf.data.corpus import Split, load_splits
from llmclf.evaluate.scores import score

PARTS = {
    "chinese": (
        ("这家饭店", "那部电影", "我们的房间", "昨天的服务", "他们的产品", "孩子的玩具"),
        ("好看", "满意", "便宜", "干净"),
        ("难看", "失望", "昂贵", "肮脏"),
        ("让人觉得很", "实在是非常", "总的来说比较", "真的特别"),
    ),
    "japanese": (
        ("この映画は", "あの店の料理は", "昨日の部屋は", "新しい商品は", "彼の話は"),
        ("すばらしかった", "きれいだった", "おいしかった"),
        ("ひどかった", "つまらなかった", "きたなかった"),
        ("とても", "ほんとうに", "思ったより", "かなり"),
    ),
    "thai": (  # without marks, at which Python's words end
        ("อาหารของเรา", "ละครของเขา", "ผลงานของเธอ", "ภาพของเรา", "สวนของเขา"),
        ("สวยงาม", "ชอบมาก", "สะอาด"),
        ("สกปรก", "แพงมาก", "ผอมบาง"),
        ("ตลอดมา", "จากภายนอก", "แสดงออกมา", "บางขณะ"),
    ),
}


def corpus(folder: Path, language: str, rows: int = 240) -> DataConfig:
    """Sentences without a space whose label hangs on one of their words."""
    of, good, bad, how = PARTS[language]
    draw = random.Random(0)
    lines = ["text,label"]
    for i in range(rows):
        words = good if i % 2 else bad
        said = [draw.choice(of) + draw.choice(how) + draw.choice(words), draw.choice(of)]
        draw.shuffle(said)
        lines.append("".join(said) + f"{draw.choice(how)}{i},{'bad' if words is bad else 'good'}")
    path = folder / f"{language}.csv"
    path.write_text("\n".join(lines), encoding="utf-8")
    return DataConfig(source=str(path), duplicates="keep", validation_fraction=0)


def macro_f1(data: DataConfig, features: str | None) -> float:
    splits = load_splits(data, 0)
    config = BaselineConfig(classifier="linear_svm", features=features)  # type: ignore[arg-type]
    found = fit(config, splits.train, labels=splits.labels, multilabel=False, seed=0)
    return score(found.predict(splits.test))["macro_f1"]


@pytest.mark.parametrize("language", PARTS)
def test_characters_are_chosen_where_words_fail(language: str, tmp_path: Path) -> None:
    data = corpus(tmp_path, language)
    assert macro_f1(data, "words") < 0.7
    assert macro_f1(data, None) == macro_f1(data, "characters") > 0.9


def split(texts: list[str], pairs: list[str] | None = None) -> Split:
    targets = np.arange(len(texts)) % 2
    return Split(list(map(str, targets)), texts, pairs, targets, None)


def test_what_is_given_wins_and_nothing_is_said() -> None:
    chinese = split(["这部电影非常好看", "那部电影非常难看"])
    for features in ("words", "characters"):
        config = BaselineConfig(features=features)  # type: ignore[arg-type]
        assert with_features(config, chinese) == (config, [])
    majority = BaselineConfig(classifier="majority")
    assert with_features(majority, chinese) == (majority, [])
    chosen, said = with_features(BaselineConfig(), chinese)
    assert chosen.features == "characters" and len(said) == 1
    assert with_features(BaselineConfig(), split(["a", "b"], ["很好看", "很难看"]))[1]


def test_english_has_words_and_the_same_model(tmp_path: Path) -> None:
    english = split([f"a {'fine' if i % 2 else 'poor'} film {i}" for i in range(40)])
    assert with_features(BaselineConfig(), english) == (BaselineConfig(features="words"), [])
    for name, features in (("seen", None), ("given", "words")):
        config = BaselineConfig(features=features)  # type: ignore[arg-type]
        fit(config, english, labels=("a", "b"), multilabel=False, seed=0).save(tmp_path / name)
    same = [(tmp_path / n / "baseline.json").read_bytes() for n in ("seen", "given")]
    assert same[0] == same[1]
    models = [Baseline.load(tmp_path / name) for name in ("seen", "given")]
    one, other = (model.probabilities(english.texts) for model in models)
    assert one.tobytes() == other.tobytes()


def test_a_run_says_what_it_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = corpus(tmp_path, "thai", rows=60)
    run(Classical(name="x", output_dir=tmp_path / "x", data=data), console=Console(width=200))
    said = capsys.readouterr().out
    assert said.count("baseline.features: characters, since 100% of the letters") == 1
    environment = json.loads((tmp_path / "x" / "environment.json").read_text(encoding="utf-8"))
    assert environment["features"] == "characters"
