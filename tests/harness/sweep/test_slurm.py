import pandas as pd
import pytest

from allometry.errors import InputError, KernelError
from allometry.harness.sweep import SlurmExecutor, SweepStatus, collect_sweep, run_sweep
from allometry.harness.sweep.slurm import SweepJob
from allometry.harness.sweep.worker import work

submitit = pytest.importorskip("submitit")

# submitit 1.5's debug jobs leave their log files to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.mark.parametrize(("cluster", "workers"), [("debug", 1), ("local", 2)])
def test_jobs_make_the_table_that_one_worker_makes(
    make_sweep, times_begun, small_plan, cluster, workers
):
    alone = make_sweep("alone")
    work(alone)
    folder = make_sweep("jobs")
    run_sweep(folder, SlurmExecutor(cluster=cluster, workers=workers, minutes=5))
    assert times_begun("jobs") == dict.fromkeys(small_plan.run_id, 1)
    pd.testing.assert_frame_equal(collect_sweep(folder)[0], collect_sweep(alone)[0])


def test_wrong_kernels_come_back_from_a_job(make_sweep):
    folder = make_sweep(entry="made_up:refuse")
    with pytest.raises(KernelError, match="the kernels of this device are wrong"):
        run_sweep(folder, SlurmExecutor(cluster="debug"))


def test_a_preempted_job_is_put_back_as_it_was(make_sweep):
    folder = make_sweep()
    again = SweepJob(str(folder.path)).checkpoint()
    assert isinstance(again, submitit.helpers.DelayedSubmission)
    assert again.function.folder == str(folder.path)


def test_options_that_slurm_does_not_know_are_one_line(make_sweep):
    executor = SlurmExecutor(cluster="debug", options={"no_such_option": 1})
    with pytest.raises(InputError, match="Slurm refuses"):
        run_sweep(make_sweep(), executor)
    with pytest.raises(InputError, match='Slurm refuses: Parameter "mem_gb" expected type'):
        run_sweep(make_sweep(), SlurmExecutor(cluster="debug", options={"mem_gb": "much"}))


def test_an_option_takes_the_place_of_what_a_job_gets_otherwise(make_sweep):
    folder = make_sweep()
    run_sweep(folder, SlurmExecutor(cluster="debug", options={"timeout_min": 30}))
    assert (SweepStatus(folder).table().state == "finished").all()
