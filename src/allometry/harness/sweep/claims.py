"""Claims: of several workers, on one machine or many, exactly one makes a run.

A claim is a file ``RUN_ID.GENERATION`` in a folder that all workers see. It appears whole, by a
hard link, which fails if the name exists; its holder touches it every few seconds. A claim is dead
when its process is known to be gone (same machine) or it was not touched for `STALE_SECONDS`. A
dead claim is never removed: the next worker makes the next generation, and again only one succeeds.
The highest generation holds the run, so a worker that was only asleep sees, when it touches its
claim, that it has lost it, and stops.
"""

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from glob import escape
from pathlib import Path

import psutil

from allometry.files import TEMPORARY

HEARTBEAT_SECONDS = 5.0
STALE_SECONDS = 60.0
LOST_EXIT_CODE = 75
"""Of a process that ended because another had taken its run, or its parent had died."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """A run that this process holds.

    Attributes
    ----------
    path : Path
        The file of its generation.
    run_id : str
        Of the run.
    generation : int
        From 0; how many earlier holders died.
    """

    path: Path
    run_id: str
    generation: int

    def touch(self) -> bool:
        """Say that the holder lives; False if another holds the run by now."""
        try:
            os.utime(self.path)
        except FileNotFoundError:
            return False
        latest = _latest(self.path.parent, self.run_id)
        return latest is not None and latest == self.generation

    def release(self) -> None:
        """Give the run up, done or not."""
        self.path.unlink(missing_ok=True)


def try_claim(folder: Path, run_id: str, *, stale_seconds: float = STALE_SECONDS) -> Claim | None:
    """Claim a run, or return None if a living worker holds it.

    Parameters
    ----------
    folder : Path
        Of the claims, on a disk that every worker sees.
    run_id : str
        The run; no dots at its end, so that generations can be told.
    stale_seconds : float
        Age of the last touch at which a holder on another machine counts as dead.
    """
    latest = _latest(folder, run_id)
    if latest is not None and _lives(folder / f"{run_id}.{latest}", stale_seconds):
        return None
    generation = 0 if latest is None else latest + 1
    path = folder / f"{run_id}.{generation}"
    me = psutil.Process()
    holder = {"host": socket.gethostname(), "pid": me.pid, "started": me.create_time()}
    temporary = folder / f"{TEMPORARY}{uuid.uuid4().hex}"
    try:
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(holder, file)
            file.flush()
            os.fsync(file.fileno())  # whole for other machines, too, and after a loss of power
        os.link(temporary, path)
    except FileExistsError:
        return None  # another worker was faster
    finally:
        temporary.unlink(missing_ok=True)
    return Claim(path=path, run_id=run_id, generation=generation)


def holder_of(folder: Path, run_id: str, *, stale_seconds: float = STALE_SECONDS) -> str:
    """Host and process of the living worker that holds a run; empty if none does."""
    latest = _latest(folder, run_id)
    if latest is None or not _lives(folder / f"{run_id}.{latest}", stale_seconds):
        return ""
    holder = _read(folder / f"{run_id}.{latest}")
    return f"{holder['host']} {holder['pid']}" if holder else ""


def claims_of(folder: Path, pid: int) -> list[str]:
    """Runs that a process of this machine claimed and did not release, dead or alive."""
    return sorted(path.name.rpartition(".")[0] for path in _claims(folder, pid))


def release_all(folder: Path, pid: int) -> None:
    """Give up every run that a process of this machine holds; nothing if there is none."""
    for path in _claims(folder, pid):
        path.unlink(missing_ok=True)


@contextmanager
def heartbeat(claim: Claim, *, parent: int = 0) -> Iterator[None]:
    """Touch a claim while the block runs, and release it at the end.

    The process ends at once, with `LOST_EXIT_CODE`, when the claim is lost or when `parent` (a
    process id; 0: nobody) is no longer its parent: what it would still write is another's by then.
    """
    over = threading.Event()

    def beat() -> None:
        last = time.monotonic()
        while not over.wait(0.5):
            if parent and os.getppid() != parent:
                os._exit(LOST_EXIT_CODE)
            if time.monotonic() - last >= HEARTBEAT_SECONDS:
                last = time.monotonic()
                if not claim.touch() and not over.is_set():
                    os._exit(LOST_EXIT_CODE)

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    try:
        thread.start()
        yield
    finally:
        over.set()
        if thread.is_alive():
            thread.join()
        claim.release()


def _claims(folder: Path, pid: int) -> list[Path]:
    held = []
    for path in folder.glob("*.*"):
        holder = _read(path) if not path.name.startswith(TEMPORARY) else None
        if holder and holder["host"] == socket.gethostname() and holder["pid"] == pid:
            held.append(path)
    return held


def _latest(folder: Path, run_id: str) -> int | None:
    generations = [
        int(suffix)
        for path in folder.glob(f"{escape(run_id)}.*")
        if (suffix := path.name[len(run_id) + 1 :]).isdigit()
    ]
    return max(generations, default=None)


def _read(path: Path) -> dict[str, object] | None:
    try:
        return dict(json.loads(path.read_text()))
    except (FileNotFoundError, ValueError):
        return None  # released in this moment; or a disk lost it, and its holder with it


def _lives(path: Path, stale_seconds: float) -> bool:
    holder = _read(path)
    if holder is None:
        return False
    if holder["host"] == socket.gethostname():
        try:
            process = psutil.Process(int(str(holder["pid"])))
            same = bool(process.create_time() == holder["started"])
            return same and bool(process.status() != psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return False
    try:
        return time.time() - path.stat().st_mtime < stale_seconds
    except FileNotFoundError:
        return False
