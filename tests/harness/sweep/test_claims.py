import json
import os
import subprocess
import sys
import textwrap
import time

from allometry.harness.sweep.claims import claims_of, holder_of, try_claim


def a_dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def write_claim(folder, name, *, host, pid, age=0.0):
    path = folder / name
    path.write_text(json.dumps({"host": host, "pid": pid, "started": 0.0}))
    os.utime(path, (time.time() - age, time.time() - age))


def test_a_held_run_is_not_claimed_again_and_a_released_one_is(tmp_path):
    first = try_claim(tmp_path, "a.run")
    assert first is not None
    assert try_claim(tmp_path, "a.run") is None
    assert str(os.getpid()) in holder_of(tmp_path, "a.run")
    assert claims_of(tmp_path, os.getpid()) == ["a.run"]
    assert try_claim(tmp_path, "a.run-2") is not None  # a name that only begins alike
    first.release()
    assert holder_of(tmp_path, "a.run") == ""
    assert try_claim(tmp_path, "a.run") is not None


def test_the_claim_of_a_dead_process_is_free_at_once(tmp_path):
    here = try_claim(tmp_path, "look")
    host = json.loads(here.path.read_text())["host"]
    write_claim(tmp_path, "run.0", host=host, pid=a_dead_process())
    assert holder_of(tmp_path, "run") == ""
    claim = try_claim(tmp_path, "run")
    assert claim.generation == 1


def test_a_claim_that_a_disk_lost_is_free(tmp_path):
    first = try_claim(tmp_path, "run")
    first.path.write_text("")
    assert holder_of(tmp_path, "run") == ""
    assert try_claim(tmp_path, "run").generation == 1


def test_a_reused_process_id_is_not_the_holder(tmp_path):
    here = try_claim(tmp_path, "look")
    host = json.loads(here.path.read_text())["host"]
    write_claim(tmp_path, "run.0", host=host, pid=os.getpid())  # began at another time
    assert try_claim(tmp_path, "run") is not None


def test_a_holder_on_another_machine_lives_as_long_as_it_touches_its_claim(tmp_path):
    write_claim(tmp_path, "fresh.0", host="elsewhere", pid=1, age=30)
    write_claim(tmp_path, "stale.0", host="elsewhere", pid=1, age=90)
    assert try_claim(tmp_path, "fresh") is None
    assert try_claim(tmp_path, "stale") is not None
    assert try_claim(tmp_path, "fresh", stale_seconds=20) is not None


def test_who_was_only_asleep_learns_that_its_run_was_taken(tmp_path):
    claim = try_claim(tmp_path, "run")
    assert claim.touch()
    write_claim(tmp_path, "run.1", host="elsewhere", pid=1)
    assert not claim.touch()


def test_of_many_processes_exactly_one_gets_each_run(tmp_path):
    # Half of the runs have a dead holder, so that reclaiming races as well.
    dead = a_dead_process()
    runs = [f"run-{k}" for k in range(40)]
    host = json.loads(try_claim(tmp_path, "look").path.read_text())["host"]
    for run_id in runs[::2]:
        write_claim(tmp_path, f"{run_id}.0", host=host, pid=dead)
    code = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from allometry.harness.sweep.claims import try_claim
        folder, start, runs = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
        print("ready", flush=True)
        while not start.exists():
            pass
        print(" ".join(r for r in runs if try_claim(folder, r)), flush=True)
        sys.stdin.read()  # a holder lives until it is told
        """
    )
    start = tmp_path / "start"
    crew = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path), str(start), *runs],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for process in crew:
        process.stdout.readline()
    start.touch()
    won = [process.stdout.readline().split() for process in crew]
    for process in crew:
        process.communicate()
    assert sorted(run_id for part in won for run_id in part) == sorted(runs)
