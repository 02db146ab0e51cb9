"""What a posterior file and a page say of their making: enough to repeat it, and no folders."""

import json

from simulation import simulate_runs

from allometry.cli import main


def test_files_and_pages_keep_settings_and_name_no_folder(tmp_path, capsys):
    runs = simulate_runs(1).query("architecture == 'xlstm'").rename(columns={"loss": "evaluated"})
    table, out, page = (tmp_path / name for name in ("runs.csv", "fit.nc", "page.html"))
    runs.to_csv(table, index=False)
    command = ["fit", str(table), "-o", str(out), "--alias", "evaluated=loss", "--draws", "500"]
    assert main([*command, "--noise", "constant", "--method", "laplace", "--json"]) == 0
    fitted = json.loads(capsys.readouterr().out)
    assert fitted["settings"]["draws"] == 500
    assert fitted["settings"]["noise"] == "constant"
    assert fitted["settings"]["alias"] == ["evaluated=loss"]

    assert main(["summary", str(out), "--provenance", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["source"] == "runs.csv"
    assert len(told["sha256"]) == 64
    assert told["settings"] == fitted["settings"]

    assert main(["report", str(out), "-o", str(page), "--json"]) == 0
    html = page.read_text(encoding="utf-8")
    assert "allometry report fit.nc -o page.html" in html
    assert "draws 500" in html
    assert str(tmp_path) not in html
    assert str(tmp_path).encode() not in out.read_bytes()
