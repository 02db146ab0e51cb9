import json
import math

import pytest
import torch
from safetensors.torch import load_file

from allometry.accounting import count_params, training_flops
from allometry.cli import main
from allometry.errors import InputError
from allometry.harness.corpus import TokenRow, read_manifest
from allometry.harness.training import loop, read_curve, train
from allometry.harness.training.loss import document_starts
from allometry.models import build


@pytest.mark.parametrize("architecture", ["transformer", "xlstm"])
def test_a_run_learns_and_leaves_a_row_of_a_runs_table(tmp_path, config, architecture):
    run = config(architecture, steps=60, learning_rate=1e-2)
    result = train(run, tmp_path / "run-7")
    curve = read_curve(tmp_path / "run-7")
    assert curve[0]["train_loss"] == pytest.approx(math.log(256), abs=0.3)  # a blind guess
    assert result.loss < curve[0]["train_loss"] - 1.5
    assert [row["step"] for row in curve if row["val_loss"] is not None] == [20, 40, 60]
    assert curve[-1]["val_loss"] == result.loss
    assert (result.run_id, result.architecture) == ("run-7", architecture)
    assert result.tokens == 60 * 4 * 32 == curve[-1]["tokens"]
    assert result.params == count_params(run.shape).total
    assert result.flops == training_flops(run.shape, context_length=32, tokens=result.tokens)
    status = json.loads((tmp_path / "run-7" / "status.json").read_text())
    assert (status["status"], status["loss"]) == ("finished", result.loss)


def test_the_loss_is_the_mean_over_the_validation_set(tmp_path, config, corpus):
    run = config(validation_tokens=0, mask_documents=False)
    result = train(run, tmp_path / "run")
    model = build(run.shape, seed=5)
    model.load_state_dict(load_file(tmp_path / "run" / "checkpoint" / "model.safetensors"))
    model.double()
    row = TokenRow(corpus, read_manifest(corpus), "validation")
    tokens = torch.from_numpy(row.windows([0], len(row))[0])
    total, count = 0.0, 0
    with torch.no_grad():
        for start in range(0, len(row) - 32, 32):
            logits = model(tokens[None, start : start + 32])[0]
            picked = logits.log_softmax(-1).gather(1, tokens[start + 1 : start + 33, None])
            total -= float(picked.sum())
            count += 32
    assert result.validation_tokens == count
    # float32 against float64: each token's loss is off by some eps * |logits| ~ 1e-6.
    assert result.loss == pytest.approx(total / count, abs=5e-6)


def test_a_row_of_the_curve_is_the_mean_since_the_row_before(tmp_path, config):
    train(config(steps=12, log_steps=1), tmp_path / "each")
    train(config(steps=12, log_steps=6, validation_points=1), tmp_path / "some")
    losses = [row["train_loss"] for row in read_curve(tmp_path / "each")]
    rows = [row["train_loss"] for row in read_curve(tmp_path / "some")]
    assert rows == pytest.approx([sum(losses[:6]) / 6, sum(losses[6:]) / 6], rel=1e-12)


def test_a_loss_that_stays_worse_than_a_blind_guess_stops_the_run(tmp_path, config):
    result = train(config(steps=60, learning_rate=3.0, warmup_steps=1), tmp_path / "run")
    assert (result.diverged, result.loss) == (True, None)
    assert "a blind guess 5.545" in result.reason


def test_accumulation_changes_nothing_but_rounding(tmp_path, config):
    whole = train(config(steps=6), tmp_path / "a")
    parts = train(config(steps=6, accumulation=4), tmp_path / "b")
    # AdamW turns the sign of a near-zero gradient into a full step: rounding shows at 1e-4.
    assert parts.loss == pytest.approx(whole.loss, abs=1e-4)


def test_documents_do_not_see_each_other(config, corpus):
    row = TokenRow(corpus, read_manifest(corpus), "train")
    tokens = torch.from_numpy(row.windows([0], 6000)[0])
    starts = document_starts(tokens[None], 0)[0]
    assert starts[1:].tolist() == (tokens[:-1] == 0).tolist()
    assert starts.sum() >= 2
    assert document_starts(tokens[None, :100], 0) is None  # no end of text in it
    assert document_starts(tokens[None], None) is None


def test_a_finished_run_is_returned_and_not_trained_again(tmp_path, config):
    first = train(config(), tmp_path / "run")
    seen = []
    assert train(config(), tmp_path / "run", progress=seen.append) == first
    assert seen == []


def test_another_run_in_the_folder_is_refused(tmp_path, config):
    train(config(), tmp_path / "run")
    with pytest.raises(InputError, match="holds a run with another learning_rate, seed"):
        train(config(seed=1, learning_rate=1e-3), tmp_path / "run")


def test_a_run_that_failed_before_its_first_row_gives_way_to_a_corrected_one(tmp_path, config):
    with pytest.raises(InputError, match="a window needs"):
        train(config(context_length=10**6), tmp_path / "run")
    assert not train(config(), tmp_path / "run").diverged
    with pytest.raises(InputError, match="holds a run with another context_length"):
        train(config(context_length=16), tmp_path / "run")


def test_the_seed_decides(tmp_path, config):
    losses = {
        (seed, name): train(config(seed=seed), tmp_path / f"{name}{seed}").loss
        for seed in (0, 1)
        for name in "ab"
    }
    assert losses[0, "a"] == losses[0, "b"] != losses[1, "a"]


def test_a_run_that_explodes_is_marked_and_has_no_loss(tmp_path, config):
    result = train(config(learning_rate=1e3, clip=0.0, warmup_steps=1), tmp_path / "run")
    assert result.diverged
    assert result.loss is None
    assert result.reason
    assert result.steps < 24
    assert json.loads((tmp_path / "run" / "result.json").read_text())["loss"] is None
    assert json.loads((tmp_path / "run" / "status.json").read_text())["status"] == "diverged"
    assert train(config(learning_rate=1e3, clip=0.0, warmup_steps=1), tmp_path / "run") == result


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, config, monkeypatch):
    def poisoned(shape, *, seed, device):
        model = build(shape, seed=seed, device=device)
        with torch.no_grad():
            model.head.weight[3] = math.nan
        return model

    monkeypatch.setattr(loop, "build", poisoned)
    result = train(config(), tmp_path / "run")
    assert (result.diverged, result.loss, result.steps) == (True, None, 1)
    assert "loss nan" in result.reason


def test_bad_input_is_one_line(tmp_path, config, capsys, corpus):
    options = ["--context-length", "32", "--batch-size", "4", "--steps", "5", "--threads", "1"]
    options += ["-o", str(tmp_path / "run")]
    nowhere = str(tmp_path / "nowhere")
    assert main(["train", "--corpus", nowhere, "--params", "1e5", *options]) == 2
    assert capsys.readouterr().err.splitlines()[0] == f"error: {nowhere}: no such folder"
    small = config(shape=type(config().shape)(d_model=32, n_layers=1, n_heads=2, vocab_size=100))
    path = tmp_path / "config.json"
    path.write_text(json.dumps(small.to_json()))
    assert main(["train", str(path), *options]) == 2
    error = capsys.readouterr().err.splitlines()[0]
    assert "the shape has 100 vocabulary rows, the corpus needs 256" in error
    assert main(["train", "--params", "1e5", "-o", nowhere, "--steps", "5"]) == 2
    assert "--params needs --corpus" in capsys.readouterr().err
    assert main(["train", "-o", nowhere]) == 2
    assert "not given: corpus, context_length" in capsys.readouterr().err
    assert main(["train", str(path), *options, "--device", "cuda"]) == 2


def test_the_command_prints_the_result(tmp_path, corpus, capsys):
    arguments = ["train", "--corpus", str(corpus), "--params", "1e5", "--context-length", "32"]
    arguments += ["--batch-size", "4", "--tokens", "1000", "--validation-tokens", "64"]
    assert main([*arguments, "--threads", "1", "--json", "-o", str(tmp_path / "run")]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["tokens"] == 1024  # 8 steps of 128
    assert result["learning_rate"] == 3e-3
    assert result["vocab_size"] == 256
