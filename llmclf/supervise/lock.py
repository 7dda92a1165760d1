"""One run at a time in a run folder: the file ``.lock`` says who runs there.

It is a lease of filelock: it names host, process and the moment that process started, and is
touched while it is held. What a killed process left is taken over: on this machine at once, since
the process is seen to be gone; of another machine, which cannot be asked, once nothing has touched
the file for LEASE_SECONDS by this machine's clock. So it holds on a shared file system, too, where
clocks differ and locks of the operating system may not be honoured.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

import psutil
from filelock import LeaseCompromise, LeaseSettingsMismatch, SoftFileLease, Timeout

from llmclf.config import ConfigError
from llmclf.invisible import quoted

NAME = ".lock"
LEASE_SECONDS = 180.0
BEAT_SECONDS = 20.0
"""Between two touches: a file system may show them to other machines a minute late."""
POLL_SECONDS = 1.0
EMPTY_SECONDS = 10.0
"""How long a file without a name in it is left to whoever is about to write it."""

_held: dict[Path, SoftFileLease] = {}
"""The folders that this process holds."""


def take(folder: Path) -> None:
    """Take the lock of a folder, which is made if it is not there.

    Raises ConfigError, in one line, where another run holds it or it cannot be written.
    """
    path = _path(folder)
    lease = _lease(path)
    if _held.setdefault(path, lease) is not lease:
        raise _in_use(folder, lease)
    try:  # known as held from before it is: a signal may end the process at any moment
        folder.mkdir(parents=True, exist_ok=True)
        if lease.is_lock_held_by_us:
            lease.break_lock()  # this process, before it started itself again
        _wait_for(lease, folder)
        with path.open("a", encoding="utf-8") as file:  # filelock passes over what it knows not
            file.write(f"since={datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC\n")
    except BaseException as error:
        give_back(folder)
        if isinstance(error, OSError):
            text = f"output_dir={quoted(str(folder))} cannot be locked: {error}."
            raise ConfigError(text) from error
        raise


def is_left_by_us(folder: Path) -> bool:
    """Whether the lock is of this process, from before it started itself again."""
    path = _path(folder)
    return path not in _held and _lease(path).is_lock_held_by_us


def is_locked(folder: Path) -> bool:
    """Whether there is a lock, held or left."""
    return _path(folder).exists()


def give_back(folder: Path) -> None:
    """Release the lock of a folder, if this process holds it; what is empty then is removed."""
    path = _path(folder)
    if path in _held:
        with contextlib.suppress(OSError):
            _held[path].release(force=True)
            folder.rmdir()
        del _held[path]


def end(code: int) -> NoReturn:
    """End the process here and now, whatever its threads do, and let go of its folders: another
    machine that goes on with the run need not wait."""
    for lease in list(_held.values()):
        if lease.is_lock_held_by_us:
            lease.break_lock()  # needs no lock of this process, which a thread may hold
    os._exit(code)


def _path(folder: Path) -> Path:
    return folder.resolve() / NAME


def _lease(path: Path) -> SoftFileLease:
    return SoftFileLease(
        path,
        lease_duration=LEASE_SECONDS,
        heartbeat_interval=BEAT_SECONDS,
        on_compromise=_lost,
        thread_local=False,
    )


def _wait_for(lease: SoftFileLease, folder: Path) -> None:
    """Take a lease that is free or left; of another machine, see first whether anybody touches
    it."""
    started, seen = time.monotonic(), None
    while True:
        try:
            lease.acquire(timeout=0)
            return
        except LeaseSettingsMismatch:  # held by a version with other seconds
            raise _in_use(folder, lease) from None
        except Timeout:
            waited, touched = time.monotonic() - started, _touched(lease)
        moved = None not in (seen, touched) and touched != seen
        if moved or _runs_here(lease) or waited > 2 * LEASE_SECONDS:
            raise _in_use(folder, lease)
        if seen is None:
            text = f"{_in_use(folder, lease, advice='')} Waiting up to {LEASE_SECONDS:g} s for a"
            print(f"{text} sign of life", file=sys.stderr, flush=True)
        elif waited > EMPTY_SECONDS and touched is not None and touched[1] == 0:
            lease.break_lock()  # whoever made it was killed before it wrote its name
        seen = touched
        time.sleep(min(POLL_SECONDS, LEASE_SECONDS / 10))


def _touched(lease: SoftFileLease) -> tuple[int, int] | None:
    """When the file changed last, and its size."""
    try:
        found = os.stat(lease.lock_file)
        return found.st_mtime_ns, found.st_size
    except OSError:
        return None


def _runs_here(lease: SoftFileLease) -> bool:
    """Whether the holder is a process of this machine that is alive: filelock has just seen that it
    is the same one. What follows the host's name tells containers apart."""
    owner = lease.owner
    if owner is None or owner.hostname.partition("?")[0] != socket.gethostname():
        return False
    return psutil.pid_exists(owner.pid)


def _in_use(folder: Path, lease: SoftFileLease, advice: str | None = None) -> ConfigError:
    owner, since = lease.owner, _since(Path(lease.lock_file))
    who = "" if owner is None else f" by process {owner.pid} on {owner.hostname.partition('?')[0]}"
    if advice is None:
        advice = (
            " Wait until it ends, or end it, and go on with --resume; or choose another "
            "--output-dir or --name."
        )
    return ConfigError(f"output_dir={quoted(str(folder))} is in use{who}{since}.{advice}")


def _since(path: Path) -> str:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    found = [line.removeprefix("since=") for line in lines if line.startswith("since=")]
    return f" since {found[0]}" if found else ""


def _lost(loss: LeaseCompromise) -> None:
    """Called by the thread that touches the file."""
    path = Path(loss.lock_file)
    if path not in _held:
        return
    if loss.reason == "owner-changed":
        # Only after this process stood still for minutes. Two must not write, so nothing is saved.
        print(f"error: another run took over {path.parent}; ending", file=sys.stderr, flush=True)
        os._exit(1)
    print(
        f"warning: {path} is gone or cannot be touched: another run may start in its folder",
        file=sys.stderr,
        flush=True,
    )
