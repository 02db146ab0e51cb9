"""The errors a person can act on; every room may raise them, only the command line catches them."""


class AllometryError(Exception):
    """Base of every error raised on purpose.

    Parameters
    ----------
    what : str
        What is wrong, with the value.
    where : str
        File, row, column, option or group.
    hint : str
        What to do about it.

    Attributes
    ----------
    exit_code : int
        What the command line returns: 1 the answer is no or the work failed, 2 bad input.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", hint: str = "") -> None:
        self.what, self.where, self.hint = what, where, hint
        super().__init__(": ".join(part for part in (where, what) if part))


class InputError(AllometryError, ValueError):
    """A table, file or argument that cannot be used as it is."""

    exit_code = 2


class NotConvergedError(AllometryError):
    """A fit whose diagnostics do not allow a decision."""


class KernelError(AllometryError):
    """A kernel that disagrees with its reference, or that this device cannot run."""


class RunError(AllometryError):
    """A training run that died or diverged."""
