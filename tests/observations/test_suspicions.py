import numpy as np
import pandas as pd
import pytest

from allometry.observations import read_runs


def warned(table: pd.DataFrame) -> str:
    return "\n".join(read_runs(table).warnings)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda t: t.assign(flops=6 * t.params), "they look like FLOPs of one token"),
        (lambda t: t.assign(flops=6e6 * t.params), "FLOPs of a step or a sequence"),
        (lambda t: t.assign(flops=4 * t.flops), "flops are 4 x 6ND in the median"),
        (lambda t: t.assign(loss=t.loss / np.log(2) + 2), "That would be 3.9"),
        (lambda t: t.assign(loss=np.exp(t.loss)), "a perplexity? Its natural log would be 2."),
        (
            lambda t: t.rename(columns={"params": "tokens", "tokens": "params"}),
            "runs have fewer tokens than params",
        ),
        (lambda t: t.assign(loss=t.loss / 4.2), "per byte or per character"),
        (lambda t: t.assign(loss=t.loss + 8, vocab_size=256), "above log(vocab_size)"),
        (lambda t: t.assign(params=t.params / 1e9), "params run from 0.1 to 5: in millions or"),
        (lambda t: t.assign(loss=t.loss / np.log(2)), "x that of Chinchilla's runs at the same"),
        (lambda t: t.assign(State=["crashed"] + ["finished"] * 29), "State says crashed in row 0"),
        (lambda t: t.assign(run_id="one"), "1 run_id(s) appear on several rows"),
        (lambda t: t.assign(epochs=4.0), "tokens count repetitions"),
        (lambda t: t.assign(params_non_embedding=t.params), "params are not above"),
        (lambda t: t.assign(architecture=["a"] * 3 + ["b"] * 27), "fewer than 6 runs"),
        (lambda t: t.drop(columns="context_length"), "no column context_length: all runs"),
        (lambda t: t.assign(flops=np.nan), "no value in column flops"),
    ],
)
def test_a_figure_that_looks_wrong_is_said(change, sentence, clean_runs):
    assert sentence not in warned(clean_runs)
    assert sentence in warned(change(clean_runs))


def test_sizes_of_small_models_are_not_taken_for_billions(clean_runs):
    tiny = clean_runs.assign(params=clean_runs.params / 1e5, tokens=clean_runs.tokens / 1e5)
    counted = tiny.assign(flops=6 * tiny.params * tiny.tokens)
    assert tiny.params.max() < 1e5
    assert "billions" not in warned(counted)  # flops agree with sizes in units of one
    assert "billions" not in warned(tiny.drop(columns="flops"))
    assert "billions" in warned(tiny.assign(flops=clean_runs.flops))  # and here they do not
    in_billions = clean_runs.assign(
        params=clean_runs.params / 1e9,
        tokens=clean_runs.tokens / 1e9,
        flops=clean_runs.flops / 1e18,
    )
    assert "params run from 0.1 to 5" in warned(in_billions)  # all three in other units
    assert "params run from 0.1 to 5" in warned(in_billions.drop(columns="flops"))


def test_a_loss_below_a_uniform_guess_of_a_known_vocabulary_is_not_taken_for_bits(clean_runs):
    high = clean_runs.assign(loss=clean_runs.loss / np.log(2) + 2)
    assert "bits per token" in warned(high)
    assert "bits" not in warned(high.assign(vocab_size=50_257))  # log of it is 10.8
    some = high.assign(vocab_size=[50_257.0] + [np.nan] * (len(high) - 1))
    assert "bits per token" in warned(some)


def test_how_to_say_millions_is_told(clean_runs):
    text = warned(clean_runs.assign(params=clean_runs.params / 1e9))
    assert 'a column named "params (M)" or "params (B)" settles it' in text


def test_flops_within_a_factor_of_three_pass(clean_runs):
    assert warned(clean_runs.assign(flops=2.9 * clean_runs.flops)) == ""
    assert warned(clean_runs.assign(flops=clean_runs.flops / 2.9)) == ""


def test_params_that_lack_the_embeddings_are_said(clean_runs):
    blocks = 12 * 8 * 512**2
    narrow = clean_runs.assign(d_model=512, n_layers=8).drop(columns="flops")
    assert "without embeddings" in warned(narrow.assign(params=float(blocks)))
    assert warned(narrow.assign(params=float(blocks + 2 * 50_304 * 512))) == warned(narrow)


def test_a_loss_below_the_asymptote_of_the_others_is_said(clean_runs):
    table = clean_runs.copy()
    table.loc[7, "loss"] = 1.2
    assert "loss 1.2 in row 7 is below E = 1.7" in warned(table)


def test_public_tables_raise_no_false_suspicion(public):
    for name in ("xlstm", "chinchilla", "farseer", "overtraining", "repetition"):
        public(name)
        text = "\n".join(read_runs(name).warnings)
        assert not any(word in text for word in ("6ND", "below E", "billions", "bits", "vocab"))
