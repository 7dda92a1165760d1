"""From a checkpoint name to a tokenizer and a classifier, and every way that can fail."""

from __future__ import annotations

import http.server
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer

from llmclf.config import ConfigError
from llmclf.model.build import build_model, load_config, load_tokenizer, locate
from llmclf.model.config import ModelConfig
from llmclf.model.tune import count_parameters, save_model

LABELS = ("negative", "neutral", "positive")


@pytest.fixture
def copy_of(tiny_of: Callable[[str], Any], tmp_path: Path) -> Callable[[str], Path]:
    """A copy of a family's checkpoint that a test may break."""
    return lambda name: Path(shutil.copytree(tiny_of(name).folder, tmp_path / name))


def build(folder: Path | str, **settings: Any) -> Any:
    torch.manual_seed(0)
    config = ModelConfig(checkpoint=str(folder), **settings)
    return build_model(
        config, labels=LABELS, multilabel=False, pad_token_id=0, max_length=32
    ).eval()


def edit(path: Path, **changes: Any) -> None:
    settings = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(settings | changes), encoding="utf-8")


def edit_weights(
    folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]
) -> None:
    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path, metadata={"format": "pt"})


# ---- the checkpoint itself -----------------------------------------------------------------------


@pytest.mark.parametrize("checkpoint", ["/no/such/model", "./nowhere", "~/nowhere", "runs/x/model"])
def test_no_such_folder(checkpoint: str) -> None:
    with pytest.raises(
        ConfigError, match=f"model.checkpoint='{checkpoint}': there is no such folder"
    ):
        locate(checkpoint)


def test_folder_without_a_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has no config.json"):
        load_config(str(tmp_path))


def test_a_home_folder_and_a_hub_id_are_left_to_transformers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    assert locate("~") == str(tmp_path)
    assert locate("someone/some-model") == "someone/some-model"


def test_unreachable_hub_says_what_to_do() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config("someone/some-model")
    message = str(caught.value)
    assert message.startswith("model.checkpoint='someone/some-model' cannot be loaded: ")
    assert "`hf download someone/some-model --local-dir DIR`" in message
    assert "minilm-l6" in message and "smollm2-135m" in message


class Refusing(http.server.BaseHTTPRequestHandler):
    """A hub that answers for owner/STATUS-CODE with that status and, unless none, error code."""

    def do_HEAD(self) -> None:
        found = re.search(r"owner/(\d+)-(\w+)", self.path)
        self.send_response(int(found[1]) if found else 404)
        if found and found[2] != "none":
            self.send_header("X-Error-Code", found[2])
            self.send_header("X-Error-Message", "Access to this model is restricted.")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_HEAD

    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What we say of each answer of a real server; in a process of its own, since the hub's client
    reads its address once."""
    code = """
import json, sys
from llmclf.config import ConfigError
from llmclf.model.build import load_config, load_tokenizer
said = {}
for name in sys.argv[1:]:
    for load in (load_config, load_tokenizer):
        try:
            load("owner/" + name)
        except ConfigError as error:
            assert said.setdefault(name, str(error)) == str(error)
print(json.dumps(said))
"""
    names = (
        "403-GatedRepo",
        "401-GatedRepo",
        "401-RepoNotFound",
        "401-none",
        "403-none",
        "404-none",
    )
    home = str(tmp_path_factory.mktemp("home"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        environment = {name: value for name, value in os.environ.items() if name != "HF_TOKEN"} | {
            "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HUB_OFFLINE": "0",
            "HF_HOME": home, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1",
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-c", code, *names], env=environment, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        server.shutdown()
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return {name: re.sub(r":\d{4,5}", "", said) for name, said in found.items()}


@pytest.mark.parametrize("status", ["401", "403"])
def test_a_gated_checkpoint_says_where_to_accept_and_how_to_log_in(
    refused: dict[str, str], status: str
) -> None:
    name = f"{status}-GatedRepo"
    assert refused[name] == (
        f"model.checkpoint='owner/{name}': is gated (the hub answered {status}). Accept the "
        f"licence on its page, http://127.0.0.1/owner/{name}, then give this machine a token of "
        "your account: `hf auth login`, or HF_TOKEN."
    )


def test_other_refusals_are_not_taken_for_a_missing_connection(refused: dict[str, str]) -> None:
    assert "no such checkpoint, or keeps it private" in refused["401-RepoNotFound"]
    for status in ("401", "403"):
        assert f"the hub refused it ({status})" in refused[f"{status}-none"]
        assert "`hf auth login`" in refused[f"{status}-none"]
    assert "gated" not in refused["404-none"] and "cannot be loaded" in refused["404-none"]
    assert not any("connection" in refused[name] for name in refused if name != "404-none")


def test_unsupported_architecture_names_the_nearest(copy_of: Callable[[str], Path]) -> None:
    folder = copy_of("bert")
    edit(folder / "config.json", model_type="albert")
    for function in (build, lambda folder: load_tokenizer(str(folder))):
        with pytest.raises(ConfigError, match=r"'albert' is not supported. Did you mean 'bert'"):
            function(folder)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.json", "{"),
        ("config.json", "{}"),
        ("config.json", '{"model_type": "no-such-type"}'),
        ("model.safetensors", "not tensors"),
        ("model.safetensors", None),
    ],
)
def test_damaged_folder(copy_of: Callable[[str], Path], file: str, content: str | None) -> None:
    folder = copy_of("bert")
    (folder / file).unlink()
    if content is not None:
        (folder / file).write_text(content)
    with pytest.raises(
        ConfigError, match=r"cannot be loaded: .*copy the checkpoint again"
    ) as caught:
        build(folder)
    assert "hf download" not in str(caught.value)


def test_weights_cut_short(copy_of: Callable[[str], Path]) -> None:
    path = copy_of("bert") / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ConfigError, match="cannot be loaded: "):
        build(path.parent)


def test_missing_weights_below_the_head(tiny: Any, copy_of: Callable[[str], Path]) -> None:
    folder = copy_of(tiny.name)
    block = tiny.family.layers.split(".", 1)[1] + ".2."  # without the name of the backbone
    edit_weights(folder, lambda weights: {k: v for k, v in weights.items() if block not in k})
    with pytest.raises(ConfigError, match=r"\d+ weights below the head are missing .*For"):
        build(folder)


def test_weights_of_another_shape(copy_of: Callable[[str], Path]) -> None:
    """transformers would start them afresh, and only say so in its log."""
    folder = copy_of("bert")
    edit(folder / "config.json", vocab_size=1000)
    with pytest.raises(
        ConfigError, match=r"1 weights below the head .*of another shape \(bert.emb"
    ):
        build(folder)


@pytest.mark.parametrize("tune", ["full", "lora"])
def test_an_adapter_is_not_a_checkpoint(
    tiny_of: Callable[[str], Any], tmp_path: Path, tune: str
) -> None:
    tiny = tiny_of("bert")
    model = tiny.model(tune="lora")
    save_model(
        model,
        tiny.tokenizer,
        tmp_path,
        config=tiny.config(tune="lora", save="adapter"),
        max_length=32,
    )
    with pytest.raises(ConfigError, match=r"holds an adapter.*--model.save merged"):
        build(tmp_path, tune=tune)


# ---- the tokenizer -------------------------------------------------------------------------------


def test_a_text_cannot_forge_a_control_token(tiny: Any) -> None:
    tokenizer = tiny.tokenizer
    if tokenizer.backend_tokenizer.model.__class__.__name__ == "Unigram":
        pytest.skip(
            "a unigram model holds control tokens as pieces, and transformers cannot change it"
        )
    own = tokenizer("good", "film").input_ids
    for token in tokenizer.all_special_tokens:
        for text in (token, f"good {token} film", f"good{token}", f"{token}{token}"):
            ids = tokenizer(text, add_special_tokens=False).input_ids
            assert ids and not set(ids) & set(tokenizer.all_special_ids), (token, text)
    assert own == tokenizer("good", "film").input_ids  # its own are still added


def test_padding_token_and_side(tiny: Any) -> None:
    tokenizer = tiny.tokenizer
    assert tokenizer.pad_token_id is not None
    assert (
        tokenizer.padding_side
        == tiny.family.padding_side
        == ("left" if tiny.name == "xlnet" else "right")
    )
    model = tiny.model()
    assert model.config.pad_token_id == tokenizer.pad_token_id
    padding = "</s>" if tiny.name in ("llama", "mistral") else None  # published without one
    assert padding is None or tokenizer.pad_token == padding


def test_tokenizer_without_padding_and_end_of_text(copy_of: Callable[[str], Path]) -> None:
    folder = copy_of("llama")
    settings = folder / "tokenizer_config.json"
    edit(settings, eos_token=None, pad_token=None)
    with pytest.raises(
        ConfigError, match=r"neither a padding nor an end-of-text token. Set pad_token"
    ):
        load_tokenizer(str(folder))
    edit(settings, pad_token="<unk>")
    assert load_tokenizer(str(folder)).pad_token == "<unk>"


@pytest.mark.parametrize("name", ["llama", "gpt2", "qwen3"])
def test_decoder_tokenizer_that_ends_a_text_with_its_padding(
    copy_of: Callable[[str], Path], name: str
) -> None:
    folder = copy_of(name)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    eos, eos_id = tokenizer.eos_token, tokenizer.eos_token_id
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=["$A", eos], special_tokens=[(eos, eos_id)]
    )
    tokenizer.save_pretrained(folder)
    with pytest.raises(
        ConfigError, match=r"ends each text with '.*', which is also its padding token"
    ):
        load_tokenizer(str(folder))
    edit(folder / "tokenizer_config.json", pad_token=tokenizer.convert_ids_to_tokens(5))
    assert load_tokenizer(str(folder))("good").input_ids[-1] == eos_id


def test_padding_token_without_an_embedding(copy_of: Callable[[str], Path]) -> None:
    folder = copy_of("llama")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.save_pretrained(folder)
    with pytest.raises(
        ConfigError, match=r"padding token '\[PAD\]' has id (\d+), but .* for \1 tokens"
    ):
        load_tokenizer(str(folder))


@pytest.mark.parametrize("name", ["bert", "roberta", "llama"])
def test_missing_tokenizer_files(copy_of: Callable[[str], Path], name: str) -> None:
    folder = copy_of(name)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ConfigError, match="tokenizer"):
        load_tokenizer(str(folder))
    (folder / "tokenizer_config.json").unlink()
    with pytest.raises(ConfigError, match="tokenizer"):
        load_tokenizer(str(folder))


def test_xlnet_is_given_the_token_types_it_was_trained_with(tiny_of: Callable[[str], Any]) -> None:
    types = tiny_of("xlnet").tokenizer("good", "bad").token_type_ids
    assert types == [0, 0, 1, 1, 2]


# ---- what is written into the model --------------------------------------------------------------


@pytest.mark.parametrize("multilabel", [False, True])
def test_labels_and_problem_type(tiny: Any, multilabel: bool) -> None:
    config = tiny.model(multilabel=multilabel).config
    assert config.id2label == {0: "negative", 1: "neutral", 2: "positive"}
    assert config.label2id == {"negative": 0, "neutral": 1, "positive": 2}
    assert config.num_labels == 3
    assert config.problem_type == f"{'multi' if multilabel else 'single'}_label_classification"
    assert not getattr(config, "use_cache", False)


def test_two_labels_and_as_many_as_hidden_units(tiny: Any) -> None:
    """The output layer is then as wide as the layers before it."""
    assert tiny.logits(tiny.model(labels=["no", "yes"])).shape == (6, 2)
    names = [f"label {i:02}" for i in range(16)]
    model = tiny.model(labels=names)
    assert tiny.logits(model).shape == (6, 16)


def test_model_is_in_fp32_and_its_head_follows_the_seed(tiny: Any) -> None:
    first, same, other = (tiny.model(seed=seed) for seed in (1, 1, 2))
    assert {p.dtype for p in first.parameters()} == {torch.float32}
    differs = {
        name
        for (name, p), q, r in zip(
            first.named_parameters(), same.parameters(), other.parameters(), strict=True
        )
        if not torch.equal(p, q) or not torch.equal(p, r)
    }
    assert all(
        torch.equal(p, q) for p, q in zip(first.parameters(), same.parameters(), strict=True)
    )
    assert differs and all(
        name.startswith(tiny.family.head + tiny.family.unused) for name in differs
    )


def test_a_checkpoint_in_half_precision_is_trained_in_fp32(copy_of: Callable[[str], Path]) -> None:
    folder = copy_of("llama")
    edit_weights(folder, lambda weights: {k: v.bfloat16() for k, v in weights.items()})
    edit(folder / "config.json", dtype="bfloat16")
    model = build(folder)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert str(model.config.dtype) == "torch.float32"


def test_dropout_reaches_every_layer(tiny: Any) -> None:
    """Set to 0, training mode is deterministic; set to 0.5, it is not."""
    for probability in (0.0, 0.5):
        model = tiny.model(dropout=probability).train()
        dropouts = [m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)]
        assert all(p == probability for p in dropouts)
        batch = tiny.batch(model)
        first, second = model(**batch).logits, model(**batch).logits
        assert torch.equal(first, second) == (probability == 0)
        if probability == 0:
            torch.testing.assert_close(first, tiny.logits(model))


def test_dropout_is_the_checkpoint_s_own_unless_set(copy_of: Callable[[str], Path]) -> None:
    folder = copy_of("bert")
    edit(folder / "config.json", hidden_dropout_prob=0.25, classifier_dropout=0.375)
    own = build(folder)
    assert own.dropout.p == 0.375 and own.bert.embeddings.dropout.p == 0.25
    none = build(folder, dropout=0.0)
    assert none.dropout.p == 0.0 and none.bert.embeddings.dropout.p == 0.0


@pytest.mark.parametrize("tune", ["full", "head", "last_n", "lora"])
def test_without_weights_it_has_the_same_shapes(tiny: Any, tune: str) -> None:
    real, planned = tiny.model(tune=tune), tiny.model(tune=tune, weights=False)
    if tiny.name != "xlnet":  # transformers makes its 3-D parameters on the CPU whatever it is told
        assert {p.device.type for p in planned.parameters()} == {"meta"}
    assert count_parameters(planned) == count_parameters(real)
    shapes = [{n: p.shape for n, p in m.named_parameters()} for m in (real, planned)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"checkpoint": ""}, "model.checkpoint is empty"),
        ({"last_n": 0}, "model.last_n=0: must be 1 or more"),
        ({"lora_rank": 0}, "model.lora_rank=0: must be 1 or more"),
        ({"dropout": 1.0}, "model.dropout=1.0: must be at least 0 and below 1"),
        ({"lora_dropout": -0.1}, "model.lora_dropout=-0.1: must be at least 0"),
    ],
)
def test_fields_are_checked(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ModelConfig(**settings)


# ---- a checkpoint that is a classifier already ---------------------------------------------------


def test_trained_head_follows_the_names_of_its_labels(tiny: Any, tmp_path: Path) -> None:
    trained = tiny.model()
    trained.save_pretrained(tmp_path)
    expected = tiny.logits(trained)
    order = ["positive", "negative", "neutral"]
    model = build_model(
        ModelConfig(checkpoint=str(tmp_path)),
        labels=order,
        multilabel=False,
        pad_token_id=tiny.tokenizer.pad_token_id,
        max_length=tiny.max_length,
    )
    torch.testing.assert_close(tiny.logits(model), expected[:, [2, 0, 1]])
    assert model.config.id2label == dict(enumerate(order))


@pytest.mark.parametrize(
    "names", [["sad", "mixed", "happy"], ["LABEL_0", "LABEL_1", "LABEL_2"], ["no", "yes"]]
)
def test_trained_head_of_other_labels_starts_afresh(
    tiny: Any, tmp_path: Path, names: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    trained = tiny.model(labels=names)
    trained.save_pretrained(tmp_path)
    with caplog.at_level(logging.WARNING, logger="llmclf"):
        model = build_model(
            ModelConfig(checkpoint=str(tmp_path)),
            labels=LABELS,
            multilabel=False,
            pad_token_id=tiny.tokenizer.pad_token_id,
            max_length=tiny.max_length,
        )
    assert f"the checkpoint is a classifier of {names}" in caplog.text
    # The rows of the old labels are gone, and all below the output layer is kept.
    before = dict(trained.named_parameters())
    fresh = {n: p for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert fresh and {(n.split(".")[-1], *p.shape) for n, p in fresh.items()} <= {
        ("weight", 3, 16),
        ("bias", 3),
    }
    assert len(fresh) <= 2 and all(name.startswith(tiny.family.head) for name in fresh)


def test_headless_checkpoint_is_not_taken_for_a_classifier(
    tiny: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="llmclf"):
        tiny.model()
    assert "starts afresh" not in caplog.text
