"""What both models take: checks of tokens, prompts and documents."""

import torch
from torch import Tensor

from allometry.errors import InputError

_INTEGERS = (torch.int64, torch.int32)


def check_tokens(tokens: Tensor, document_starts: Tensor | None = None) -> None:
    """Raise InputError unless tokens are integers (batch, time) and documents match them."""
    if tokens.ndim != 2 or tokens.dtype not in _INTEGERS or tokens.shape[1] == 0:
        got = f"{tuple(tokens.shape)} {tokens.dtype}"
        raise InputError(f"tokens must be integers (batch, time), time at least 1, got {got}")
    if document_starts is None:
        return
    if document_starts.shape != tokens.shape or document_starts.dtype != torch.bool:
        got = f"{tuple(document_starts.shape)} {document_starts.dtype}"
        what = f"document_starts must be bool {tuple(tokens.shape)}, got {got}"
        raise InputError(what, hint="Mark the first token of each document, not its number.")


def check_prompt(tokens: Tensor, lengths: Tensor | None) -> None:
    """Raise InputError unless prompts are integers (batch, time) and lengths within 1 to time."""
    check_tokens(tokens)
    if lengths is None:
        return
    batch, time = tokens.shape
    if lengths.shape != (batch,) or lengths.dtype not in _INTEGERS:
        got = f"{tuple(lengths.shape)} {lengths.dtype}"
        raise InputError(f"lengths must be integers ({batch},), got {got}")
    # The values live on the device: asking for them would break a graph and wait for a GPU.
    if not torch.compiler.is_compiling() and batch:
        low, high = (int(x) for x in lengths.aminmax())
        if low < 1 or high > time:
            raise InputError(f"lengths must be 1 to {time}, got {low} to {high}")


def check_step(token: Tensor, batch: int) -> None:
    """Raise InputError unless there is one integer token for each row of the state."""
    if tuple(token.shape) != (batch,) or token.dtype not in _INTEGERS:
        got = f"{tuple(token.shape)} {token.dtype}"
        raise InputError(f"token must be integers ({batch},), one for each row, got {got}")


def prompt_lengths(tokens: Tensor, lengths: Tensor | None) -> Tensor:
    """Tokens of each prompt as int64 (batch,): `lengths`, or the whole row."""
    if lengths is None:
        return tokens.new_full((tokens.shape[0],), tokens.shape[1], dtype=torch.int64)
    return lengths.to(tokens.device, torch.int64)


def last_real(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Hidden state (batch, d_model) of each row's last token that is not padding."""
    if lengths is None:
        return x[:, -1]
    rows = torch.arange(x.shape[0], device=x.device)
    return x[rows, lengths.to(x.device) - 1]
