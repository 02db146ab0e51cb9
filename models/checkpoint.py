"""A model as a folder: parameters in safetensors, the shape beside them in JSON."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from allometry.accounting import Shape, TransformerShape, XLSTMShape
from allometry.errors import InputError
from allometry.files import replacing
from allometry.models.build import Model, skeleton

CONFIG_FILE = "config.json"
TENSORS_FILE = "model.safetensors"
FORMAT = "allometry-model"
VERSION = 1
"""Of the two files together; rises when an older reader would misread them."""

_SHAPES: dict[str, type[Shape]] = {s.architecture: s for s in (TransformerShape, XLSTMShape)}


def save_model(model: Model, folder: Path | str) -> Path:
    """Write a model to a folder, replacing what it holds.

    Parameters
    ----------
    model : Transformer or XLSTM
    folder : Path or str
        Made if it does not exist. Gets ``model.safetensors``, whose header also holds the shape
        and a checksum of the parameters, and ``config.json``, the shape for people and tools.
        Each file appears whole or not at all.

    Returns
    -------
    Path
        The folder.
    """
    folder = Path(folder)
    tensors = {name: x.detach().cpu().contiguous() for name, x in model.named_parameters()}
    config = json.dumps(config_of(model.shape), indent=2)
    metadata = {"config": config, "sha256": _checksum(tensors)}
    with replacing(folder / TENSORS_FILE) as partial:
        save_file(tensors, partial, metadata)
    with replacing(folder / CONFIG_FILE) as partial:
        partial.write_text(config + "\n")
    return folder


def load_model(
    folder: Path | str,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    verify: bool = True,
) -> Model:
    """Read a model that `save_model` wrote.

    Parameters
    ----------
    folder : Path or str
    device : torch.device or str
        Where the parameters go.
    dtype : torch.dtype, optional
        Cast to; default: as saved.
    verify : bool
        Whether to compare the parameters with their checksum (about a second a gigabyte).

    Returns
    -------
    Transformer or XLSTM

    Raises
    ------
    InputError
        If a file is missing, damaged, of another version or program, if the two files do not
        belong together, or if the parameters do not fit the shape.
    """
    folder = Path(folder)
    config = read_config(folder / CONFIG_FILE)
    shape = shape_of_config(config, where=str(folder / CONFIG_FILE))
    path = folder / TENSORS_FILE
    tensors, metadata = read_tensors(path)
    if metadata.get("config") != json.dumps(config, indent=2):
        what = f"written for another {CONFIG_FILE} than the one beside it"
        hint = "Put back the file it was saved with, or save the model again."
        raise InputError(what, where=str(path), hint=hint)
    if verify and metadata.get("sha256") != _checksum(tensors):
        what = "the parameters do not match their checksum: the file was damaged or edited"
        hint = "Copy it again; verify=False loads it as it is."
        raise InputError(what, where=str(path), hint=hint)
    return model_from(shape, tensors, device=device, dtype=dtype, where=str(path))


def model_from(
    shape: Shape,
    tensors: Mapping[str, Tensor],
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    where: str = "tensors",
) -> Model:
    """Model of a shape with the given parameters, named as in `Model.named_parameters()`.

    Raises
    ------
    InputError
        If a name is missing or unknown, or a tensor has another shape; `where` says in what.
    """
    model = skeleton(shape)
    wanted = {name: tuple(x.shape) for name, x in model.named_parameters()}
    faults = [f"no {name}" for name in wanted if name not in tensors]
    faults += [f"unknown {name}" for name in tensors if name not in wanted]
    faults += [
        f"{name} is {tuple(tensors[name].shape)}, the shape wants {size}"
        for name, size in wanted.items()
        if name in tensors and tuple(tensors[name].shape) != size
    ]
    if faults:
        more = f" and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise InputError("; ".join(faults[:5]) + more, where=where)
    placed = {name: tensors[name].to(device=device, dtype=dtype) for name in wanted}
    model.load_state_dict(placed, assign=True)
    return model.requires_grad_()


def config_of(shape: Shape) -> dict[str, Any]:
    """What ``config.json`` says of a shape."""
    header = {"format": FORMAT, "version": VERSION, "architecture": shape.architecture}
    return header | {"shape": asdict(shape)}


def shape_of_config(config: Mapping[str, Any], *, where: str = CONFIG_FILE) -> Shape:
    """Shape that a ``config.json`` describes; the inverse of `config_of`.

    Raises
    ------
    InputError
        If it is of another format or version, or a field of the shape is missing or unknown.
    """
    if config.get("format") != FORMAT:
        what = f"format must be {FORMAT!r}, got {config.get('format')!r}"
        raise InputError(what, where=where, hint="See load_published for models of xlstm.")
    if config.get("version") != VERSION:
        what = f"version must be {VERSION}, got {config.get('version')!r}"
        raise InputError(what, where=where, hint="Read it with the allometry that wrote it.")
    architecture, given = config.get("architecture"), config.get("shape")
    if architecture not in _SHAPES or not isinstance(given, dict):
        what = f"needs an architecture of {', '.join(_SHAPES)} and a shape, got {architecture!r}"
        raise InputError(what, where=where)
    names = {field.name for field in fields(_SHAPES[architecture])}
    faults = [f"no {name}" for name in sorted(names - set(given))]
    faults += [f"unknown {name}" for name in sorted(set(given) - names)]
    if faults:
        raise InputError(f"shape: {'; '.join(faults)}", where=where)
    return _SHAPES[architecture](**given)


def read_config(path: Path) -> dict[str, Any]:
    """Return the JSON object of a file; InputError if there is none."""
    try:
        config = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        hint = "Give the folder that the model was saved to."
        raise InputError(f"cannot be read ({error})", where=str(path), hint=hint) from error
    if not isinstance(config, dict):
        raise InputError(f"must hold one JSON object, got {type(config).__name__}", where=str(path))
    return config


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file; InputError if it is missing or damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}
            return tensors, file.metadata() or {}
    except FileNotFoundError as error:
        raise InputError("no such file", where=str(path)) from error
    except SafetensorError as error:
        hint = "It was cut short or is not safetensors: copy it again."
        raise InputError(f"cannot be read ({error})", where=str(path), hint=hint) from error


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, dtypes, sizes and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
