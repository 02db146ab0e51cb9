"""The tables known by name: what each holds, whose it is, and how its rows are made ready."""

import numpy as np
import pandas as pd

from allometry.observations.registry import Preparation, RegisteredTable

_XLSTM_SOURCE = (
    "https://github.com/NX-AI/xlstm_scaling_laws commit 604bb3062d3a7681bb33e467108cb0a6f81267fc"
)
_XLSTM_CITATION = (
    "Beck, Schweighofer, Boeck, Lehner, Hochreiter: xLSTM Scaling Laws: Competitive Performance "
    "with Linear Time-Complexity, ICLR 2026"
)
_XLSTM_UPSTREAM = (
    "It is derived: the run logs are pickles in the upstream repository, which allometry never "
    "opens, and printed tables and figures; no public address serves this file."
)
_ACTIVE_SL = (
    "https://github.com/PlanarG/active-sl commit e0a58ffde4f6fdfb20880d47d6d180fdbcb1440d, "
    "benchmark/dataset/{}"
)
_ACTIVE_SL_UPSTREAM = (
    "To make an equivalent: git clone https://github.com/PlanarG/active-sl, and allometry data "
    "import the Parquet files in benchmark/dataset/{}."
)

TOKENS_REPEAT = "tokens count repetitions; use a law that knows unique_tokens or epochs"
"""Not meant for a fit of such a law."""


def _bounded_loss(table: pd.DataFrame) -> pd.DataFrame:
    # loss_abs_err is the half width of an interval with nothing to prefer inside it: a uniform
    # distribution, whose standard deviation is the half width over the square root of 3.
    if "loss_abs_err" not in table:
        return table
    return table.assign(loss_stderr=table["loss_abs_err"].astype(float) / np.sqrt(3.0))


def _on_an_h100(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(device="h100-sxm")


_TABLES = (
    RegisteredTable(
        name="xlstm",
        file="xlstm_runs.csv",
        description="Transformer and xLSTM at contexts 2048, 8192, 16384: isoflop and token/param",
        source=_XLSTM_SOURCE,
        paper="arXiv:2510.02228",
        citation=_XLSTM_CITATION,
        licence="none stated",
        sha256="e64cc8b50cc80e3a50b07fcb76d12d7ec2109e4ed9ba5cbd91a0a4c64f96ab7e",
        rows=640,
        upstream=_XLSTM_UPSTREAM,
        prepare=Preparation(
            derive=_bounded_loss,
            notes=(
                "loss_stderr is loss_abs_err / sqrt(3): the loss of 130 runs was read from figures "
                "and lies anywhere within its bounds",
            ),
        ),
    ),
    RegisteredTable(
        name="xlstm-extra",
        file="xlstm_extra_runs.csv",
        description="Runs of that campaign outside its 640: other budgets, batch study, failed",
        source=_XLSTM_SOURCE,
        paper="arXiv:2510.02228",
        citation=_XLSTM_CITATION,
        licence="none stated",
        sha256="0b545eca4df5c3aeb3542a9d5b90329d755e2085f658d71e2928e92610a266ee",
        rows=117,
        upstream=_XLSTM_UPSTREAM,
        prepare=Preparation(
            exclude=(
                ("tokens is None or loss is None", "never finished"),
                (
                    'why_not_in_main_set == "dropped by upstream filter (loss spike, divergence '
                    'or outlier)"',
                    "dropped by the authors: loss spike, divergence or outlier",
                ),
            ),
        ),
    ),
    RegisteredTable(
        name="xlstm-curves",
        file="xlstm_curves.parquet",
        kind="curves",
        description="Training curves of the 432 xlstm runs with logs, thinned",
        source=_XLSTM_SOURCE,
        paper="arXiv:2510.02228",
        citation=_XLSTM_CITATION,
        licence="none stated",
        sha256="e31ac6dc78bf8d767d5e5ac29f19b0308604b0aaf179ec7f5da2664eb1517120",
        rows=45_663,
        hint="Losses before the end of a cool-down are not final losses; read it with pandas.",
        upstream=_XLSTM_UPSTREAM,
    ),
    RegisteredTable(
        name="chinchilla",
        file="chinchilla_runs.csv",
        description="245 points of figure 4 of the Chinchilla paper, read from its vector graphics",
        source=(
            "https://github.com/epoch-research/analyzing-chinchilla commit "
            "92258837425e1b5f2851d624287f0120583a3d0e, data/svg_extracted_data.csv"
        ),
        paper="arXiv:2404.10102 (points of arXiv:2203.15556)",
        citation=(
            "Besiroglu, Erdil, Barnett, You: Chinchilla Scaling: A replication attempt, 2024; "
            "Hoffmann et al.: Training Compute-Optimal Large Language Models, 2022"
        ),
        licence="none stated",
        sha256="a49c53cdff2b991a4a4657c35cd8141be251f711a490b07c44c18d9b13f43d08",
        rows=245,
        upstream=(
            "To make an equivalent: git clone https://github.com/epoch-research/"
            "analyzing-chinchilla, then allometry data import data/svg_extracted_data.csv "
            "--format epoch."
        ),
        prepare=Preparation(
            exclude=(
                ("in_fit_240 == False", "one of the five highest losses, left out by the authors"),
            ),
            notes=(
                "loss was read from colour (99 distinct values) and tokens are flops / (6 params)",
            ),
        ),
    ),
    RegisteredTable(
        name="farseer",
        file="farseer_runs.csv",
        description="Transformers of the Farseer study to 1.9e22 FLOPs; loss not in nats a token",
        source=_ACTIVE_SL.format("farseer_scaling_law"),
        paper="arXiv:2604.22753 (runs of arXiv:2506.10972)",
        citation="Farseer (arXiv:2506.10972), as collected in ScaleBench (arXiv:2604.22753)",
        licence="MIT, data card CC-BY-4.0",
        sha256="08cc24a77db63085020f11e4af8cd808ec168c5edf048af59e8d033b9281b95e",
        rows=411,
        upstream=_ACTIVE_SL_UPSTREAM.format("farseer_scaling_law"),
        prepare=Preparation(
            repeated="repeats another row of the source",
            loss_unit="unknown, likely nats per byte or per character",
            notes=(
                "loss is not in nats per token (0.44 to 0.71, likely per byte or per character): "
                "priors on E in nats do not hold",
                "flops are 6 params tokens, not counted",
            ),
        ),
    ),
    RegisteredTable(
        name="overtraining",
        file="overtraining_runs.csv",
        description="Over-trained models on three corpora, 5 to 640 tokens a parameter",
        source=(
            "https://github.com/mlfoundations/scaling commit "
            "a003c4913793ac2ae7ef87b28ecb562955d026d5, exp_data/models"
        ),
        paper="arXiv:2403.08540",
        citation=(
            "Gadre et al.: Language models scale reliably with over-training and on downstream "
            "tasks, 2024"
        ),
        licence="MIT",
        sha256="d12e04f3e7c4f35c91806e53c1f7b57bab20d0c2911f7c88149c5e1d36b8d935",
        rows=104,
        upstream=(
            "To make it: git clone https://github.com/mlfoundations/scaling, then allometry data "
            "import exp_data/models --format open-lm."
        ),
        prepare=Preparation(
            by=("dataset",),
            notes=(
                "groups are the training corpora; all are scored on the same C4 test set, so its "
                "sampling error is shared by all runs and is not in loss_stderr",
                "flops are 6 params tokens, not counted",
            ),
        ),
    ),
    RegisteredTable(
        name="repetition",
        file="repetition_runs.csv",
        description="Data-constrained runs: up to many epochs over few unique tokens",
        source=_ACTIVE_SL.format("data_constrained_scaling_law"),
        paper="arXiv:2604.22753 (runs of arXiv:2305.16264)",
        citation=(
            "Muennighoff et al.: Scaling Data-Constrained Language Models, 2023, as collected in "
            "ScaleBench (arXiv:2604.22753)"
        ),
        licence="MIT, data card CC-BY-4.0",
        sha256="7b200b7caa9a94d428ba87181b1ddc22c610004aa859ae09134591e6874efd8e",
        rows=182,
        upstream=_ACTIVE_SL_UPSTREAM.format("data_constrained_scaling_law"),
        prepare=Preparation(
            notes=(
                TOKENS_REPEAT,
                "flops are 6 params tokens, not counted",
            ),
        ),
    ),
    RegisteredTable(
        name="latency",
        file="latency_runs.csv",
        kind="latency",
        description="Time to first token and step time of Transformer and xLSTM inference",
        source=_XLSTM_SOURCE,
        paper="arXiv:2510.02228",
        citation=_XLSTM_CITATION,
        licence="none stated",
        sha256="61f185c863e15caec43684035f672500a2fbff55313b12c0263c9782a058e28b",
        rows=3_068,
        hint="Read it with read_latency.",
        upstream=_XLSTM_UPSTREAM,
        prepare=Preparation(
            derive=_on_an_h100,
            notes=(
                "the device is not recorded; h100-sxm is taken, because the study divides by its "
                "peak of 989 TFLOP/s",
            ),
        ),
    ),
    RegisteredTable(
        name="synthetic",
        file="synthetic/runs.csv",
        description="Synthetic: published laws plus 0.3 % noise; no model was trained for it",
        source="data/synthetic/generate.py of this project, seed 20260301",
        paper="law parameters from arXiv:2510.02228",
        citation=_XLSTM_CITATION + " (law parameters only)",
        licence="Apache-2.0",
        sha256="b48a1e4ea09fb52cd33af2190f464e34c4e85cb1c6eea4eb755b3e6e485e30dd",
        rows=134,
        bundled=True,
        upstream="To make it: python data/synthetic/generate.py in a checkout of this project.",
        prepare=Preparation(
            notes=("synthetic: losses are a published law plus noise, not measurements",),
        ),
    ),
)

TABLES: dict[str, RegisteredTable] = {table.name: table for table in _TABLES}
"""Every registered table by name."""
