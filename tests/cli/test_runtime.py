"""Progress of long commands where nobody watches a terminal."""

from allometry.cli import runtime


def test_without_a_terminal_progress_is_a_line_a_minute(monkeypatch, capsys):
    with runtime.stages() as bar:
        bar("too early", 1, 9)
        monkeypatch.setattr(runtime, "PLAIN_SECONDS", 0.0)
        bar("transformer/b1/t32/ttft", 3, 9)
        bar("reading", 0, 0)
    captured = capsys.readouterr()
    assert captured.err.splitlines() == ["transformer/b1/t32/ttft (3 of 9)", "reading"]
    assert captured.out == ""
