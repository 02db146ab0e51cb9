"""What a loss law is, and the registry that finds one by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from jaxtyping import Array, Float

from allometry.errors import InputError

Coefficients = Mapping[str, Float[Array, "*points"]]
"""One array a coefficient, on the scale the sampler uses (logs of positive quantities)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Coefficient:
    """One coefficient of a law, with its weakly informative default prior.

    Attributes
    ----------
    name : str
        Name on the sampler's scale, such as ``log_alpha``.
    meaning : str
        What it is, in words, and why the prior is what it is.
    loc, scale : float
        Normal prior of the population mean on the sampler's scale.
    between : float
        Median of the prior on the standard deviation between groups (log-normal, log sd 0.45).
    per_doubling : float
        Prior standard deviation of the change for each doubling of the context length.
    """

    name: str
    meaning: str
    loc: float
    scale: float
    between: float
    per_doubling: float = 0.02


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """Where a law is evaluated: relative to the reference run, so that logs are near zero.

    Attributes
    ----------
    log_params, log_tokens : Array, shape (*points)
        log(N / N0) and log(D / D0).
    columns : mapping of str to Array
        Other columns that the law asked for (`Law.columns`), in their own unit.
    log_reference : tuple of two floats
        log N0 and log D0, for laws that need absolute counts.
    """

    log_params: Float[Array, "*points"]
    log_tokens: Float[Array, "*points"]
    columns: Mapping[str, Float[Array, "*points"]] = field(default_factory=dict)
    log_reference: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Scale:
    """The reference run: what is one in the sampler's units.

    Attributes
    ----------
    params, tokens : float
        N0 and D0, geometric means of the table's params and tokens.
    loss : float
        L0, geometric mean of the table's loss: nats, bits or anything else cancels.
    """

    params: float
    tokens: float
    loss: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Geometry:
    """Coordinates in which the posterior of one group is nearly Gaussian.

    Attributes
    ----------
    forward, inverse : callable
        Array of shape (coefficient, *batch) from these coordinates to the coefficients, and back.
    log_det : callable
        log |det d coefficients / d coordinates|, shape (*batch), of the coordinates.
    unmoved : int
        Rows from this one on are the same in both.
    """

    forward: Callable[[Float[Array, "k *batch"]], Float[Array, "k *batch"]]
    inverse: Callable[[Float[Array, "k *batch"]], Float[Array, "k *batch"]]
    log_det: Callable[[Float[Array, "k *batch"]], Float[Array, "*batch"]]
    unmoved: int


Rereference = Callable[[Float[Array, "k *batch"], Float[Array, " 3"]], Float[Array, "k *batch"]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Law:
    """A loss law: a pure function of coefficients and (N, D), with priors and published units.

    Attributes
    ----------
    name, formula, reference : str
        Registry name; formula in published units; where it comes from.
    coefficients : tuple of Coefficient
        In the order of the sampler's vector.
    log_loss : callable
        ``(coefficients, point) -> log(L / L0)``; broadcasts; never uses Python branches on values.
    published : callable
        ``(coefficients, scale) -> {"E": ..., "A": ...}`` with params and tokens in units of one.
    imbalance : callable
        ``(coefficients, point) -> t``: log of the return on params over the return on tokens, zero
        on the compute-optimal line of C = 6 N D, positive for runs with too many tokens.
    geometry : Geometry or None
        Better sampling coordinates, where the law has some.
    columns : tuple of str
        Further columns of the runs table that the law needs.
    rereference : callable or None
        ``(array (coefficient, *batch), log(new / old) of N0, D0 and L0) -> array``: the same curve
        relative to another reference run, with unit determinant. None: the law has no such form.
    """

    name: str
    formula: str
    reference: str
    coefficients: tuple[Coefficient, ...]
    log_loss: Callable[[Coefficients, Point], Float[Array, "*points"]]
    published: Callable[[Coefficients, Scale], dict[str, Float[Array, "*points"]]]
    imbalance: Callable[[Coefficients, Point], Float[Array, "*points"]]
    geometry: Geometry | None = None
    columns: tuple[str, ...] = ()
    rereference: Rereference | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the coefficients, in order."""
        return tuple(coefficient.name for coefficient in self.coefficients)


_REGISTRY: dict[str, Law] = {}


def register_law(law: Law, *, replace: bool = False) -> Law:
    """Make a law known by its name; return it.

    Parameters
    ----------
    law : Law
        Its name is how posteriors and the command line find it.
    replace : bool
        Take the place of another law of that name: for a notebook in which one is being written.

    Raises
    ------
    InputError
        If another law has that name, and `replace` is not set.
    """
    if replace:
        _REGISTRY[law.name] = law
    if _REGISTRY.setdefault(law.name, law) is not law:
        hint = "Rename yours, or register_law(law, replace=True) while you write it."
        raise InputError(f"a law named {law.name!r} is registered already", hint=hint)
    return law


def get_law(law: str | Law) -> Law:
    """Return the law of that name, or the law itself.

    Raises
    ------
    InputError
        If no law has that name.
    """
    if isinstance(law, Law):
        return law
    if law not in _REGISTRY:
        hint = (
            "If it is your own, import the module that registers it first: --law-module of fit and "
            "validate, ALLOMETRY_LAW_MODULES=NAME for every command."
        )
        raise InputError(f"no law named {law!r}; known: {', '.join(law_names())}", hint=hint)
    return _REGISTRY[law]


def law_names() -> tuple[str, ...]:
    """Names of all registered laws."""
    return tuple(sorted(_REGISTRY))
