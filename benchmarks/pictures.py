"""Draw the pictures of README and docs anew, from a fit of the study and one of the measured runs.

    python benchmarks/pictures.py [--fits FOLDER] [--output docs/img]

The same as ``allometry fit`` and ``allometry plot``. Fits are kept in FOLDER and not made again.
"""

import argparse
from pathlib import Path

from allometry.cli import main as allometry

FITS = {"study": "xlstm", "measured": "data/measured/runs.csv"}
"""Posteriors, and the tables they are of."""

PICTURES = {
    "valleys": ("study", "valleys", "--context-length", "8192"),
    "probability": ("study", "probability", "--dpi", "150"),
    "prior": ("study", "prior", "--dpi", "120"),
    "measured": ("measured", "valleys"),
}
"""Name of a picture: its posterior, kind and options."""


def main() -> None:
    """Fit what is missing, draw all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fits", type=Path, default=Path("output/pictures"))
    parser.add_argument("--output", type=Path, default=Path("docs/img"))
    options = parser.parse_args()
    options.fits.mkdir(parents=True, exist_ok=True)
    for name, runs in FITS.items():
        if not (path := options.fits / f"{name}.nc").exists():
            run("fit", runs, "--output", str(path))
    for name, (fit, kind, *rest) in PICTURES.items():
        picture = options.output / f"{name}.png"
        run("plot", str(options.fits / f"{fit}.nc"), kind, "--output", str(picture), *rest)


def run(*command: str) -> None:
    """A command of the package; ends the script with its exit code if it fails."""
    if code := allometry(command):
        raise SystemExit(code)


if __name__ == "__main__":
    main()
