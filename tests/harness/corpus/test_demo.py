import gzip
import json
import zipfile

import pytest

from allometry.errors import InputError
from allometry.harness.corpus import DEMO_TEXTS, write_demo_documents
from allometry.harness.corpus.demo import code_documents, english_documents


def service(text, **more):
    return gzip.compress(json.dumps({"documentation": text, "operations": more}).encode())


def test_english_is_the_newest_api_without_markup_each_line_once(tmp_path):
    wheel = tmp_path / "w.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        data = "botocore/data"
        archive.writestr(f"{data}/s3/2006-03-01/service-2.json.gz", service("<p>Old</p>"))
        more = {"documentation": "<p>Store &lt;data&gt; <b>here</b>.</p><p>Twice.</p>"}
        newest = service("<p>Twice.</p>", Put=more)
        archive.writestr(f"{data}/s3/2020-01-01/service-2.json.gz", newest)
        archive.writestr(f"{data}/s3/2020-01-01/paginators-1.json", "{}")
        archive.writestr(f"{data}/ec2/2016-11-15/service-2.json.gz", service("Compute"))
    assert list(english_documents(wheel)) == [
        ("ec2", "Compute\n"),
        ("s3", "Twice.\nStore <data> here.\n"),
    ]


def test_code_keeps_tests_with_what_they_test(tmp_path):
    wheel = tmp_path / "w.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("sympy/core/add.py", "class Add: pass\n")
        archive.writestr("sympy/core/tests/test_add.py", "def test(): pass\n")
        archive.writestr("sympy/core/__init__.py", "")
        archive.writestr("other/x.py", "1")
    assert [group for group, _ in code_documents(wheel)] == ["sympy/core", "sympy/core"]


def test_a_wheel_that_is_not_the_pinned_one_is_refused(tmp_path):
    (tmp_path / DEMO_TEXTS["english"].wheel).write_bytes(b"something else")
    with pytest.raises(InputError, match=r"sha256 is .* should be 76342a"):
        write_demo_documents("english", tmp_path)


@pytest.mark.slow  # downloads 6 MB
def test_the_demo_text_is_downloaded_and_real(tmp_path):
    path = write_demo_documents("code", tmp_path)
    rows = [json.loads(line) for line in path.read_text().split("\n") if line]
    assert len({row["group"] for row in rows}) > 50
    assert sum(len(row["text"]) for row in rows) > 20e6
