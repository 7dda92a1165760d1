"""Strict dataclass <-> JSON, and the two errors a user may cause. Knows no field of ours."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import json
import re
import sys
import types
import typing
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

from llmclf.invisible import belongs, quoted
from llmclf.ranks import is_main, local_rank, tell_launcher

T = TypeVar("T")
_CHANGEABLE = "changeable"
_ESCAPE = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?|.?)", re.DOTALL)
_JOINERS = "\u200c\u200d"


class UserError(Exception):
    """A mistake that the user can mend; the command line turns it into one message and exit code
    2."""


class ConfigError(UserError):
    """A setting, or a combination of settings, that cannot work."""


class LaunchError(ConfigError):
    """A launch that cannot be what it says, for any run in it; maybe on one machine of several."""


class DataError(UserError):
    """Rows, columns or files that cannot be used as they are."""


class RunError(Exception):
    """A failure that no setting mends, such as a full disk: one message, and exit code 1."""


def did_you_mean(name: str, allowed: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the nearest allowed name, or an empty string."""
    names = list(allowed)
    folded = {n.casefold(): n for n in reversed(names)}
    close = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.6)
    return f" Did you mean {quoted(folded[close[0]])}?" if close else ""


def changeable(default: T) -> T:
    """A field that decides no result, such as how much is computed at once: a resumed run may
    change it. For a section of settings: all of its fields."""
    return dataclasses.field(default=default, metadata={_CHANGEABLE: True})


def changeable_keys(config: Any, prefix: str = "") -> set[str]:
    """Keys, as :func:`flatten` has them, of the fields of a dataclass and of its sections that are
    :func:`changeable`."""
    found: set[str] = set()
    for f in dataclasses.fields(config):
        value, key = getattr(config, f.name), prefix + f.name
        section = dataclasses.is_dataclass(value)
        if not f.metadata.get(_CHANGEABLE):
            found |= changeable_keys(value, f"{key}.") if section else set()
        elif section:
            found |= {f"{key}.{name}" for name in flatten(to_json(value))}
        else:
            found.add(key)
    return found


def to_json(config: Any) -> Any:
    """Turn a (nested) dataclass into plain JSON values; paths become strings."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return {f.name: to_json(getattr(config, f.name)) for f in dataclasses.fields(config)}
    if isinstance(config, (list, tuple)):
        return [to_json(value) for value in config]
    return str(config) if isinstance(config, Path) else config


def from_json(cls: type[T], value: Any, key: str = "") -> T:
    """Build ``cls`` from what :func:`to_json` gave.

    Raises ConfigError on an unknown or missing key and on a value of the wrong type.
    """
    if not isinstance(value, dict):
        raise ConfigError(f"{key or 'the file'}: expected an object, got {type(value).__name__}.")
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for name in value:
        if name not in fields:
            hint = did_you_mean(name, fields)
            raise ConfigError(
                f"unknown key {quoted(_join(key, name))}.{hint} Allowed: {sorted(fields)}."
            )
    missing = [n for n, f in fields.items() if n not in value and _required(f)]
    if missing:
        raise ConfigError(f"missing key {quoted(_join(key, missing[0]))}.")
    hints = typing.get_type_hints(cls)
    return cls(**{n: _convert(hints[n], v, _join(key, n)) for n, v in value.items()})


def _required(field: dataclasses.Field) -> bool:
    missing = dataclasses.MISSING
    return field.default is missing and field.default_factory is missing


def _join(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name


def _convert(hint: Any, value: Any, key: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return _convert(args[0], value, key)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        return _convert_any([a for a in args if a is not type(None)], value, key)
    if origin is Literal:
        if value not in args:
            raise ConfigError(f"{key}={quoted(value)}: allowed are {list(args)}.")
        return value
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{key}={quoted(value)}: expected a list.")
        return tuple(_convert(args[0], v, key) for v in value)
    if dataclasses.is_dataclass(hint):
        return from_json(typing.cast(type, hint), value, key)
    if hint is Path and isinstance(value, str):
        return Path(value)
    # bool is an int to Python, and JSON writes 1.0 as 1: accept only what cannot mislead.
    accepted = isinstance(value, hint) and not (isinstance(value, bool) and hint is not bool)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not accepted:
        got = f"{quoted(value)} ({type(value).__name__})"
        raise ConfigError(f"{key}={got}: expected {hint.__name__}.")
    return value


def _convert_any(hints: list[Any], value: Any, key: str) -> Any:
    """The value as the first of the types that takes it."""
    for hint in hints[:-1]:
        with contextlib.suppress(ConfigError):
            return _convert(hint, value, key)
    return _convert(hints[-1], value, key)


def dump_json(value: Any) -> str:
    """JSON text with a final newline; refuses NaN and infinity, which JSON does not know."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def flatten(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as ``{"train.epochs": 3.0, ...}``."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        name = f"{prefix}{key}"
        flat |= flatten(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return flat


def plain(text: str) -> str:
    """Return one line that cannot steer a terminal.

    Escape sequences go; other control characters, line breaks and direction marks become spaces.
    Joiners stay: Persian words and emoji hold them.
    """
    text = _ESCAPE.sub("", text)
    return "".join(c if belongs(text, i) or c in _JOINERS else " " for i, c in enumerate(text))


@contextlib.contextmanager
def exit_on_user_error() -> Iterator[None]:
    """Turn a UserError into its message on stderr and exit code 2; of several ranks, the first one
    speaks, and of each machine where it is about the launch. A RunError, and a loss or score that
    is not finite, get exit code 1, an interruption 130.
    """
    try:
        yield
    except (UserError, RunError, FloatingPointError, KeyboardInterrupt) as error:
        interrupted = "interrupted. An unfinished run goes on with --resume."
        lines = (str(error) or interrupted).splitlines()
        message = "error: " + "\n".join(map(plain, lines))
        if is_main() or (isinstance(error, LaunchError) and local_rank() == 0):
            print(message, file=sys.stderr)
        tell_launcher(message)
        sys.exit(2 if isinstance(error, UserError) else 1 if str(error) else 130)
