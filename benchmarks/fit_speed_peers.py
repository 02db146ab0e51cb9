"""The default loss model in PyMC, sampled by PyMC or nutpie; run by fit_speed.py, not by hand.

    python fit_speed_peers.py pymc|nutpie ARRAYS.npz

Needs PyMC and nutpie, not allometry: the arrays are written by fit_speed.py. The model is
`loss_model` site by site, centred as a practitioner writes it, with the samplers' own defaults but
for four chains. Prints one JSON line.
"""

import json
import sys
import time

import numpy as np

CHAINS, CORES = 4, 2


def build(a):
    import pymc as pm
    import pytensor.tensor as pt

    k, g, p = len(a["loc"]), len(a["parent"]), int(a["parent"].max()) + 1
    with pm.Model() as model:
        log_noise = pm.Normal("log_noise", a["noise"][0], a["noise"][1])
        log_off_valley = pm.Normal("log_off_valley", a["off_valley"][0], a["off_valley"][1])
        mean = pm.Normal("mean", a["loc"], a["scale"], shape=k)
        log_spread = pm.Normal("log_spread", np.log(a["between"]), a["spread_log_sd"], shape=k)
        per_doubling = pm.Normal("per_doubling", 0.0, a["per_doubling"], shape=k)
        log_parent = pm.Normal(
            "log_parent_spread", np.log(a["between"]), a["spread_log_sd"], shape=k
        )
        parent = pm.Normal("parent", mean[:, None], pt.exp(log_parent)[:, None], shape=(k, p))
        location = parent[:, a["parent"]] + per_doubling[:, None] * a["doublings"]
        theta = pm.Normal("theta", location, pt.exp(log_spread)[:, None], shape=(k, g))
        log_e, log_u, log_v, log_alpha, log_beta, log_gamma = (
            theta[i][a["group"]] for i in range(6)
        )
        u = log_u - pt.exp(log_alpha) * a["log_params"]
        v = log_v - pt.exp(log_beta) * a["log_tokens"]
        power = pt.exp(-log_gamma)
        expected = pt.logaddexp(log_e, pt.logaddexp(power * u, power * v) / power)
        imbalance = log_alpha + u - log_beta - v
        offset = pm.Normal("noise_offset", 0.0, a["noise_between"], shape=g)
        run_noise = log_noise + offset[a["group"]]
        sd = pt.sqrt(pt.exp(2 * run_noise) + pt.exp(2 * log_off_valley) * imbalance**4)
        pm.StudentT("log_loss", float(a["df"]), mu=expected, sigma=sd, observed=a["log_loss"])
    return model


def main():
    name, arrays = sys.argv[1:]
    began = time.perf_counter()
    import arviz as az
    import pymc as pm

    model = build(np.load(arrays))
    if name == "nutpie":
        import nutpie

        compiled = nutpie.compile_pymc_model(model)
        ready = time.perf_counter()
        idata = nutpie.sample(compiled, chains=CHAINS, cores=CORES, seed=0, progress_bar=False)
    else:
        ready = time.perf_counter()  # compiles inside sample
        with model:
            idata = pm.sample(
                chains=CHAINS, cores=CORES, random_seed=0, progressbar=False,
                compute_convergence_checks=False,
            )  # fmt: skip
    sampled = time.perf_counter()
    posterior = idata.posterior[[v.name for v in model.free_RVs]]
    answer = {
        "draws": int(posterior.sizes["chain"] * posterior.sizes["draw"]),
        "min_ess_bulk": min(float(v.min()) for v in az.ess(posterior).data_vars.values()),
        "max_rhat": max(float(v.max()) for v in az.rhat(posterior).data_vars.values()),
        "divergences": int(idata.sample_stats["diverging"].sum()),
        "setup_seconds": ready - began,
        "sampling_seconds": sampled - ready,
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
