"""``allometry check``."""

from pathlib import Path


def check_command(posterior: Path, *, json: bool = False) -> int:
    """Is this posterior to be believed? Exit code 1 if not.

    Posterior predictive p-values (uniform if the model holds, small where it does not), leave-one-
    out accuracy with its Pareto-k, and how far each coefficient hangs on the prior. A misfit is
    grave only if it is also large against the noise of a run: hundreds of runs reject any law.

    Parameters
    ----------
    posterior
        File written by ``allometry fit``.
    json
        Print one JSON document.
    """
    from allometry.cli.output import emit, stderr
    from allometry.cli.runtime import prepare_jax, stages
    from allometry.criticism import check
    from allometry.inference import Posterior

    prepare_jax()
    loaded = Posterior.load(posterior)
    with stages() as bar:
        found = check(loaded, progress=bar)
    answer = found.to_json()
    for finding in found.findings:
        word = "wrong" if finding.grave else "note"
        stderr.print(f"{word}: {finding.text}", markup=False, highlight=False)
    if not json:
        sensitivity = found.sensitivity
        leaning = sensitivity[sensitivity["diagnosis"] != "determined by the data"]
        named = [f"{row.parameter} of {row.group}" for row in leaning.itertuples()]
        answer = {k: answer[k] for k in ("passed", "ppc", "loo", "pareto_k")}
        answer["moves_with_the_prior"] = named
    emit(answer, as_json=json)
    return 0 if found.passed else 1
