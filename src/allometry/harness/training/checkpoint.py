"""Checkpoints: safetensors and JSON, whole or not there, nothing unpickled."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from allometry.errors import RunError
from allometry.harness.files import file_sha256, read_json, replacing, write_json

LATEST = "latest.json"
MODEL = "model.safetensors"
_AGAIN = "Remove the checkpoint folder to start this run from the beginning."


def save_checkpoint(
    folder: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    state: Mapping[str, Any],
    *,
    writes: bool,
) -> None:
    """Write weights, optimizer state and `state`; a kill leaves the checkpoint before or this one.

    Parameters
    ----------
    folder : Path
        Holds one checkpoint: the one before is removed once this one is whole.
    model, optimizer : Module, Optimizer
        Named as in the model, whatever the number of processes.
    state : mapping
        Plain values with a `step`.
    writes : bool
        False in processes that only help to collect sharded tensors.
    """
    tensors = {name: whole(tensor) for name, tensor in _tensors(model, optimizer).items()}
    if not writes:
        return
    file = f"step-{state['step']:09d}.safetensors"
    _write_tensors(folder / file, tensors)
    document = {"file": file, "sha256": file_sha256(folder / file), "state": dict(state)}
    write_json(folder / LATEST, document)
    for old in folder.glob("step-*.safetensors"):
        if old.name != file:
            old.unlink()


def load_checkpoint(
    folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer
) -> dict[str, Any] | None:
    """Put the checkpoint into model and optimizer; return its state, or None if there is none.

    Raises
    ------
    RunError
        If the file is missing or damaged, or names other tensors than the model has.
    """
    if not (folder / LATEST).is_file():
        return None
    latest = read_json(folder / LATEST)
    try:
        path, sha256, state = folder / latest["file"], latest["sha256"], dict(latest["state"])
    except (KeyError, TypeError, ValueError) as error:
        what = "damaged checkpoint: no file, sha256 and state in it"
        raise RunError(what, where=str(folder / LATEST), hint=_AGAIN) from error
    if not path.is_file() or file_sha256(path) != sha256:
        found = "damaged" if path.is_file() else "missing"
        raise RunError(f"{found} checkpoint", where=str(path), hint=_AGAIN)
    _make_optimizer_state(optimizer)
    wanted = _tensors(model, optimizer)
    try:
        with safetensors.safe_open(path, framework="pt") as file, torch.no_grad():
            if differing := _differing(wanted, file):
                what = f"checkpoint of another model: {', '.join(differing[:5])}"
                hint = "Go on with the version of allometry that wrote it, or remove the folder."
                raise RunError(what, where=str(path), hint=hint)
            for name, tensor in wanted.items():
                _fill(tensor, file.get_tensor(name))
    except safetensors.SafetensorError as error:
        what = f"damaged checkpoint: {error}"
        raise RunError(what, where=str(path), hint=_AGAIN) from error
    return state


def save_weights(folder: Path, model: nn.Module, *, writes: bool) -> None:
    """Write the weights alone as ``model.safetensors``."""
    tensors = {name: whole(parameter) for name, parameter in model.named_parameters()}
    if writes:
        _write_tensors(folder / MODEL, tensors)


def remove_checkpoint(folder: Path) -> None:
    """Remove what a run goes on from, pointer first; the final weights stay."""
    (folder / LATEST).unlink(missing_ok=True)
    for path in folder.glob("step-*.safetensors"):
        path.unlink()


def whole(tensor: Tensor) -> Tensor:
    """Tensor on the CPU, collected from all processes if it is sharded."""
    tensor = tensor.detach()
    if isinstance(tensor, DTensor):
        tensor = tensor.full_tensor()
    return tensor.cpu().contiguous()


def _write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    with replacing(path) as file:
        file.write(safetensors.torch.save(dict(tensors)))


def _tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        found[name] = parameter
        for key, value in optimizer.state.get(parameter, {}).items():
            found[f"optimizer.{key}.{name}"] = value
    return found


def _differing(wanted: Mapping[str, Tensor], file: Any) -> list[str]:
    # Names that only one of the two has, or of other shapes.
    names = set(file.keys())
    other = [n for n in wanted if n in names and wanted[n].shape != _shape(file, n)]
    return sorted(wanted.keys() ^ names) or sorted(other)


def _shape(file: Any, name: str) -> torch.Size:
    return torch.Size(file.get_slice(name).get_shape())


def _make_optimizer_state(optimizer: torch.optim.Optimizer) -> None:
    # AdamW makes its state in the first step; a step at rate 0 with no gradient changes no weight.
    rates = [group["lr"] for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        group["lr"] = 0.0
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate


def _fill(tensor: Tensor, content: Tensor) -> None:
    if isinstance(tensor, DTensor):
        content = distribute_tensor(
            content.to(tensor.device), tensor.device_mesh, tensor.placements, src_data_rank=None
        )
    tensor.copy_(content)
