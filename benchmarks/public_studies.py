"""The public studies that priors are made of and tried on: their runs, and their posteriors.

Those of the registry are found by name. Those that are not in it, the further ones, are read from
tables that ``foreign_tables.py`` writes; without a folder of them there are only the former.
"""

import time
from dataclasses import dataclass
from pathlib import Path

from allometry.errors import InputError
from allometry.inference import Posterior, Sampler, fit
from allometry.observations import Runs, read_runs
from allometry.observations.catalogue import TABLES
from allometry.priors import Units

REGISTERED = ("xlstm", "chinchilla", "farseer", "overtraining", "repetition")
LEFT_OUT = {"repetition": ["epochs > 1.01"]}
"""Rows that are not of the law: of the study of repeated data, runs of one epoch are taken."""

POOLED = ("xlstm", "overtraining", "marin", "optimizers")


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """Whose a study is."""

    paper: str
    citation: str
    licence: str


FURTHER = {
    "llama3": Source(
        paper="arXiv:2407.21783",
        citation="Llama team: The Llama 3 Herd of Models, 2024; points of its figure 2 as read off "
        "by Open-Athena/scaling-law-analysis, commit 01245898",
        licence="none stated",
    ),
    "marin": Source(
        paper="arXiv:2603.22339",
        citation="Open-Athena/scaling-law-analysis, commit 49e8f407: isoflops of Marin",
        licence="none stated",
    ),
    "misfitting": Source(
        paper="arXiv:2502.18969",
        citation="Li, Kudugunta, Zettlemoyer: (Mis)Fitting: A Survey of Scaling Laws, ICLR 2025; "
        "hadasah/scaling_laws, commit 1f3708c0",
        licence="none stated",
    ),
    "openeuro": Source(
        paper="none",
        citation="OpenEuroLLM/dense_english_scaling_laws, commit 781af436",
        licence="none stated",
    ),
    "optimizers": Source(
        paper="arXiv:2509.02046",
        citation="Wen, Hall, Ma, Liang: Fantastic Pretraining Optimizers and Where to Find Them, "
        "2025; marin-community/marin, commit 122c5018",
        licence="none stated",
    ),
}
"""Studies of language models outside the registry. (Protein models are another matter.)"""

UNITS = {
    "xlstm": Units(tokenizer="GPT-NeoX"),
    "chinchilla": Units(),
    "farseer": Units(params="unknown", loss="unknown, likely nats per byte or per character"),
    "overtraining": Units(tokenizer="GPT-NeoX"),
    "repetition": Units(params="unknown", tokenizer="GPT-2"),
    **dict.fromkeys(FURTHER, Units(params="unknown", loss="unknown")),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class PublicStudies:
    """Public studies, with their posteriors in a folder.

    Attributes
    ----------
    work : Path
        Posteriors are kept here and not fitted again.
    tables : Path or None
        Tables of the further studies.
    """

    work: Path
    tables: Path | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Those that can be read."""
        return REGISTERED if self.tables is None else (*REGISTERED, *FURTHER)

    def runs(self, name: str) -> Runs:
        """Runs that the law is fitted to."""
        if name not in FURTHER:
            return read_runs(name, exclude=LEFT_OUT.get(name))
        if self.tables is None:
            raise InputError(f"{name} is not registered", where="studies", hint="Give --tables.")
        return read_runs(self.tables / f"{name}.csv")

    def posterior(self, name: str) -> Posterior:
        """Posterior of all runs, from its file or fitted now."""
        path = self.work / f"{name}.nc"
        if path.exists():
            return Posterior.load(path)
        began = time.process_time()
        runs = self.runs(name)
        sampler = Sampler(method="nuts" if name in POOLED else "laplace")
        posterior = fit(runs, by=runs.by or None, library=False, sampler=sampler)
        posterior.save(path)
        record = posterior.record
        verdict = "converged" if record.convergence.converged else "not converged"
        spent = time.process_time() - began
        print(f"{name}: {record.method}, {verdict}, {spent:.0f} CPU s", flush=True)
        return posterior


def source_of(name: str) -> Source:
    """Whose a study is, registered or not."""
    if name in FURTHER:
        return FURTHER[name]
    entry = TABLES[name]
    return Source(paper=entry.paper, citation=entry.citation, licence=entry.licence)
