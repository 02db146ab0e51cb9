"""The benchmark's FLOPs are those a training run of the same cell is accounted for."""

import pytest

from allometry.accounting import XLSTMShape, training_flops_per_sequence
from allometry.kernels.bench import BenchShape, cell_flops


@pytest.mark.parametrize(("time", "chunk"), [(256, 128), (300, 64), (40, 64), (1024, 256)])
def test_bench_counts_the_cell_as_the_accounting_of_a_training_run_does(time, chunk):
    bench = BenchShape(batch=2, heads=3, time=time, d_qk=24, d_v=56, chunk=chunk)
    whole = XLSTMShape(
        d_model=168, n_layers=1, n_heads=3, head_dim_qk=24, head_dim_v=56, chunk_size=chunk
    )
    options = {"mlstm": "tfla", "backward": "exact_cell"}
    counted = training_flops_per_sequence(whole, time, **options).total
    # The same model with another cell differs by the two cells alone: all else cancels.
    other = XLSTMShape(
        d_model=168, n_layers=1, n_heads=3, head_dim_qk=24, head_dim_v=56, chunk_size=16
    )
    sixteen = BenchShape(batch=2, heads=3, time=time, d_qk=24, d_v=56, chunk=16)
    difference = counted - training_flops_per_sequence(other, time, **options).total
    ours = cell_flops(bench, "forward_backward") - cell_flops(sixteen, "forward_backward")
    assert ours == pytest.approx(bench.batch * difference, rel=1e-12)
