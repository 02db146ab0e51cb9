"""Corpus: text to tokenized, memory-mapped shards that can be checked and resumed."""

from allometry.harness.corpus.build import CorpusOptions, build_corpus
from allometry.harness.corpus.demo import DEMO_TEXTS, GROUP_FIELD, demo_text, write_demo_documents
from allometry.harness.corpus.manifest import (
    Manifest,
    Shard,
    check_corpus,
    manifest_sha256,
    read_manifest,
)
from allometry.harness.corpus.read import TokenRow

__all__ = [
    "DEMO_TEXTS",
    "GROUP_FIELD",
    "CorpusOptions",
    "Manifest",
    "Shard",
    "TokenRow",
    "build_corpus",
    "check_corpus",
    "demo_text",
    "manifest_sha256",
    "read_manifest",
    "write_demo_documents",
]
