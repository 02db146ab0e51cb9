import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pandas as pd
import pytest

from allometry.errors import InputError, KernelError, RunError
from allometry.harness.sweep import (
    LocalExecutor,
    SweepFolder,
    SweepStatus,
    collect_sweep,
    run_sweep,
    write_collected,
)
from allometry.harness.sweep.worker import work

DRIVER = """
import signal
import sys
from pathlib import Path
from allometry.harness.sweep import LocalExecutor, SweepFolder, run_sweep
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job's children ignore it
run_sweep(SweepFolder(Path(sys.argv[1])), LocalExecutor(workers=2))
"""


def start_driver(folder):
    return subprocess.Popen([sys.executable, "-c", DRIVER, str(folder.path)])


def tables(folder):
    runs, curves = collect_sweep(folder)
    return runs, curves


def states(folder):
    return SweepStatus(folder).table().state.value_counts().to_dict()


def wait_until(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


@pytest.fixture
def undisturbed(make_sweep):
    folder = make_sweep("undisturbed")
    work(folder)
    return tables(folder)


def test_runs_are_made_cheapest_first_and_each_once(make_sweep, small_plan, times_begun, tmp_path):
    folder = make_sweep()
    assert work(folder) == len(small_plan)
    assert times_begun() == dict.fromkeys(small_plan.run_id, 1)
    began = sorted(
        (tmp_path / "sweep-journal").iterdir(), key=lambda path: int(path.name.rsplit(".", 1)[1])
    )
    flops = small_plan.set_index("run_id").flops
    order = [flops[path.name.rsplit(".", 2)[0]] for path in began]
    assert order == sorted(order)
    assert work(folder) == 0
    assert list(folder.claims.iterdir()) == []


def test_a_sweep_killed_at_random_moments_ends_in_the_undisturbed_table(
    make_sweep, undisturbed, times_begun, small_plan
):
    folder = make_sweep("killed", seconds=0.3)
    moments = random.Random(5)
    for _ in range(2):
        driver = start_driver(folder)
        wait_until(lambda: states(folder).get("waiting", 0) < len(small_plan))
        time.sleep(moments.uniform(0.0, 0.5))
        driver.kill()
        driver.wait()
        # The workers notice that their parent is gone.
        wait_until(lambda: "running" not in states(folder))
    assert states(folder).get("finished", 0) < len(small_plan)
    run_sweep(folder, LocalExecutor(workers=2))
    runs, curves = tables(folder)
    pd.testing.assert_frame_equal(runs, undisturbed[0])
    pd.testing.assert_frame_equal(curves, undisturbed[1])
    # Nothing that was over is begun again: at most the two at work are, at each kill.
    begun = times_begun("killed")
    assert sum(begun.values()) <= len(small_plan) + 4
    assert set(begun) == set(small_plan.run_id)


def test_a_killed_worker_is_replaced_and_its_run_goes_on(make_sweep, undisturbed):
    folder = make_sweep("murder", seconds=0.3)
    killed = []

    def watch():
        holders = [h for h in SweepStatus(folder).table().holder if h]
        if holders and not killed:
            killed.append(int(holders[0].split()[1]))
            os.kill(killed[0], signal.SIGKILL)

    run_sweep(folder, LocalExecutor(workers=1), watch=watch)
    assert killed
    pd.testing.assert_frame_equal(tables(folder)[0], undisturbed[0])


def test_ctrl_c_leaves_a_sweep_that_goes_on(make_sweep, undisturbed, small_plan):
    folder = make_sweep("interrupted", seconds=1.0)
    driver = start_driver(folder)
    wait_until(lambda: states(folder).get("running", 0) > 0)
    driver.send_signal(signal.SIGINT)
    assert driver.wait(timeout=60) != 0
    assert "running" not in states(folder)
    assert list(folder.claims.iterdir()) == []
    assert states(folder).get("finished", 0) < len(small_plan)
    work(folder)
    pd.testing.assert_frame_equal(tables(folder)[0], undisturbed[0])


def test_two_drivers_of_one_sweep_do_not_do_a_run_twice(make_sweep, times_begun, small_plan):
    folder = make_sweep(seconds=0.2)
    drivers = [start_driver(folder) for _ in range(2)]
    assert [driver.wait(timeout=120) for driver in drivers] == [0, 0]
    assert times_begun() == dict.fromkeys(small_plan.run_id, 1)


def test_failed_and_diverged_runs_are_recorded_and_the_rest_is_made(make_sweep, small_plan):
    bad, worse, deadly = small_plan.run_id[:3]
    folder = make_sweep(**{"raise": [bad], "diverge": [worse], "die": [deadly]})
    run_sweep(folder, LocalExecutor(workers=1))
    table = SweepStatus(folder).table().set_index("run_id")
    assert table.state[bad] == "failed"
    assert table.error[bad] == "ValueError: a made-up failure"
    assert "a made-up" in (folder.run_path(bad) / "error.txt").read_text()
    assert (table.state[worse], table.error[worse]) == ("diverged", "made up")
    assert table.state[deadly] == "failed"
    assert table.error[deadly] == "its worker died 3 times, the last with exit code -9"
    assert (table.state == "finished").sum() == len(small_plan) - 3
    runs, _ = collect_sweep(folder)
    assert set(small_plan.run_id) - set(runs.run_id) == {bad, deadly}
    assert runs.set_index("run_id").diverged[worse]
    assert pd.isna(runs.set_index("run_id").loss[worse])
    folder.forget_failures()
    assert SweepStatus(folder).table().set_index("run_id").state[bad] == "stopped"


def test_wrong_kernels_stop_a_sweep_before_it_trains(make_sweep):
    folder = make_sweep(entry="made_up:refuse")
    with pytest.raises(KernelError, match="the kernels of this device are wrong"):
        run_sweep(folder, LocalExecutor(workers=1))
    assert set(states(folder)) == {"waiting"}


def test_an_entry_without_a_result_is_a_failure(make_sweep, small_plan):
    folder = make_sweep(entry="made_up:forget_the_result")
    work(folder)
    assert states(folder) == {"failed": len(small_plan)}
    assert "returned without a result.json" in folder.failure(small_plan.run_id[0])


def test_a_collect_killed_at_any_moment_leaves_whole_tables(make_sweep, tmp_path):
    folder = make_sweep()
    work(folder)
    expected = tmp_path / "expected" / "runs.csv"
    write_collected(folder, expected)
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from allometry.harness.sweep import SweepFolder, write_collected\n"
        "print('ready', flush=True)\n"
        "while True: write_collected(SweepFolder(Path(sys.argv[1])), Path(sys.argv[2]))\n"
    )
    out = tmp_path / "out" / "runs.csv"
    moments = random.Random(3)
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(folder.path), str(out)], stdout=subprocess.PIPE
        )
        process.stdout.readline()
        time.sleep(moments.uniform(0.0, 0.3))
        process.kill()
        process.communicate()
        for name in ("runs.csv", "curves.parquet"):
            made, whole = out.with_name(name), expected.with_name(name)
            assert not made.exists() or made.read_bytes() == whole.read_bytes()
    write_collected(folder, out)
    assert out.read_bytes() == expected.read_bytes()


def test_a_collected_table_is_read_as_runs(make_sweep, small_plan, tmp_path):
    from allometry.observations import read_runs

    # As of a valley: `budget` must not be taken for another column of FLOPs.
    plan = small_plan.assign(budget=1.01 * small_plan.flops)
    folder = make_sweep(plan=plan, diverge=[small_plan.run_id[0]])
    work(folder)
    write_collected(folder, tmp_path / "runs.csv")
    runs = read_runs(tmp_path / "runs.csv")
    assert len(runs.table) == len(small_plan) - 1
    curves = pd.read_parquet(tmp_path / "curves.parquet")
    assert curves.groupby("run_id").step.max().to_dict() == dict.fromkeys(small_plan.run_id, 5)


def test_a_folder_takes_more_runs_but_not_others(make_sweep, small_plan):
    half = small_plan[:4]
    make_sweep(plan=half)
    make_sweep(plan=small_plan)
    with pytest.raises(InputError, match="holds 4 runs that the plan has not"):
        make_sweep(plan=half)
    with pytest.raises(InputError, match="with learning rate"):
        make_sweep(plan=small_plan.assign(learning_rate=0.5))
    with pytest.raises(InputError, match="holds a sweep with entry made_up:make, this one has"):
        make_sweep(entry="made_up:other")
    with pytest.raises(InputError, match=r"this one has settings journal=\S+ seconds=1$") as caught:
        make_sweep(seconds=1)
    assert "--set" in caught.value.hint


def test_status_counts_flops_of_what_is_over(make_sweep, small_plan):
    folder = make_sweep()
    status = SweepStatus(folder)
    before = status.summary(status.table())
    assert (before["waiting"], before["flops_done"], before["seconds_left"]) == (8, 0.0, None)
    work(folder)
    after = status.summary(status.table())
    assert (after["finished"], after["flops_done"]) == (8, after["flops"])
    assert after["seconds_left"] == 0.0


def test_a_worker_that_cannot_start_is_one_line(make_sweep, monkeypatch):
    folder = make_sweep(entry="no_such_module:make")
    with pytest.raises(InputError, match="no entry 'no_such_module:make'"):
        run_sweep(folder, LocalExecutor(workers=1))
    good = make_sweep("good")
    (good.path / "plan.csv").write_text("run_id\n1\n")
    with pytest.raises(RunError, match="no column experiment"):
        LocalExecutor(workers=1).execute(good, watch=lambda: None)
    with pytest.raises(InputError, match=r"not a sweep's folder"):
        SweepFolder(Path(good.path) / "runs").plan()
    assert threading.active_count() < 5


def test_a_worker_stopped_before_its_heartbeat_gives_its_claim_up(make_sweep, monkeypatch):
    from allometry.harness.sweep import worker

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    folder = make_sweep()
    monkeypatch.setattr(worker, "heartbeat", interrupted)
    monkeypatch.setattr(sys, "argv", ["worker", str(folder.path)])
    assert worker.main() == 130
    assert list(folder.claims.iterdir()) == []
