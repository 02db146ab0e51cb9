"""``allometry account``: what a shape has, costs and moves."""

from typing import Annotated, Any

import cyclopts

from allometry.cli.output import emit, stderr
from allometry.errors import InputError


def account_command(
    shape: str | None = None,
    *,
    params: float | None = None,
    architecture: str | None = None,
    context_length: int = 8192,
    batch_size: int = 1,
    tokens: float | None = None,
    vocab_size: int | None = None,
    list_: Annotated[bool, cyclopts.Parameter(name="--list", negative=())] = False,
    json: Annotated[bool, cyclopts.Parameter(negative=())] = False,
) -> int:
    """Params, FLOPs, cache and bytes of a shape, counted as docs/accounting.md says.

    Parameters
    ----------
    shape
        Name of a shape, such as transformer-7b, xlstm-160m or xlstm-d1024-n24 (see --list).
    params
        Instead of a name: total params, for which a shape of the family is chosen.
    architecture
        With --params: transformer or xlstm.
    context_length
        Tokens a sequence in training, tokens of the prompt, and context of the decode step.
    batch_size
        Sequences of the prefill and of the decode step.
    tokens
        Training tokens, to count a whole run.
    vocab_size
        With --params: rows of the embedding and of the head.
    list_
        Print the names of all shapes.
    json
        Print one JSON document instead of a table.
    """
    from allometry.accounting import VOCAB_SIZE, choose_shape, preset, preset_names

    if list_:
        emit(_named_shapes(preset_names()), as_json=json)
        return 0
    if (shape is None) == (params is None):
        what = "give the name of a shape, or --params and --architecture"
        raise InputError(what, where="account", hint="allometry account --list prints the names.")
    if shape is not None:
        if architecture is not None or vocab_size is not None:
            what = f"--architecture and --vocab-size do not go with a name ({shape})"
            raise InputError(what, where="account", hint="Use them with --params.")
        answer = _account(preset(shape), context_length, batch_size, tokens) | {"name": shape}
    else:
        if architecture is None:
            what = "--params needs --architecture"
            raise InputError(what, where="account", hint="transformer or xlstm")
        assert params is not None
        choice = choose_shape(
            architecture, params, vocab_size=VOCAB_SIZE if vocab_size is None else vocab_size
        )
        if choice.extrapolated:
            what = f"warning: {params:.4g} params extrapolate the {choice.family} family of shapes"
            stderr.print(f"{what}; the shape taken has {choice.params:,}")
        answer = _account(choice.shape, context_length, batch_size, tokens) | {
            "wanted_params": params,
            "relative_error": choice.relative_error,
            "family": choice.family,
            "extrapolated": choice.extrapolated,
        }
    emit(answer if json else _rows(answer), as_json=json)
    return 0


def _account(
    shape: Any, context_length: int, batch_size: int, tokens: float | None
) -> dict[str, Any]:
    from dataclasses import asdict

    from allometry import accounting

    counts = accounting.count_params(shape)
    training = accounting.training_flops_per_token(shape, context_length)
    prefill = accounting.prefill_flops(shape, context_length, batch_size=batch_size)
    decode = accounting.decode_flops(shape, context_length, batch_size=batch_size)
    prefill_moved = accounting.prefill_bytes(shape, context_length, batch_size=batch_size)
    decode_moved = accounting.decode_bytes(shape, context_length, batch_size=batch_size)
    answer: dict[str, Any] = {
        "architecture": shape.architecture,
        "shape": asdict(shape),
        "context_length": context_length,
        "batch_size": batch_size,
        "params": counts.total,
        "params_without_embedding": counts.without_embedding,
        "params_non_embedding": counts.without_embedding_and_head,
        "params_terms": dict(counts.terms),
        "training_flops_per_token": training.total,
        "training_flops_per_token_terms": asdict(training),
        "training_flops_per_sequence": training.total * context_length,
        "ratio_to_6nd": training.total / (6 * counts.total),
        "prefill_flops": prefill.total,
        "prefill_bytes": prefill_moved.total,
        "prefill_bytes_terms": asdict(prefill_moved),
        "decode_flops": decode.total,
        "decode_bytes": decode_moved.total,
        "decode_bytes_terms": asdict(decode_moved),
        "cache_bytes": accounting.cache_bytes(shape, context_length, batch_size=batch_size),
    }
    if tokens is not None:
        flops = accounting.training_flops(shape, context_length=context_length, tokens=tokens)
        answer |= {"tokens": tokens, "flops": flops}
    return answer


def _named_shapes(names: tuple[str, ...]) -> list[dict[str, Any]]:
    from allometry.accounting import count_params, preset

    return [
        {
            "name": name,
            "params": count_params(shape).total,
            "d_model": shape.d_model,
            "n_layers": shape.n_layers,
            "n_heads": shape.n_heads,
            "d_ff": shape.d_ff,
        }
        for name, shape in ((name, preset(name)) for name in names)
    ]


def _rows(answer: dict[str, Any]) -> list[dict[str, Any]]:
    # For people: one row a number, terms indented under their sum, counts with separators.
    rows = []
    for key, value in answer.items():
        if isinstance(value, dict):
            rows += [
                {"quantity": f"  {name}", "value": _text(part)} for name, part in value.items()
            ]
        else:
            rows.append({"quantity": key, "value": _text(value)})
    return rows


def _text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, float) and abs(value) < 1e4:
        return f"{value:.4g}"
    return f"{value:,.0f}" if abs(value) < 1e15 else f"{value:.6g}"
