"""Real text from packages that every Python package index carries, pinned by version and hash.

``english`` is the documentation of cloud services in botocore (templated prose: its entropy is low,
and so is the irreducible loss of any law fitted on it); ``code`` is the source of sympy.
"""

import gzip
import html
import json
import re
import subprocess
import sys
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from allometry.errors import InputError, RunError
from allometry.harness.files import file_sha256, replacing


@dataclass(frozen=True, kw_only=True, slots=True)
class DemoText:
    """A package whose wheel carries text.

    Attributes
    ----------
    requirement : str
        Pinned package.
    wheel, sha256 : str
        File name and hash of the wheel; anything else is refused.
    licence, source : str
        For the manifest.
    """

    requirement: str
    wheel: str
    sha256: str
    licence: str
    source: str


DEMO_TEXTS = {
    "english": DemoText(
        requirement="botocore==1.44.8",
        wheel="botocore-1.44.8-py3-none-any.whl",
        sha256="76342a76c338701db80dcb8afe1c9bd079283d6fffbb9d881442abb02a215043",
        licence="Apache-2.0",
        source="service documentation in the wheel of botocore 1.44.8, newest API of each service",
    ),
    "code": DemoText(
        requirement="sympy==1.14.0",
        wheel="sympy-1.14.0-py3-none-any.whl",
        sha256="e091cc3e99d2141a0ba2847328f5479b05d94a6635cb96148ccb3f34671bd8f5",
        licence="BSD-3-Clause",
        source="Python source in the wheel of sympy 1.14.0",
    ),
}

GROUP_FIELD = "group"
"""Field of the extracted documents by which they are split: the service, or the package."""


def demo_text(name: str) -> DemoText:
    """Look up a demo text, or raise an InputError that lists the names."""
    if name not in DEMO_TEXTS:
        raise InputError(f"no demo text {name!r}; there are {', '.join(DEMO_TEXTS)}")
    return DEMO_TEXTS[name]


def write_demo_documents(name: str, folder: Path) -> Path:
    """Fetch the package with pip, if it is not in `folder` yet, and write its text as JSONL.

    Returns
    -------
    Path
        ``folder/NAME.jsonl``: one document a line, with fields `text` and `group`.

    Raises
    ------
    RunError
        If pip cannot fetch the wheel.
    InputError
        If the wheel is not the pinned one.
    """
    text = demo_text(name)
    path = folder / f"{name}.jsonl"
    if path.is_file():
        return path
    wheel = _fetch(text, folder)
    documents = english_documents(wheel) if name == "english" else code_documents(wheel)
    with replacing(path) as file:
        for group, content in documents:
            row = json.dumps({GROUP_FIELD: group, "text": content}, ensure_ascii=False)
            file.write(row.encode() + b"\n")
    return path


def _fetch(text: DemoText, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / text.wheel
    if not wheel.is_file():
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--only-binary", ":all:", "--dest", str(folder), text.requirement]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode or not wheel.is_file():
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            what = f"pip could not download {text.requirement}: {last}"
            hint = f"Put {text.wheel} into {folder} yourself, or build from your own files."
            raise RunError(what, where=str(folder), hint=hint)
    if (found := file_sha256(wheel)) != text.sha256:
        what = f"sha256 is {found}, should be {text.sha256}"
        raise InputError(what, where=str(wheel), hint="Remove the file and build again.")
    return wheel


def english_documents(wheel: Path) -> Iterator[tuple[str, str]]:
    """Service and text of its documentation: newest API, without markup, each line once."""
    seen: set[str] = set()
    with zipfile.ZipFile(wheel) as archive:
        for service, member in _newest_apis(archive.namelist()):
            api = json.loads(gzip.decompress(archive.read(member)))
            lines = []
            for raw in _values(api, "documentation"):
                for line in _plain_lines(raw):
                    if line not in seen:  # the same sentence documents thousands of fields
                        seen.add(line)
                        lines.append(line)
            if lines:
                yield service, "\n".join(lines) + "\n"


def _newest_apis(names: list[str]) -> list[tuple[str, str]]:
    versions: dict[str, list[str]] = defaultdict(list)
    for name in names:
        parts = PurePosixPath(name).parts
        if (
            len(parts) == 5
            and parts[:2] == ("botocore", "data")
            and parts[4] == "service-2.json.gz"
        ):
            versions[parts[2]].append(name)
    # The folder between is the API's date, so the last in order is the newest.
    return [(service, max(found)) for service, found in sorted(versions.items())]


def _values(node: Any, key: str) -> Iterator[str]:
    if isinstance(node, dict):
        for name, value in node.items():
            if name == key and isinstance(value, str):
                yield value
            else:
                yield from _values(value, key)
    elif isinstance(node, list):
        for value in node:
            yield from _values(value, key)


_BLOCK = re.compile(
    r"</?(?:p|li|ul|ol|dl|dt|dd|br|note|important|pre|h\d|div|table|tr)\b[^>]*>", re.I
)
_TAG = re.compile(r"<[^>]+>")


def _plain_lines(raw: str) -> Iterator[str]:
    text = html.unescape(_TAG.sub("", _BLOCK.sub("\n", raw)))
    for line in text.splitlines():
        if line := " ".join(line.split()):
            yield line


def code_documents(wheel: Path) -> Iterator[tuple[str, str]]:
    """Package and text of each module that is not empty; tests belong to what they test."""
    with zipfile.ZipFile(wheel) as archive:
        for member in sorted(archive.namelist()):
            path = PurePosixPath(member)
            if path.suffix == ".py" and path.parts[0] == "sympy":
                content = archive.read(member).decode("utf-8")
                if content.strip():
                    yield _package(path), content


def _package(path: PurePosixPath) -> str:
    # Tests and benchmarks repeat the module beside them: they belong to its package.
    parts = [part for part in path.parent.parts if part not in ("tests", "benchmarks")]
    return "/".join(parts)
