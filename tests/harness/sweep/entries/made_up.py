"""An entry whose runs take a moment and whose loss is a formula: sweeps without training."""

import json
import os
import time
from pathlib import Path

from allometry.errors import KernelError
from allometry.harness.files import write_json

STEPS = 5


def make(row, folder, config):
    settings = config.settings or {}
    run_id = row["run_id"]
    with (Path(settings["journal"]) / f"{run_id}.{os.getpid()}.{time.monotonic_ns()}").open("x"):
        pass  # one file for each time that anybody began this run
    for step in range(len(_lines(folder)), STEPS):
        time.sleep(settings.get("seconds", 0.0) / STEPS)
        point = {"step": step + 1, "tokens": 10 * (step + 1), "train_loss": 5.0 - step}
        point |= {"val_loss": None, "learning_rate": 1e-3, "grad_norm": 1.0}
        with (folder / "curve.jsonl").open("a") as file:
            file.write(json.dumps(point) + "\n")
        write_json(folder / "status.json", {"status": "running", "step": step + 1, "steps": STEPS})
    if run_id in settings.get("raise", []):
        raise ValueError("a made-up\nfailure")
    if run_id in settings.get("die", []):
        os.kill(os.getpid(), 9)
    diverged = run_id in settings.get("diverge", [])
    loss = None if diverged else 1.7 + row["params"] ** -0.3 + row["tokens"] ** -0.3
    kept = {name: row[name] for name in ("architecture", "context_length", "params", "tokens")}
    document = {"run_id": run_id, **kept, "flops": row["flops"], "loss": loss}
    reason = "made up" if diverged else ""
    write_json(folder / "result.json", {**document, "diverged": diverged, "reason": reason})


def refuse(row, folder, config):
    raise KernelError("the kernels of this device are wrong")


def forget_the_result(row, folder, config):
    pass


def _lines(folder):
    path = folder / "curve.jsonl"
    return path.read_text().splitlines() if path.is_file() else []
