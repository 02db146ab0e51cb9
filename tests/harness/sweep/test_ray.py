"""On a real cluster of two nodes; one is killed in the middle."""

import time

import pandas as pd
import pytest

from allometry.harness.sweep import RayExecutor, SweepStatus, collect_sweep, run_sweep
from allometry.harness.sweep.worker import work

pytestmark = [
    pytest.mark.slow,
    # ray: sockets and log files of killed nodes are closed by the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning:ray"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),
]


@pytest.fixture
def two_nodes():
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "include_dashboard": False},
    )
    second = cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False)
    yield cluster, second
    ray.shutdown()
    cluster.shutdown()


def test_a_node_killed_in_the_middle_changes_nothing(
    two_nodes, make_sweep, times_begun, small_plan
):
    cluster, second = two_nodes
    alone = make_sweep("alone")
    work(alone)
    folder = make_sweep("ray", seconds=2.0)
    killed = []

    def watch():
        table = SweepStatus(folder).table()
        if not killed and (table.state == "running").sum() == 2:
            killed.append(time.monotonic())
            cluster.remove_node(second, allow_graceful=False)

    run_sweep(folder, RayExecutor(), watch=watch)
    assert killed
    pd.testing.assert_frame_equal(collect_sweep(folder)[0], collect_sweep(alone)[0])
    begun = times_begun("ray")
    assert set(begun) == set(small_plan.run_id)
    # The run that the dead node was at, and no other, was begun again.
    assert sorted(begun.values()) == [1] * (len(begun) - 1) + [2]
