"""The latency law: signs, limits and the mechanisms that it names."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allometry.accounting import named_device, preset
from allometry.errors import InputError
from allometry.inference.latency_work import table_work
from allometry.laws.latency import Work, latency_law, latency_law_names, log_seconds, natural_values

DEVICE = named_device("h100-sxm")
LAWS = [latency_law(name) for name in latency_law_names()]


def prior_values(law, *, bounded=True):
    loc = jnp.asarray([c.prior(bounded=bounded)[0] for c in law.coefficients])[:, None]
    return dict(zip(law.names, natural_values(law, loc, bounded=bounded), strict=True))


def work_of(name, *, batch, prompt, quantity, generated=1) -> Work:
    row = {"architecture": name.split("-")[0], "params": 1.0, "batch_size": batch}
    row |= {"prefill_length": prompt, "quantity": quantity, "generation_length": generated}
    return table_work(pd.DataFrame([row]), DEVICE, [preset(name)])


def seconds(law, work) -> float:
    return float(jnp.exp(log_seconds(law.parts(prior_values(law), work)))[0])


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
@given(
    name=st.sampled_from(["transformer-160m", "xlstm-160m", "transformer-7b", "xlstm-7b"]),
    batch=st.sampled_from([1, 3, 64, 1024]),
    prompt=st.integers(1, 32768),
    quantity=st.sampled_from(["ttft", "step_time"]),
)
def test_time_is_finite_and_never_falls_with_batch_or_prompt(law, name, batch, prompt, quantity):
    with jax.enable_x64(True):
        here = seconds(law, work_of(name, batch=batch, prompt=prompt, quantity=quantity))
        more = seconds(law, work_of(name, batch=2 * batch, prompt=prompt, quantity=quantity))
        longer = seconds(law, work_of(name, batch=batch, prompt=2 * prompt, quantity=quantity))
    rounding = 1 + 1e-9  # float64; a recurrent step is equal at any context
    assert np.isfinite(here)
    assert here > 0
    assert more * rounding >= here
    assert longer * rounding >= here


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
def test_recurrent_step_does_not_depend_on_context_and_attention_does(law):
    with jax.enable_x64(True):
        recurrent, attention = (
            [
                seconds(law, work_of(name, batch=8, prompt=t, quantity="step_time"))
                for t in (128, 16384)
            ]
            for name in ("xlstm-7b", "transformer-7b")
        )
    assert recurrent[0] == recurrent[1]
    assert attention[1] > 1.5 * attention[0]


def test_walk_takes_whole_rounds_of_the_devices_units():
    # 160M has 12 heads: 11 sequences fill 132 multiprocessors once, 12 need a second round.
    rounds = [
        float(work_of("transformer-160m", batch=b, prompt=99, quantity="step_time").key_rounds[0])
        for b in (1, 11, 12, 22, 23)
    ]
    per_round = 12 * (99 + 1)  # layers, keys allocated
    assert rounds == [per_round, per_round, 2 * per_round, 2 * per_round, 3 * per_round]


def test_overlapped_time_is_at_least_its_longest_part_and_at_most_their_sum():
    law = latency_law("roofline")
    with jax.enable_x64(True):
        for name in ("transformer-1.4b", "xlstm-1.4b"):
            for quantity in ("ttft", "step_time"):
                work = work_of(name, batch=16, prompt=2048, quantity=quantity)
                parts = law.parts(prior_values(law), work)
                total = parts.sequences + parts.compute + parts.memory + parts.walk
                assert float(parts.overlapped[0]) <= float(total[0]) * (1 + 1e-9)
                assert float(parts.overlapped[0]) >= max(
                    float(parts.compute[0]), float(parts.walk[0])
                )


def test_second_kernel_only_ever_shortens_a_prefill():
    one, two = latency_law("roofline"), latency_law("roofline-two-kernels")
    with jax.enable_x64(True):
        for prompt in (128, 2048, 16384):
            work = work_of("transformer-1.4b", batch=4, prompt=prompt, quantity="ttft")
            assert seconds(two, work) <= seconds(one, work) * (1 + 1e-9)


def test_shares_stay_below_their_ceiling_when_it_is_one():
    law = latency_law("roofline")
    theta = jnp.full((len(law.names), 1), 4.0)
    bounded = natural_values(law, theta, bounded=True)
    shares = [v for c, v in zip(law.coefficients, bounded, strict=True) if c.kind != "log"]
    assert all(0 < float(v[0]) < 1 for v in shares)
    free = natural_values(law, theta, bounded=False)
    assert float(free[law.names.index("prefill_rate")][0]) > 1


def test_gradient_is_finite_where_kinds_of_work_are_absent():
    law = latency_law("roofline-two-kernels")
    work = work_of("xlstm-160m", batch=1, prompt=128, quantity="step_time")

    def total(theta):
        values = dict(zip(law.names, natural_values(law, theta, bounded=True), strict=True))
        return log_seconds(law.parts(values, work)).sum()

    loc = jnp.asarray([c.loc for c in law.coefficients])[:, None]
    assert bool(jnp.isfinite(jax.grad(total)(loc)).all())


def test_unknown_law_lists_those_that_are_known():
    with pytest.raises(InputError, match="roofline, roofline-two-kernels"):
        latency_law("amdahl")


def test_device_without_a_positive_number_is_refused():
    with pytest.raises(InputError, match="must be positive"):
        replace(DEVICE, bandwidth=0.0)


def test_only_a_step_of_one_sequence_walks_along_its_width():
    one, two = (
        work_of("xlstm-160m", batch=b, prompt=128, quantity="step_time").row_channels[0]
        for b in (1, 2)
    )
    assert float(one) == 12 * 768
    assert float(two) == 0.0
    prefill = work_of("xlstm-160m", batch=1, prompt=128, quantity="ttft").row_channels[0]
    assert float(prefill) == 0.0


@given(
    name=st.sampled_from(["transformer-160m", "xlstm-160m", "transformer-7b", "xlstm-7b"]),
    walk=st.floats(-30, -10),
    one=st.floats(-20, -5),
    more=st.floats(-20, -5),
)
def test_one_row_takes_its_own_kernels_or_those_of_several(name, walk, one, more):
    """Whichever are faster, so that a step of one sequence takes no longer than one of two."""
    law = latency_law("roofline")
    drawn = {"row_channel_seconds": walk, "launch_one_row": one, "launch_more_rows": more}
    with jax.enable_x64(True):
        values = prior_values(law) | {n: jnp.exp(jnp.asarray([v])) for n, v in drawn.items()}
        never = values | {"row_channel_seconds": jnp.zeros(1)}
        works = [work_of(name, batch=b, prompt=128, quantity="step_time") for b in (1, 2)]
        alone, two = (law.parts(values, work) for work in works)
        bare = law.parts(never, works[0])
        here, there, least = (float(jnp.exp(log_seconds(parts))[0]) for parts in (alone, two, bare))
    assert least <= here * (1 + 1e-9)
    assert here <= there * (1 + 1e-9)
    assert float(alone.launch[0]) < float(two.launch[0])


def test_a_long_walk_of_one_row_costs_what_several_rows_would():
    law = latency_law("roofline")
    work = work_of("xlstm-160m", batch=1, prompt=128, quantity="step_time")
    with jax.enable_x64(True):
        values = prior_values(law)
        short, long, longer = (
            float(law.parts(values | {"row_channel_seconds": jnp.asarray([w])}, work).overlapped[0])
            for w in (1e-9, 1e-6, 1e-5)
        )
    further = 12 * float(values["launch_more_rows"][0])
    assert long == pytest.approx(longer, rel=1e-9)
    # Weights take the seconds of a short walk, and those and further launches that of a long one.
    assert long - short == pytest.approx(further, rel=0.05)


def test_logits_of_the_prompt_cost_nothing_where_they_are_not_computed():
    law = latency_law("roofline")
    work = work_of("xlstm-160m", batch=4, prompt=2048, quantity="ttft")
    with jax.enable_x64(True):
        values = prior_values(law)
        at = {
            share: float(law.parts(values | {"prompt_logits": share}, work).overlapped[0])
            for share in (0.0, 1.0)
        }
        none = replace(
            work,
            prompt_logit_flops=jnp.zeros(1),
            prompt_logit_bytes=jnp.zeros(1),
        )
        without = float(law.parts(values | {"prompt_logits": 1.0}, none).overlapped[0])
    assert at[0.0] == without
    assert at[1.0] > 1.2 * at[0.0]  # the head is 31 % of the products of a model of this size
