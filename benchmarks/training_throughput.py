"""Training steps a second on a CPU, as ratios measured in one run on one machine.

    python benchmarks/training_throughput.py [--rounds 15] [--batch 8 --context 256]
        [--width 192 --layers 4 --heads 3] [--only xlstm] [--autocast] [--compile] [--json FILE]

Each pair trains on the same tokens: forward, backward, clip at 0.5, AdamW. Rounds alternate
between the two, so that a busy machine slows both; ratios are of CPU time, baseline over ours:
the median over rounds, and of the fastest round of each, which a busy machine disturbs least.

- Transformer against a plain nanoGPT-style one of the same shape, written below.
- xLSTM against `xlstm.xlstm_large` of the same shape. Its default kernel is a Triton one, which no
  CPU runs; its README recommends `chunkwise--native_autograd` where there is no Triton. Timed
  beside it is `chunkwise--native_custbw`, whose gradient drops the normaliser's part. Both with
  its default chunk of 64.
- The products of the linear layers alone, forward and backward, which both models of a pair make:
  the ratio if all else of ours took no time is that of the baseline over them.
- With `--autocast` every model runs under bfloat16 autocast, as the harness trains on a GPU and as
  the study trained. Products are then fast where the CPU has instructions for them (printed).
- With `--compile` every model goes through `torch.compile`, as with the harness's `compile` option.
  Compiling takes minutes a model, the package's most: its loop over chunks is unrolled.
- The loader's share of the training time, and memory over a longer run, of `train` itself.
"""

import argparse
import json
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import torch
import torch.nn.functional as F  # noqa: N812  (as nanoGPT names it)
from torch import Tensor, nn

from allometry.accounting import Shape, TransformerShape, XLSTMShape, count_params
from allometry.harness.corpus import CorpusOptions, build_corpus
from allometry.harness.training import TrainConfig, train
from allometry.harness.training.loss import mean_loss
from allometry.models import build, weight_decay_groups

# The study's 160M, scaled down: a quarter of its width, a third of its depth, a byte vocabulary.
TRANSFORMER = TransformerShape(d_model=192, n_layers=4, n_heads=3, vocab_size=256)
XLSTM = XLSTMShape(d_model=192, n_layers=4, n_heads=3, vocab_size=256)
BATCH, CONTEXT = 8, 256


class PlainAttention(nn.Module):
    """Causal self-attention as nanoGPT writes it, with rotary positions."""

    def __init__(self, shape: TransformerShape) -> None:
        super().__init__()
        self.n_heads, self.d_model = shape.n_heads, shape.d_model
        self.c_attn = nn.Linear(shape.d_model, 3 * shape.d_model, bias=False)
        self.c_proj = nn.Linear(shape.d_model, shape.d_model, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        B, T, C = x.shape
        q, k, v = self.c_attn(x).split(self.d_model, dim=2)
        q, k, v = (y.view(B, T, self.n_heads, C // self.n_heads).transpose(1, 2) for y in (q, k, v))
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.c_proj(y.transpose(1, 2).contiguous().view(B, T, C))


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


class PlainBlock(nn.Module):
    def __init__(self, shape: TransformerShape) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.RMSNorm(shape.d_model), nn.RMSNorm(shape.d_model)
        self.attn = PlainAttention(shape)
        self.w1 = nn.Linear(shape.d_model, shape.d_ff, bias=False)
        self.w3 = nn.Linear(shape.d_model, shape.d_ff, bias=False)
        self.w2 = nn.Linear(shape.d_ff, shape.d_model, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x), cos, sin)
        y = self.ln_2(x)
        return x + self.w2(F.silu(self.w1(y)) * self.w3(y))


class PlainTransformer(nn.Module):
    """nanoGPT with the parts of Llama: RMSNorm, rotary positions, SwiGLU, untied head."""

    def __init__(self, shape: TransformerShape) -> None:
        super().__init__()
        self.wte = nn.Embedding(shape.vocab_size, shape.d_model)
        self.h = nn.ModuleList(PlainBlock(shape) for _ in range(shape.n_layers))
        self.ln_f = nn.RMSNorm(shape.d_model)
        self.lm_head = nn.Linear(shape.d_model, shape.vocab_size, bias=False)
        half = shape.head_dim // 2
        angles = torch.outer(torch.arange(32768.0), shape.rope_base ** (-torch.arange(half) / half))
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        time_steps = tokens.shape[1]
        x = self.wte(tokens)
        for block in self.h:
            x = block(x, self.cos[:time_steps], self.sin[:time_steps])
        return self.lm_head(self.ln_f(x))


def plain_step(model: nn.Module, *, compiled: bool) -> Callable[[Tensor], None]:
    """One step as nanoGPT's train.py takes it on a CPU."""
    forward = torch.compile(model) if compiled else model
    decay = [p for p in model.parameters() if p.ndim >= 2]
    rest = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": decay, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95))

    def step(windows: Tensor) -> None:
        logits = forward(windows[:, :-1]).float()
        loss = F.cross_entropy(logits.view(-1, logits.size(-1)), windows[:, 1:].reshape(-1))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def our_step(shape: Shape, *, autocast: bool, compiled: bool) -> Callable[[Tensor], None]:
    model = build(shape, seed=0)
    forward = Logits(model, autocast=autocast)
    forward = torch.compile(forward) if compiled else forward
    groups = weight_decay_groups(model)
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95), eps=1e-8, fused=True)

    def step(windows: Tensor) -> None:
        mean_loss(forward, windows, None).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def xlstm_package(shape: XLSTMShape, kernel: str) -> nn.Module:
    from xlstm.xlstm_large.model import xLSTMLarge, xLSTMLargeConfig

    return xLSTMLarge(
        xLSTMLargeConfig(
            embedding_dim=shape.d_model,
            num_heads=shape.n_heads,
            num_blocks=shape.n_layers,
            vocab_size=shape.vocab_size,
            qk_dim_factor=shape.head_dim_qk / shape.head_dim_v,
            ffn_proj_factor=shape.d_ff / shape.d_model,
            chunkwise_kernel=kernel,
            sequence_kernel="native_sequence__native",
            step_kernel="native",
            chunk_size=shape.chunk_size,
            mode="train",
            # Not its default: False ends in an exception in xlstm 2.0.6 where mode is "train".
            # The states are there anyway; their gradient is nothing.
            return_last_states=True,
            autocast_kernel_dtype="float32",
            inference_state_dtype="float32",
        )
    )


class Logits(nn.Module):
    """A model under autocast or not, without the states that the package gives beside them."""

    def __init__(self, model: nn.Module, *, autocast: bool) -> None:
        super().__init__()
        self.model, self.autocast = model, autocast

    def forward(self, tokens: Tensor, **options: Tensor | None) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.autocast):
            out = self.model(tokens, **options)
        return out[0] if isinstance(out, tuple) else out


def linear_products(model: nn.Module, tokens: int, dtype: torch.dtype) -> Callable[[Tensor], None]:
    """All products of the linear layers in one step: outputs, and gradients of both operands."""
    operands = [
        (
            torch.randn(tokens, x.in_features, dtype=dtype),
            x.weight.detach().to(dtype),
            torch.randn(tokens, x.out_features, dtype=dtype),
        )
        for x in model.modules()
        if isinstance(x, nn.Linear)
    ]

    def step(_: Tensor) -> None:
        for x, weight, y in operands:
            torch.mm(x, weight.T)
            torch.mm(y, weight)
            torch.mm(y.T, x)

    return step


def ratio(
    baseline: Callable[[Tensor], None],
    shape: Shape,
    *,
    rounds: int,
    batch: int,
    context: int,
    autocast: bool,
    compiled: bool,
) -> dict[str, float]:
    generator = torch.Generator().manual_seed(0)
    windows = torch.randint(0, 256, (batch, context + 1), generator=generator)
    ours = our_step(shape, autocast=autocast, compiled=compiled)
    dtype = torch.bfloat16 if autocast else torch.float32
    products = linear_products(build(shape, seed=0), batch * context, dtype)
    steps = (("baseline", baseline), ("products", products), ("ours", ours))
    times: dict[str, list[float]] = {name: [] for name, _ in steps}
    for number in range(rounds + 2):
        for name, step in steps if number % 2 else steps[::-1]:  # who goes first alternates
            start = time.process_time()
            step(windows)
            if number >= 2:  # the first two warm up
                times[name].append(time.process_time() - start)
    ratios = [a / b for a, b in zip(times["baseline"], times["ours"], strict=True)]
    tokens = batch * context
    fastest = {name: min(values) for name, values in times.items()}
    return {
        "ratio_median": statistics.median(ratios),
        "ratio_of_fastest": fastest["baseline"] / fastest["ours"],
        "ratio_q25": float(np.quantile(ratios, 0.25)),
        "ratio_q75": float(np.quantile(ratios, 0.75)),
        "baseline_tokens_per_cpu_second": tokens / statistics.median(times["baseline"]),
        "our_tokens_per_cpu_second": tokens / statistics.median(times["ours"]),
        "share_of_linear_products_in_ours": fastest["products"] / fastest["ours"],
        "share_of_linear_products_in_baseline": fastest["products"] / fastest["baseline"],
        "ratio_if_only_linear_products_took_time": fastest["baseline"] / fastest["products"],
    }


def loop_figures(folder: Path, steps: int) -> dict[str, float]:
    """Loader share of `train`, and its memory halfway and at the end."""
    rng = np.random.default_rng(0)
    text = folder / "text.txt"
    lines = ("".join(chr(97 + c) for c in rng.integers(0, 26, 2000)) for _ in range(2000))
    text.write_text("\n<|endoftext|>\n".join(lines))
    build_corpus([text], folder / "corpus", options=CorpusOptions(tokenizer="bytes"))
    config = TrainConfig(
        shape=TRANSFORMER,
        corpus=str(folder / "corpus"),
        context_length=CONTEXT,
        batch_size=BATCH,
        steps=steps,
        learning_rate=1e-3,
        validation_tokens=4096,
        log_steps=1,
        threads=1,
        checkpoint_seconds=5.0,
    )
    memory: list[int] = []
    process = psutil.Process()
    result = train(
        config, folder / "run", progress=lambda _: memory.append(process.memory_info().rss)
    )
    early, late = (
        memory[steps // 2],
        memory[-1],
    )  # buffers and mapped pages fill up in the first half
    return {
        "loader_share": result.loader_share,
        "rss_growth_mib": (late - early) / 2**20,
        "rss_mib": late / 2**20,
    }


def show(name: str, figures: dict[str, float]) -> None:
    lines = (f"{key} {value:.4g}" for key, value in figures.items())
    print(name, *lines, sep="\n    ", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=100, help="of the run for loader and memory")
    parser.add_argument("--batch", type=int, default=BATCH, help="sequences a step")
    parser.add_argument("--context", type=int, default=CONTEXT, help="tokens a sequence")
    parser.add_argument("--width", type=int, default=TRANSFORMER.d_model)
    parser.add_argument("--layers", type=int, default=TRANSFORMER.n_layers)
    parser.add_argument("--heads", type=int, default=TRANSFORMER.n_heads)
    parser.add_argument("--only", choices=("transformer", "xlstm"))
    parser.add_argument("--autocast", action="store_true", help="bfloat16, both sides")
    parser.add_argument("--compile", action="store_true", help="both sides; takes minutes")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    size = {"rounds": options.rounds, "batch": options.batch, "context": options.context}
    autocast, compiled = options.autocast, options.compile
    how = {"autocast": autocast, "compiled": compiled}
    scaled = {"d_model": options.width, "n_layers": options.layers, "n_heads": options.heads}
    transformer = TransformerShape(**scaled, vocab_size=TRANSFORMER.vocab_size)
    xlstm = XLSTMShape(**scaled, vocab_size=XLSTM.vocab_size)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    amx = torch.cpu._is_amx_tile_supported()
    print(torch.__version__, torch.backends.cpu.get_cpu_capability(), "AMX" if amx else "no AMX")
    report: dict[str, dict[str, float]] = {}
    if options.only != "xlstm":
        plain = PlainTransformer(transformer)
        # Same products: the same FLOPs. RMSNorms and untied embeddings make the counts equal.
        assert sum(p.numel() for p in plain.parameters()) == count_params(transformer).total
        report["transformer / nanoGPT-style"] = ratio(
            plain_step(Logits(plain, autocast=autocast), compiled=compiled),
            transformer,
            **size,
            **how,
        )
        show(*list(report.items())[-1])
    kernels = ("chunkwise--native_autograd", "chunkwise--native_custbw")
    for kernel in kernels if options.only != "transformer" else ():
        peer = xlstm_package(xlstm, kernel)
        counted = sum(p.numel() for p in peer.parameters())
        assert math.isclose(counted, count_params(xlstm).total, rel_tol=0.01), counted

        name = f"xlstm / xlstm package, {kernel}"
        baseline = plain_step(Logits(peer, autocast=autocast), compiled=compiled)
        report[name] = ratio(baseline, xlstm, **size, **how)
        show(name, report[name])
    with tempfile.TemporaryDirectory() as folder:
        report["train"] = loop_figures(Path(folder), options.steps)
    show("train", report["train"])
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
