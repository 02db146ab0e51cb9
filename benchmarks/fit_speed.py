"""Time to 400 effective draws of the study's default model, beside its peers, in one run.

    python benchmarks/fit_speed.py [--peers PYTHON] [--cap SECONDS] [--only NAME ...] [-o JSON]

Each contestant is a process of its own with everything included: interpreter, imports, reading,
compiling, sampling; ours is the command `allometry fit`, which writes a file too. Wall and CPU
seconds are those of the process. PyMC and nutpie run under --peers, an environment that has them
(make bench makes one); without it they are left out and said so. A contestant that is not done
within the cap is stopped and reported as such.
"""

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
WANTED_ESS = 400
FITS = {"fit": ("xlstm", "nuts"), "laplace": ("chinchilla", "laplace")}
"""Table and method of our own contestants."""

ENTRIES, RESAMPLES = 4500, 4000
"""Starts and bootstraps of the L-BFGS practice."""

CONTESTANTS = {
    "fit-cold": "allometry, nothing compiled before",
    "fit-warm": "allometry, compiled before",
    "laplace-cold": "allometry, Chinchilla's 240 runs, Laplace, nothing compiled before",
    "laplace-warm": "allometry, Chinchilla's 240 runs, Laplace, compiled before",
    "nutpie": "the same model in PyMC, sampled by nutpie",
    "pymc": "the same model in PyMC, its own NUTS",
    "numpyro": "the same model in NumPyro, MCMC(NUTS(model)), chains in one vectorised program",
    "lbfgs": f"Chinchilla's 240 runs, {ENTRIES} L-BFGS starts x {RESAMPLES} bootstraps, from 100",
}


def site_statistics(sites):
    """Worst R-hat and bulk effective draws over sites of shape (chain, draw, ...)."""
    import numpy as np

    from allometry.inference.convergence import chain_statistics

    flat = [np.asarray(site).reshape(*np.shape(site)[:2], -1) for site in sites]
    rhat, bulk, _ = chain_statistics(np.concatenate(flat, axis=-1))
    return {"max_rhat": rhat, "min_ess_bulk": bulk}


def fitted(path):
    """What a file that `allometry fit` wrote says, with statistics over the model's own sites."""
    from allometry.inference import Posterior
    from allometry.inference.tree import site_names

    posterior = Posterior.load(path)
    record, draws = posterior.record, posterior.idata["posterior"]
    answer = {
        "method": record.method,
        "draws": draws.sizes["chain"] * draws.sizes["draw"],
        "divergences": record.convergence.divergences,
        "converged": record.convergence.converged,
        "min_ess_tail": record.convergence.min_ess_tail,
    }
    if record.method == "laplace":
        return answer | {
            "min_ess_bulk": record.convergence.min_ess_bulk,
            "pareto_k": record.convergence.pareto_k,
        }
    return answer | site_statistics([draws[name].to_numpy() for name in site_names(draws.root)])


def arrays_of(table):
    """Program and data of a table's default model."""
    from allometry.inference import default_priors, group_runs
    from allometry.inference.arrays import law_structure, reference_scale, run_arrays
    from allometry.laws import get_law
    from allometry.observations import read_runs

    runs, law = read_runs(table), get_law("pnorm")
    groups = group_runs(runs.table, runs.by or None)
    scale = reference_scale(runs.table)
    arrays = run_arrays(runs.table, groups, law, scale)
    return law, law_structure(law, groups), arrays, default_priors(law).arrays(), len(runs.table)


def one_numpyro():
    import jax
    from numpyro.infer import MCMC, NUTS

    from allometry.inference import loss_model

    jax.config.update("jax_enable_x64", True)
    law, structure, runs, priors, _ = arrays_of("xlstm")
    sampler = MCMC(
        NUTS(loss_model), num_warmup=1000, num_samples=1000, num_chains=4,
        chain_method="vectorized", progress_bar=False,
    )  # fmt: skip
    sampler.run(jax.random.key(0), law, structure, runs, priors)
    sites = sampler.get_samples(group_by_chain=True)
    divergences = int(sampler.get_extra_fields()["diverging"].sum())
    return site_statistics(sites.values()) | {"draws": 4000, "divergences": divergences}


def one_lbfgs():
    from allometry.criticism.baseline import huber_fit
    from allometry.observations import read_runs

    table = read_runs("chinchilla").table
    times = []
    for starts in (10, 110):
        began = time.process_time()
        huber_fit(table, starts=starts)
        times.append(time.process_time() - began)
    per_climb = (times[1] - times[0]) / 100
    days = per_climb * ENTRIES * RESAMPLES / 86400
    return {"milliseconds_per_climb": 1e3 * per_climb, "cpu_days_extrapolated": days}


def write_arrays(path):
    """What the PyMC form of the model needs, without padding."""
    import jax
    import numpy as np

    from allometry.inference.model import SPREAD_LOG_SD, STUDENT_DF

    with jax.enable_x64(True):
        _, _, runs, priors, n_runs = arrays_of("xlstm")
        of_runs = ("group", "log_params", "log_tokens", "log_loss")
        of_priors = (
            "loc",
            "scale",
            "between",
            "per_doubling",
            "noise",
            "off_valley",
            "noise_between",
        )
        np.savez(
            path,
            **{name: np.asarray(getattr(runs, name))[:n_runs] for name in of_runs},
            **{name: np.asarray(getattr(runs, name)) for name in ("parent", "doublings")},
            **{name: np.asarray(getattr(priors, name)) for name in of_priors},
            df=STUDENT_DF,
            spread_log_sd=SPREAD_LOG_SD,
        )


def run_capped(command, cap, environment, posterior=None):
    """Its JSON line with wall and CPU seconds, or the word that it was stopped or failed.

    Of a command that writes a posterior, what that says takes the place of the line.
    """
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environment, process_group=0,  # a group to stop; a session would change its priority
    )  # fmt: skip
    try:
        out, err = process.communicate(timeout=cap)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # PyMC's chains too
        process.communicate()
        out, err = None, ""
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    answer = {"seconds": wall, "cpu_seconds": cpu}
    if out is None:
        return answer | {"outcome": f"not reached in {cap:.0f} s"}
    if process.returncode:
        return answer | {"outcome": "failed: " + (err.strip().splitlines() or ["?"])[-1]}
    answer |= fitted(posterior) if posterior else json.loads(out.strip().splitlines()[-1])
    ess = answer.get("min_ess_bulk")
    if ess is not None:
        enough = ess >= WANTED_ESS and answer.get("max_rhat", 1.0) < 1.05
        answer["outcome"] = "reached" if enough else "done, too few effective draws"
    return answer


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--peers", type=Path, help="Python that has PyMC and nutpie")
    parser.add_argument("--cap", type=float, default=600.0, help="seconds for each contestant")
    parser.add_argument("--only", nargs="*", choices=list(CONTESTANTS), default=list(CONTESTANTS))
    parser.add_argument("-o", "--output", type=Path, help="write everything measured as JSON")
    options = parser.parse_args()
    if options.one:
        print(json.dumps({"numpyro": one_numpyro, "lbfgs": one_lbfgs}[options.one]()))
        return
    found = {"cpus": os.cpu_count(), "load_before": os.getloadavg()[0], "cap": options.cap}
    with tempfile.TemporaryDirectory() as folder:
        # One thread a library: two chains at a time then use two cores in every contestant.
        environment = os.environ | {"ALLOMETRY_CACHE": folder, "OMP_NUM_THREADS": "1"}
        arrays = Path(folder) / "arrays.npz"
        for name in options.only:
            command, posterior = [sys.executable, __file__, "--one", name], None
            if name.startswith(("fit", "laplace")):
                table, method = FITS[name.partition("-")[0]]
                posterior = Path(folder) / f"{name}.nc"
                command = [sys.executable, "-m", "allometry.cli", "fit", table]
                command += ["-o", posterior, "--method", method]
            if name in ("pymc", "nutpie"):
                if options.peers is None:
                    print(f"{name}: left out, no --peers", file=sys.stderr)
                    continue
                if not arrays.exists():
                    write_arrays(arrays)
                command = [options.peers, HERE / "fit_speed_peers.py", name, arrays]
            found[name] = run_capped(command, options.cap, environment, posterior)
            print(f"{name}: {found[name]}", file=sys.stderr, flush=True)
    report(found)
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(found, indent=1))


def report(found):
    import pandas as pd

    rows = []
    for name, meaning in CONTESTANTS.items():
        if name not in found:
            continue
        one = found[name]
        if "cpu_days_extrapolated" in one:
            one = one | {"outcome": f"{one['cpu_days_extrapolated']:.3g} CPU days, extrapolated"}
        columns = ("seconds", "cpu_seconds", "min_ess_bulk", "max_rhat", "divergences", "outcome")
        rows.append({"contestant": meaning} | {c: one.get(c, "") for c in columns})
    with pd.option_context("display.width", 250, "display.max_colwidth", 80):
        print(pd.DataFrame(rows).round(2).to_string(index=False))
    ours = found.get("fit-cold", {}).get("seconds")
    for name in ("nutpie", "pymc", "numpyro"):
        if ours and name in found and not found[name]["outcome"].startswith("failed"):
            least = "" if found[name]["outcome"] == "reached" else "at least "
            print(f"{name}: {least}{found[name]['seconds'] / ours:.1f} x allometry's first fit")


if __name__ == "__main__":
    main()
