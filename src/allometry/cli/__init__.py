"""The command line: parse, call one function, print. Commands are imported when they run."""

import gc
import os
import sys
from collections.abc import Sequence

import cyclopts

import allometry
from allometry.errors import AllometryError

# name, "module:function" in this package, one line of help. Lazy: --help imports none of them.
LOSS = "From runs to decisions"
PRIOR = "Priors and data"
HARNESS = "Making observations"
LATENCY = "Latency"
COMMANDS: tuple[tuple[str, str, str, str], ...] = (
    ("fit", "fit:fit_command", LOSS, "Fit a loss law to a table of runs; write a posterior."),
    ("summary", "ask:summary_command", LOSS, "Posterior of every parameter, group by group."),
    ("allocate", "ask:allocate_command", LOSS, "Compute-optimal params and tokens."),
    ("growth", "ask:growth_command", LOSS, "Growth laws: N* and D* as powers of compute."),
    ("isoflop", "isoflop:isoflop_command", LOSS, "Growth laws from IsoFLOP valleys alone."),
    ("predict", "ask:predict_command", LOSS, "Loss of runs that have not been made."),
    ("compare", "ask:compare_command", LOSS, "Which of two architectures wins where."),
    ("regret", "decide:regret_command", LOSS, "What a size is expected to lose; the flat band."),
    ("break-even", "decide:break_even_command", LOSS, "Budget or context of equal loss."),
    (
        "lifetime",
        "decide:lifetime_command",
        LOSS,
        "Size and tokens for a demand to be served, in FLOPs.",
    ),
    ("repeat", "decide:repeat_command", LOSS, "Size and epochs of too few unique tokens."),
    ("design", "design:design_command", LOSS, "Which runs to do next, for a decision."),
    ("check", "check:check_command", LOSS, "Is this posterior to be believed?"),
    ("validate", "validate:validate_command", LOSS, "Hide the largest runs and predict them."),
    ("plot", "plot:plot_command", LOSS, "Draw a posterior or a decision as PNG, PDF or SVG."),
    ("report", "report:report_command", LOSS, "The planner's page: one HTML file with a slider."),
    ("account", "account:account_command", LOSS, "Params, FLOPs, cache and bytes of a shape."),
    ("train", "train:train_command", HARNESS, "Train one model; write its run and loss curve."),
)
SUBCOMMANDS: tuple[tuple[str, str, str, tuple[tuple[str, str, str], ...]], ...] = (
    (
        "data",
        PRIOR,
        "Public tables of runs: list, fetch, import, check.",
        (
            ("list", "data:list_command", "Every table the registry knows, with its source."),
            ("fetch", "data:fetch_command", "Download a table into the cache and verify it."),
            ("path", "data:path_command", "Print where a table lies on this machine."),
            ("import", "data:import_command", "Turn a foreign table into a runs table."),
            ("check", "data:check_command", "Read a runs table and report what is found."),
        ),
    ),
    (
        "prior",
        PRIOR,
        "Priors of one study for the next: export, list, show.",
        (
            ("export", "prior:export_command", "Write what a posterior knows as a prior file."),
            ("list", "prior:list_command", "Priors that come with the package."),
            ("show", "prior:show_command", "What a prior says; checks the file."),
        ),
    ),
    (
        "kernels",
        HARNESS,
        "The mLSTM kernels on this device: check, bench.",
        (
            ("check", "kernels:check_command", "Compare outputs and gradients with float64."),
            ("bench", "kernels:bench_command", "Time them beside the device's peaks and peers."),
        ),
    ),
    (
        "corpus",
        HARNESS,
        "Text as tokens on disk: build, check.",
        (
            ("build", "corpus:build_command", "Tokenize text into shards that training reads."),
            ("check", "corpus:check_command", "Read a corpus and name each damaged file."),
        ),
    ),
    (
        "latency",
        LATENCY,
        "Inference latency: bench, fit, predict, decide.",
        (
            ("bench", "latency:bench_command", "Time prefill and decode on this machine."),
            ("fit", "latency:fit_command", "Fit the latency law to a table of timings."),
            ("predict", "latency:predict_command", "Seconds of what was not timed."),
            ("frontier", "latency_decide:frontier_command", "Loss against latency, size by size."),
            (
                "crossover",
                "latency_decide:crossover_command",
                "Context or batch at which something else decides a step.",
            ),
            (
                "break-even",
                "latency_decide:break_even_command",
                "Context beyond which one is faster at equal loss.",
            ),
            (
                "largest-batch",
                "latency_decide:largest_batch_command",
                "Largest batch that fits the memory.",
            ),
            (
                "cost",
                "latency_cost:cost_command",
                "Device-hours or money of training and serving.",
            ),
        ),
    ),
    (
        "sweep",
        HARNESS,
        "Many runs: plan, run, watch, collect.",
        (
            (
                "plan",
                "sweep_plan:plan_command",
                "Plan isoflop or token/param runs, and price them.",
            ),
            ("run", "sweep:run_command", "Make the runs of a plan, here or on a cluster."),
            ("status", "sweep:status_command", "How far a sweep is."),
            ("collect", "sweep:collect_command", "Write the runs table and the loss curves."),
        ),
    ),
)


LAW_MODULES = "ALLOMETRY_LAW_MODULES"
"""Environment variable: Python modules, by commas, that register laws of one's own."""


def build_app(arguments: Sequence[str]) -> cyclopts.App:
    """The command line for given arguments.

    Commands are imported only when they run, so that ``--help`` is quick: a list of commands shows
    the line that stands here. The command that is asked for shows its own docstring instead.
    """
    root = cyclopts.App(
        name="allometry",
        help="Scaling laws with honest uncertainty: from a table of finished runs to decisions.",
        version=allometry.__version__,
        result_action="return_value",
        default_parameter=cyclopts.Parameter(negative_iterable=()),
        help_format="markdown",
    )
    asked = tuple(arguments[:2])
    for name, target, group, text in COMMANDS:
        line = None if asked[:1] == (name,) else text
        root.command(f"allometry.cli.{target}", name=name, help=line, group=group)
    for name, group, text, members in SUBCOMMANDS:
        sub = cyclopts.App(name=name, help=text, group=group, help_format="markdown")
        for member, target, member_text in members:
            line = None if asked == (name, member) else member_text
            sub.command(f"allometry.cli.{target}", name=member, help=line)
        root.command(sub)
    return root


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code (0 answered, 1 no or failed, 2 bad input)."""
    if argv is not None:
        return _run(list(argv))
    # A process of our own: what it imports and compiles lives to its end, and the collector would
    # go through it a thousand times before, and for half a second at the end.
    gc.set_threshold(100_000, 50, 50)
    code = _run(sys.argv[1:])
    gc.freeze()
    return code


def _run(arguments: list[str]) -> int:
    try:
        if modules := os.environ.get(LAW_MODULES):  # a law of one's own, for every command
            from allometry.cli.runtime import import_law

            for module in modules.split(","):
                import_law(module.strip(), where=LAW_MODULES)
        code = build_app(arguments)(arguments, exit_on_error=False, print_error=False)
        return int(code or 0)
    except cyclopts.UnusedCliTokensError as error:
        unread = ", ".join(error.unused_tokens or ())
        hint = "An option that may be repeated is given again for each of its values (see --help)."
        return _complain(f"not understood: {unread}", hint=hint)
    except cyclopts.MissingArgumentError as error:
        what = f"{_unknown_options(error)}{str(error).strip()}"
        return _complain(what, hint="See allometry --help or the command's --help.")
    except cyclopts.CycloptsError as error:
        return _complain(str(error).strip(), hint="See allometry --help or the command's --help.")
    except AllometryError as error:
        return _complain(str(error), hint=error.hint, code=error.exit_code)
    except KeyboardInterrupt:
        return _complain("interrupted", code=130)
    except BrokenPipeError:
        return 0


def _unknown_options(error: cyclopts.MissingArgumentError) -> str:
    """Options that nobody knows, beside a required one that is missing: likely what was meant."""
    from difflib import get_close_matches

    tokens = [token.split("=")[0] for token in error.unused_tokens or ()]
    unknown = [token for token in tokens if token.startswith("--") and len(token) > 2]
    if not unknown:
        return ""
    known: set[str] = set()
    if error.app is not None and error.argument is not None:
        every = error.app.assemble_argument_collection()
        known = {name for argument in every for name in argument.names if name.startswith("--")}
        known -= {name for name in known if name.startswith(("--empty-", "--no-"))}
        known -= set(error.argument.names)  # which the error suggests by itself
    alike = get_close_matches(unknown[0], known, n=1, cutoff=0.75)
    guess = f" (did you mean {alike[0]}?)" if alike else ""
    return f"unknown option {', '.join(unknown)}{guess}; "


def _complain(what: str, *, hint: str = "", code: int = 2) -> int:
    from allometry.cli.text import printable

    lines = f"error: {what}" + (f"\nhint: {hint}" if hint else "")
    print(printable(lines, keep="\n"), file=sys.stderr)
    return code
