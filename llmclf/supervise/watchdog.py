"""A thread per rank that ends the process where the main thread cannot: it may sit in a collective
that a dead rank will never join.

The ranks share one reason to end, the first that any of them posts, through a key of the process
group's store: a rank died, failed, ran out of memory, or was told to stop. Each watchdog reads it
twice a second and looks whether the local ranks and the launcher are alive. Of other machines the
first rank looks whether they are heard of at all.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import threading
import time
import traceback
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import psutil

from llmclf import ranks
from llmclf.config import ConfigError
from llmclf.supervise import lock, out_of_memory, signals

if TYPE_CHECKING:
    import torch.distributed as dist

POLL_SECONDS = 0.5
GRACE_SECONDS = "LLMCLF_GRACE_SECONDS"
"""Environment variable: seconds from a signal to the next step boundary; the process ends without
one after that."""
IDLE_SECONDS = 2.0  # outside the loop a signal ends the process after that, time for a message
FAILED_SECONDS = 5.0  # from the failure of one rank to the end of the others, which may say why
LOST_SECONDS = 3.0  # without the store
RESTART_SECONDS = 60.0
SILENT_LOOKS = 120  # of another machine, a minute: long calls into libraries hold up its watchdogs
STORE_SECONDS = timedelta(seconds=5)


@dataclass(frozen=True)
class EndReason:
    """Why all ranks end, or start again."""

    kind: Literal["died", "failed", "stop", "memory", "exhausted"]
    message: str = ""
    """What the user is told, printed by the rank that posts it."""
    micro_batch_limit: int = 0
    """Rows of a micro-batch at most after the restart, for ``memory``."""


@dataclass(frozen=True)
class RankContext:
    """This process among the ranks of its launch, as the launcher told it."""

    rank: int
    world_size: int
    local_ranks: range
    machine: int
    machines: int
    launcher: int | None
    """Process id of torchrun's agent or of accelerate's launcher, if one started this process."""
    hosts_store: bool
    """Whether this process, not the launcher, serves the store."""

    @classmethod
    def of_this_process(cls) -> RankContext:
        """Read what launchers put into the environment."""
        first = ranks.rank() - ranks.local_rank()
        served = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
        return cls(
            rank=ranks.rank(),
            world_size=ranks.world_size(),
            local_ranks=range(first, first + ranks.local_world_size()),
            machine=ranks.machine(),
            machines=ranks.machines(),
            launcher=_launcher(),
            hosts_store=ranks.rank() == 0 and not served,
        )

    @property
    def alone(self) -> bool:
        """Whether this process was started by hand as the only one: nobody to look after."""
        return self.world_size == 1 and self.launcher is None


def _launcher() -> int | None:
    parent = os.getppid()
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return parent
    # accelerate starts a single process without torchrun. The variable alone could come from a
    # shell, whose end means nothing.
    if "ACCELERATE_MIXED_PRECISION" in os.environ:
        try:
            if any("accelerate" in part for part in psutil.Process(parent).cmdline()):
                return parent
        except psutil.Error:
            return None
    return None


class Watchdog(threading.Thread):
    """Watches over the ranks of a launch. Start it in the main thread; :meth:`leave` when the run
    ends by itself.

    Raises ConfigError where the grace time is no number.
    """

    def __init__(self, context: RankContext) -> None:
        super().__init__(name="watchdog", daemon=True)
        self.context = context
        self.grace_seconds = grace_seconds()
        self.reason: EndReason | None = None
        self.reason_since = 0.0
        self.lost_since: float | None = None
        self.leaving = False
        self.peers: dict[int, psutil.Process | None] = {}
        self.heard: dict[int, tuple[int, int]] = {}  # of a machine: its last beat, looks since then
        self.store: dist.Store | None = None
        self.connecting = threading.Lock()
        # The main thread's handlers do not run while it sits in a collective, but the interpreter
        # writes the signal's number here at once.
        self.signals, self.wakeup = os.pipe()
        os.set_blocking(self.wakeup, False)
        self.wakeup_before = signal.set_wakeup_fd(self.wakeup, warn_on_full_buffer=False)

    def run(self) -> None:
        """Look, twice a second and at each signal."""
        while not self.leaving:
            # Often until all are known: who dies before that is missed.
            met = self.context.world_size == 1 or len(self.peers) == len(self.context.local_ranks)
            if select.select([self.signals], [], [], POLL_SECONDS if met else POLL_SECONDS / 10)[0]:
                self.take(os.read(self.signals, 64))
            if not self.leaving:
                self.look()

    def take(self, numbers: bytes) -> None:
        """Note signals that came."""
        for number in numbers:
            if number in signals.SIGNALS:
                signals.received(number)

    def look(self) -> None:
        """Look at everything that may end the process."""
        if self.context.launcher not in (None, os.getppid()):
            signals.request("the end of its launcher")
            self.lost_since = self.lost_since or time.monotonic()  # it may have held the store
        if self.context.world_size > 1 and self.lost_since is None:
            try:
                self.look_at_ranks()
            except RuntimeError:  # torch's errors of a store that is gone
                self.lost_since = time.monotonic()
        if signals.overdue(self.grace_seconds, IDLE_SECONDS):
            self.post(EndReason("stop"))
        self.act()

    def look_at_ranks(self) -> None:
        """Read the shared reason to end, and see whether the local ranks are alive."""
        store = self.connected()
        if store is None:
            return
        if self.reason is None and store.check(["verdict"]):
            self.accept(store.get("verdict"))
        for rank in self.context.local_ranks:
            if rank not in self.peers and store.check([f"pid/{rank}"]):
                self.peers[rank] = _process(int(store.get(f"pid/{rank}")))
            gone = rank in self.peers and not _alive(self.peers[rank])
            if gone and not store.check([f"left/{rank}"]):
                host = socket.gethostname()
                self.post(EndReason("died", f"rank {rank} on {host} died; ending all ranks"))
        if self.context.machines > 1:
            self.look_at_machines(store)

    def look_at_machines(self, store: dist.Store) -> None:
        """Let this machine be heard of, and miss those that are not."""
        if self.context.rank == self.context.local_ranks[0]:
            store.add(f"beat/{self.context.machine}", 1)
        for machine in range(self.context.machines) if self.context.rank == 0 else ():
            beat = store.add(f"beat/{machine}", 0)
            last, looks = self.heard.get(machine, (0, 0))
            # Looks, not seconds: they stand still while this process is suspended, too.
            self.heard[machine] = (beat, looks + 1 if beat == last and beat else 0)
            if looks > SILENT_LOOKS and not store.check([f"away/{machine}"]):
                silent = f"machine {machine} of {self.context.machines} is silent"
                self.post(EndReason("died", f"{silent}; ending all ranks"))

    def connected(self) -> dist.Store | None:
        """A connection of our own to the store: the group's is locked while another thread waits on
        it. None before the process group is up."""
        with self.connecting:
            if self.store is None and group_is_joined():
                import torch.distributed as dist

                address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
                server = dist.TCPStore(
                    address, port, None, False, STORE_SECONDS, wait_for_workers=False
                )
                store = dist.PrefixStore("llmclf", server)
                store.set(f"pid/{self.context.rank}", str(os.getpid()))
                self.store = store
            return self.store

    def post(self, reason: EndReason) -> None:
        """Share a reason to end; the first that any rank posts holds."""
        if self.reason is not None:
            return
        text = json.dumps(asdict(reason))
        try:
            store = self.connected()
            first = text if store is None else store.compare_set("verdict", "", text).decode()
        except RuntimeError:
            first = text
        if first == text and reason.message:
            print(reason.message, file=sys.stderr, flush=True)
        self.accept(first)

    def accept(self, text: str | bytes) -> None:
        self.reason_since = time.monotonic()
        self.reason = EndReason(**json.loads(text))

    def act(self) -> None:
        """End or restart the process where there is a reason."""
        now, reason = time.monotonic(), self.reason
        if reason is None:
            lost = self.lost_since is not None and now - self.lost_since > LOST_SECONDS
            # Where a signal ends the run, the launcher with the store may end before its ranks.
            if lost and not signals.requested():
                print(
                    f"rank {self.context.rank}: lost the other ranks", file=sys.stderr, flush=True
                )
                lock.end(1)
        elif reason.kind == "memory":
            self.restart(reason.micro_batch_limit)
        elif reason.kind == "stop":
            signals.leave()
        elif reason.kind != "failed" or now - self.reason_since > FAILED_SECONDS:
            lock.end(1)

    def restart(self, micro_batch_limit: int) -> NoReturn:
        """Start this process anew, together with the other ranks."""
        if signals.requested():
            signals.leave()
        try:
            if self.context.world_size > 1:
                self.meet_elsewhere()
            out_of_memory.restart(micro_batch_limit)
        except Exception:
            traceback.print_exc()
            lock.end(1)  # the main thread waits for the restart

    def meet_elsewhere(self) -> None:
        """Agree on a new store: the old one is full of the keys of this start."""
        assert self.store is not None
        if self.context.rank == 0:
            self.store.set("meet", " ".join(_new_address()))
        self.store.wait(["meet"], timedelta(seconds=RESTART_SECONDS))
        address, port = self.store.get("meet").decode().split()
        restarting = self.store.add("restarting", 1)
        deadline = time.monotonic() + RESTART_SECONDS
        while self.context.hosts_store and restarting < self.context.world_size:
            assert time.monotonic() < deadline, "a rank did not come to the restart"
            time.sleep(0.05)
            restarting = self.store.add("restarting", 0)
        os.environ |= {
            "MASTER_ADDR": address,
            "MASTER_PORT": port,
            "TORCHELASTIC_USE_AGENT_STORE": "False",
        }

    def leave(self, *, failed: bool) -> None:
        """Let the main thread leave the run; from now on the others need not wait for this rank."""
        left = self.context.world_size
        try:
            if self.store is not None and self.lost_since is None:
                if failed:
                    self.post(EndReason("failed"))
                if self.reason is not None and self.reason.kind == "memory":
                    threading.Event().wait()  # not left: the thread is about to start it again
                self.store.set(f"left/{self.context.rank}", "")
                self.store.set(f"away/{self.context.machine}", "")
                left = self.store.add("left", 1)
        except RuntimeError:
            failed = True
        self.leaving = True
        signal.set_wakeup_fd(self.wakeup_before)
        os.write(self.wakeup, b"\0")
        self.join(timeout=5)
        if self.store is not None and self.context.hosts_store and not failed:
            deadline = time.monotonic() + 2 * FAILED_SECONDS
            while left < self.context.world_size and time.monotonic() < deadline:
                time.sleep(0.02)
                left = self.store.add("left", 0)


def grace_seconds() -> float:
    """The grace time that is set, or one minute."""
    text = os.environ.get(GRACE_SECONDS, "60")
    try:
        return float(text)
    except ValueError as error:
        raise ConfigError(f"{GRACE_SECONDS}={text!r}: must be a number of seconds.") from error


def _process(pid: int) -> psutil.Process | None:
    try:
        return psutil.Process(pid)
    except psutil.NoSuchProcess:
        return None


def _alive(process: psutil.Process | None) -> bool:
    try:
        return (
            process is not None
            and process.is_running()
            and process.status() != psutil.STATUS_ZOMBIE
        )
    except psutil.NoSuchProcess:
        return False


def _new_address() -> tuple[str, str]:
    """An address of this host that the other ranks reach, and a free port."""
    server = os.environ["MASTER_ADDR"]
    with socket.create_connection((server, int(os.environ["MASTER_PORT"]))) as connection:
        here, there = connection.getsockname()[0], connection.getpeername()[0]
    with socket.socket() as listener:
        listener.bind(("", 0))
        port = str(listener.getsockname()[1])
    return (server if here == there else here), port


def group_is_joined() -> bool:
    """Whether this process has joined the others. Imports nothing: the main thread may just be
    importing torch, which takes seconds."""
    distributed: Any = sys.modules.get("torch.distributed")
    joined = getattr(distributed, "is_initialized", None)
    return joined is not None and bool(joined())
