"""Commands that weigh a choice: regret, break-even, lifetime, repeat."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from allometry.cli.asking import (
    EVERY_GROUP,
    STUDY_VOCAB,
    Budgets,
    Cost,
    Groups,
    VocabSize,
    answered,
    check_picture,
    check_shapes,
    notes,
    open_posterior,
    other_cost,
    write_picture,
)

if TYPE_CHECKING:
    import pandas as pd

Flag = Annotated[bool, Parameter(negative=())]


def regret_command(
    posterior: Path,
    *,
    flops: Budgets,
    params: Budgets | None = None,
    within: str = "0.1%",
    curve: Flag = False,
    buildable: Flag = False,
    vocab_size: VocabSize = STUDY_VOCAB,
    plot: Path | None = None,
    groups: Groups = EVERY_GROUP,
    cost: Cost | None = None,
    json: bool = False,
) -> int:
    """What a size costs if the truth is not the best guess: least regret, and the flat band.

    The regret of a size is its loss above the best that the budget can buy, draw by draw. Without
    further options: the size of least expected regret, and the band of sizes that are as good.
    band_low and band_high are the ends, draw by draw, of the sizes that are within the level of the
    best; safe_low and safe_high those of the sizes expected to be so (- if none is).

    Parameters
    ----------
    posterior
        File written by ``allometry fit``.
    flops
        Training budgets in FLOPs.
    params
        Judge these sizes instead: what each is expected to lose.
    within
        Loss above the best that counts as equal: ``0.005``, in the unit of loss, or ``0.1%``.
    curve
        Print the regret size by size.
    buildable
        Also the shape to build: of the family's near the best size, that of least expected regret.
    vocab_size
        Rows of embedding and head of the shapes to build: the tokenizer's vocabulary.
    plot
        Picture of the regret over sizes: .png, .pdf or .svg.
    cost
        Another cost model than the posterior's own.
    json
        Print one JSON document.
    """
    from allometry.decisions.buildable import buildable as snap
    from allometry.decisions.regret import least_regret, regret_curve
    from allometry.errors import InputError

    check_picture(plot)
    if buildable and (curve or params):
        what = "a shape is that of the size of least expected regret, which is not asked for"
        hint = f"Leave out {'--params' if params else '--curve'}, or --buildable."
        raise InputError(what, where="--buildable", hint=hint)
    loaded = open_posterior(posterior)
    if buildable:
        check_shapes(loaded, groups)
    which, model = groups.which(), other_cost(loaded, cost)
    with notes():
        if curve or params:
            table = regret_curve(loaded, flops, params=params, within=within, cost=model, **which)
        else:
            table = least_regret(loaded, flops, within=within, cost=model, **which)
        if buildable:
            table = snap(loaded, table, vocab_size=vocab_size, cost=model, **which)
        if plot:
            from allometry.plots.decisions import draw_regret

            every = regret_curve(loaded, flops, within=within, cost=model, **which)
            write_picture(draw_regret(every, within, loss_unit=loaded.record.loss_unit), plot)
    return answered(table, as_json=json)


def break_even_command(
    posterior: Path,
    a: str,
    b: str,
    *,
    flops: Budgets | None = None,
    context_length: int | None = None,
    low: float | None = None,
    high: float | None = None,
    group: str | None = None,
    plot: Path | None = None,
    unseen: Flag = False,
    force: Flag = False,
    json: bool = False,
) -> int:
    """Budget or context at which two architectures have equal loss, if there is one in range.

    Without ``--flops``: the budget, context by context. With ``--flops``: the context, budget by
    budget; contexts that were not run are predicted from the population.

    Parameters
    ----------
    posterior
        File written by ``allometry fit``.
    a
        An architecture.
    b
        Another one.
    flops
        Training budgets in FLOPs, the same for both, for the break-even context.
    context_length
        Only this context, for the break-even budget.
    low
        Lower end of the range: FLOPs, or tokens of context with ``--flops``.
    high
        Upper end.
    group
        Values of further group columns: ``--group data=c4``.
    plot
        Picture of the four ways to go, with the intervals: .png, .pdf or .svg.
    unseen
        Allow an architecture that was never run.
    force
        Answer although the fit did not converge.
    json
        Print one JSON document.
    """
    from allometry.decisions.breakeven import break_even_budget, break_even_context
    from allometry.errors import InputError

    check_picture(plot)
    if flops and context_length is not None:
        hint = "Leave --context-length out, or leave --flops out for the break-even budget."
        raise InputError("a context and a search for one", where="break-even", hint=hint)
    loaded = open_posterior(posterior)
    asked = Groups(context_length=context_length, group=group, unseen=unseen, force=force).which()
    with notes():
        if flops:
            ends = {
                "context_low": None if low is None else round(low),
                "context_high": None if high is None else round(high),
            }
            table = break_even_context(loaded, a, b, flops, **ends, **asked)
        else:
            table = break_even_budget(loaded, a, b, flops_low=low, flops_high=high, **asked)
    if plot:
        from allometry.plots.choices import draw_break_even

        write_picture(draw_break_even(table), plot)
    return answered(table, as_json=json)


def lifetime_command(
    posterior: Path,
    *,
    served: Budgets,
    target_loss: float | None = None,
    total_flops: float | None = None,
    serving: Literal["decode", "2n"] | None = None,
    serving_context: int | None = None,
    buildable: Flag = False,
    vocab_size: VocabSize = STUDY_VOCAB,
    plot: Path | None = None,
    groups: Groups = EVERY_GROUP,
    json: bool = False,
) -> int:
    """Size and tokens of a model that will serve a known number of tokens: over-training.

    Give the loss to reach, at the least FLOPs of training and serving together; or these FLOPs, for
    the least loss.

    Parameters
    ----------
    posterior
        File written by ``allometry fit``.
    served
        Tokens read or written over the model's life, such as ``--served 0 1e11 1e12 1e13``.
    target_loss
        Loss to reach, in the posterior's unit.
    total_flops
        Or: FLOPs of training and serving together.
    serving
        FLOPs of a served token: decode (of the family's shapes, from the accounting; the default
        where the architecture is known) or 2n (two a param).
    serving_context
        Tokens that a served token sees on average; by default half the group's context.
    buildable
        Also the shape to build: the family's nearest to the median size.
    vocab_size
        Rows of embedding and head of the shapes to build: the tokenizer's vocabulary.
    plot
        Picture of params and tokens a param against the demand: .png, .pdf or .svg.
    json
        Print one JSON document.
    """
    from allometry.decisions.buildable import nearest_shapes
    from allometry.decisions.lifetime import lifetime

    check_picture(plot)
    loaded = open_posterior(posterior)
    if buildable:
        check_shapes(loaded, groups)
    with notes():
        table = lifetime(
            loaded,
            served,
            target_loss=target_loss,
            total_flops=total_flops,
            serving=serving,
            serving_context=serving_context,
            **groups.which(),
        )
    _tell_unreached(table, list(loaded.record.by))
    if buildable:
        with notes():
            table = nearest_shapes(table, vocab_size=vocab_size)
    if plot:
        from allometry.plots.choices import draw_lifetime

        write_picture(draw_lifetime(table), plot)
    return answered(table, as_json=json)


def _tell_unreached(table: "pd.DataFrame", by: list[str]) -> None:
    """Say which groups have no answer, in some draws or in all."""
    from allometry.cli.output import stderr

    named = table[by].astype(str).agg("/".join, axis=1) if by else table.index.map(lambda _: "all")
    table = table.assign(_name=named)
    texts = []
    if "target_loss" in table:
        target = table["target_loss"].iloc[0]
        worst = table.groupby("_name", sort=False)["probability_reachable"].min()
        for name, share in worst[worst < 1.0].items():
            text = f"a loss of {target:g} is reached in {_share_words(share)} of the draws of "
            text += f"{name}, and the intervals are of those"
            if not share:
                text = f"no draw of {name} reaches a loss of {target:g}: give a higher "
                text += "--target-loss"
            texts.append(text)
    else:
        total = table["total_flops"].iloc[0]
        never = table[table["probability_reachable"] == 0]
        for name, least in never.groupby("_name", sort=False)["served_tokens"].min().items():
            text = f"{name}: to serve {least:g} tokens costs more than {total:g} FLOPs at every "
            text += "size: give higher --total-flops"
            texts.append(text)
    for text in texts:
        stderr.print(f"warning: {text}", soft_wrap=True, markup=False, highlight=False)


def _share_words(share: float) -> str:
    """A share of draws in whole percents, which is neither none nor all of them."""
    if share < 0.005:
        return "under 1 %"
    return "over 99 %" if share > 0.995 else f"{100 * share:.0f} %"


def repeat_command(
    posterior: Path,
    *,
    unique_tokens: Budgets,
    flops: Budgets,
    published: Flag = False,
    buildable: Flag = False,
    vocab_size: VocabSize = STUDY_VOCAB,
    plot: Path | None = None,
    groups: Groups = EVERY_GROUP,
    cost: Cost | None = None,
    json: bool = False,
) -> int:
    """Best size and epochs when only so many unique tokens can be had.

    The posterior of ``--law repetition`` knows what tokens that are seen again are worth. Another
    one refuses, unless ``--published`` borrows the discount of Muennighoff et al. 2023.

    Parameters
    ----------
    posterior
        File written by ``allometry fit``.
    unique_tokens
        Tokens of text that can be had.
    flops
        Training budgets in FLOPs.
    published
        Discount by the published R_D* = 15.4 and R_N* = 5.3, without their uncertainty.
    buildable
        Also the shape to build: the family's nearest to the median size.
    vocab_size
        Rows of embedding and head of the shapes to build: the tokenizer's vocabulary.
    plot
        Picture of params and epochs against the budget: .png, .pdf or .svg.
    cost
        Another cost model than the posterior's own.
    json
        Print one JSON document.
    """
    from allometry.cli.output import stderr
    from allometry.decisions.buildable import nearest_shapes
    from allometry.decisions.repeats import repeated

    check_picture(plot)
    loaded = open_posterior(posterior)
    if buildable:
        check_shapes(loaded, groups)
    with notes():
        table = repeated(
            loaded,
            unique_tokens,
            flops,
            published=published,
            cost=other_cost(loaded, cost),
            **groups.which(),
        )
    if (table["repetition"] == "published").any():
        text = "note: repetition is discounted by published R_D* = 15.4 and R_N* = 5.3 (Muennighoff"
        text += " et al. 2023), not by these runs; intervals do not hold their uncertainty"
        stderr.print(text, soft_wrap=True, highlight=False)
    if buildable:
        with notes():
            table = nearest_shapes(table, vocab_size=vocab_size)
    if plot:
        from allometry.plots.choices import draw_repeated

        write_picture(draw_repeated(table), plot)
    return answered(table, as_json=json)
