"""The machine at hand: one worker process for each GPU, or for each so many cores."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

from allometry.errors import RunError
from allometry.harness.sweep.claims import LOST_EXIT_CODE, claims_of
from allometry.harness.sweep.executors import (
    Executor,
    Watch,
    raise_what_stops_all,
    require_workers,
)
from allometry.harness.sweep.folder import SweepFolder
from allometry.harness.sweep.worker import REFUSED_EXIT_CODE

MAX_DEATHS = 3
"""A run whose worker was killed so often (too little memory, say) is recorded as failed."""
_STOP_SECONDS = 30.0
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@final
@dataclass(frozen=True, kw_only=True)
class LocalExecutor(Executor):
    """Worker processes on this machine.

    Attributes
    ----------
    workers : int
        How many; 0: one for each GPU, or one for each ``threads`` cores.
    """

    workers: int = 0

    def __post_init__(self) -> None:
        require_workers(self.workers)

    def execute(self, folder: SweepFolder, *, watch: Watch) -> None:
        """See `Executor.execute`."""
        threads = folder.config().threads
        gpus = _gpus()
        count = self.workers or len(gpus) or max(1, (os.cpu_count() or 1) // max(1, threads))
        logs = folder.path / "workers"
        logs.mkdir(exist_ok=True)
        crew = [
            _Worker(folder, logs / f"{k}.log", threads, gpus[k % len(gpus)] if gpus else "")
            for k in range(count)
        ]
        deaths: Counter[str] = Counter()
        try:
            for worker in crew:
                worker.start()
            while any([worker.tend(deaths) for worker in crew]):  # a list: tend every one
                watch()
                time.sleep(0.5)
            watch()
        finally:
            for worker in crew:
                worker.ask_to_stop()
            for worker in crew:
                worker.wait()


@dataclass
class _Worker:
    # One process, started again when it is killed.
    folder: SweepFolder
    log: Path
    threads: int
    gpu: str
    process: "subprocess.Popen[bytes] | None" = field(default=None, init=False)

    def start(self) -> None:
        environment = {
            **os.environ,
            **dict.fromkeys(_THREAD_VARIABLES, str(self.threads)),
            **({"CUDA_VISIBLE_DEVICES": self.gpu} if self.gpu else {}),
        }
        command = [sys.executable, "-m", "allometry.harness.sweep", str(self.folder.path)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--parent", str(os.getpid())],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C reaches the parent, which asks in its turn
            )

    def tend(self, deaths: Counter[str]) -> bool:
        # Whether it still works; restarts it if it was killed.
        code = None if self.process is None else self.process.poll()
        if code is None:
            return True
        if code == 0:
            return False
        if code == REFUSED_EXIT_CODE:
            kind, _, what = _last_line(self.log).partition(": ")
            raise_what_stops_all(kind, what, hint=f"See {self.log}.")
        pid = self.process.pid if self.process else 0
        held = claims_of(self.folder.claims, pid)
        if not held and code != LOST_EXIT_CODE:
            raise RunError(
                f"a worker ended with exit code {code}: {_last_line(self.log)}",
                where=str(self.log),
            )
        for run_id in held:
            deaths[run_id] += 1
            if deaths[run_id] >= MAX_DEATHS and not self.folder.is_over(run_id):
                what = f"its worker died {MAX_DEATHS} times, the last with exit code {code}"
                self.folder.note_failure(run_id, what)
        self.start()
        return True

    def ask_to_stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)

    def wait(self) -> None:
        if self.process is None:
            return
        try:
            self.process.wait(timeout=_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _gpus() -> list[str]:
    # As CUDA_VISIBLE_DEVICES wants them: a device hidden from us stays hidden from the workers.
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    return (visible.split(",") if visible else [str(k) for k in range(count)])[:count]


def _last_line(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1].strip() if lines else "no output"
