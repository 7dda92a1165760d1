"""A real Slurm of two nodes on this machine, over loopback: no system daemon, no container."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

from tests.processes import REPOSITORY, free_port, launch_environment

BINARIES = ("slurmctld", "slurmd", "sbatch", "srun", "scontrol", "scancel", "sinfo")
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED")
SETTINGS = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/none
CredType=cred/none
AuthInfo=cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmdLogFile={folder}/slurmd.%n.log
SlurmctldLogFile={folder}/slurmctld.log
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=2,sched_interval=2,batch_sched_delay=0
ReturnToService=2
KillWait=5
SlurmdTimeout=30
JobRequeue=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={port1} CPUs=1 RealMemory=500
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={port2} CPUs=1 RealMemory=500
PartitionName=low Nodes=ALL Default=YES PriorityTier=1 GraceTime=60 PreemptMode=REQUEUE
PartitionName=high Nodes=ALL PriorityTier=10 PreemptMode=OFF
"""


def missing() -> str | None:
    """Why no Slurm can be started here."""
    absent = [name for name in BINARIES if shutil.which(name, path=PATH) is None]
    if absent:
        return f"no Slurm: {', '.join(absent)} missing (apt-get install slurmctld slurmd)"
    return "Slurm's daemons need root" if os.geteuid() else None


PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


class Cluster:
    """slurmctld and two slurmd, stopped by their process ids."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}
        for name in ("state", "spool/n1", "spool/n2"):
            (folder / name).mkdir(parents=True)
        ports = [free_port() for _ in range(3)]
        text = SETTINGS.format(
            host=socket.gethostname().split(".")[0],
            folder=folder,
            port=ports[0],
            port1=ports[1],
            port2=ports[2],
        )
        (folder / "slurm.conf").write_text(text)
        self.environment = launch_environment() | {
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": f"{Path(sys.executable).parent}:{PATH}",
        }

    def start(self) -> None:
        """Return when both nodes are idle."""
        self.daemon("slurmctld", "slurmctld", "-D", "-c")
        for node in ("n1", "n2"):
            self.start_node(node)
        deadline = time.monotonic() + 60
        while self.call("sinfo", "-h", "-o", "%T %D").split("\n")[0] != "idle 2":
            assert time.monotonic() < deadline, self.call("sinfo", "-R")
            time.sleep(0.2)

    def start_node(self, node: str) -> None:
        self.daemon(node, "slurmd", "-D", "-c", "-N", node)

    def daemon(self, name: str, *command: str) -> None:
        with (self.folder / f"{name}.out").open("ab") as log:
            self.daemons[name] = subprocess.Popen(
                command, env=self.environment, stdout=log, stderr=log
            )

    def stop(self) -> None:
        """End all jobs, then the daemons."""
        subprocess.run(["scancel", "--user=root"], env=self.environment, check=False)
        deadline = time.monotonic() + 15
        while "JobState=RUNNING" in self.call("scontrol", "show", "jobs"):
            if time.monotonic() > deadline:
                break
            time.sleep(0.2)
        for daemon in reversed(self.daemons.values()):
            daemon.terminate()
        for daemon in self.daemons.values():
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    def call(self, *command: str) -> str:
        """Run a command of Slurm; its output, errors included."""
        done = subprocess.run(
            command,
            cwd=REPOSITORY,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        return done.stdout.strip()

    def submit(self, *arguments: str) -> int:
        """``sbatch ARGUMENTS`` from the repository's root; returns the job's id."""
        said = self.call("sbatch", "--parsable", *arguments)
        assert said.isdigit(), said
        return int(said)

    def job(self, job: int) -> dict[str, str]:
        """What ``scontrol show job`` says."""
        return dict(re.findall(r"(\w+)=(\S*)", self.call("scontrol", "show", "job", str(job))))

    def wait(self, job: int, *states: str, seconds: float = 180) -> dict[str, str]:
        """Wait until the job is in one of the states, by default one of the final ones."""
        deadline = time.monotonic() + seconds
        while (facts := self.job(job))["JobState"] not in (states or ENDED):
            assert time.monotonic() < deadline, facts
            time.sleep(0.2)
        return facts
