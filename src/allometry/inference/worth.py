"""What a prior is worth in runs: how many more of a design would teach as much.

Everything is linear around one set of coefficients. With P0 the precision of the default prior, P
the expected information of the imported one, I that of one run averaged over a design, and c the
slope of a run's log loss at ten times the largest budget in the coefficients, a prior is worth the
n for which ``c' (P0 + (n0 + n) I)^-1 c = c' (P + n0 I)^-1 c``, n0 being the runs that there are.
"""

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jaxtyping import Array, Float

from allometry.inference.imported import LawPart, to_file
from allometry.inference.model import STUDENT_DF
from allometry.laws import Law, Point

Values = npt.NDArray[np.float64]

BEYOND = 10.0
"""The loss that a prior's worth is about: of a run at this multiple of the largest budget."""

MOST_RUNS = 1e5
"""Where that many further runs of a design do not tell as much, no number of them will."""

UNTOLD = (
    "its worth in runs cannot be told: runs like these, however many, leave a run at ten times "
    "their largest budget more open than it does"
)
STUDENT_INFORMATION = (STUDENT_DF + 1) / (STUDENT_DF + 3)
"""Fisher information of the location of a Student-t over that of a normal of its scale."""


def worth_words(runs: float) -> str:
    """A worth in runs to two digits, as a plain number.

    Examples
    --------
    >>> worth_words(9.42), worth_words(176.0)
    ('about 9.4', 'about 180')
    """
    return f"about {float(f'{runs:.2g}'):,.10g}"


def _gradients(
    law: Law, theta: Float[Array, " k"], point: Point
) -> tuple[Float[Array, "point k"], Float[Array, " point"]]:
    """Slopes of log loss in each coefficient, and the imbalance, at points."""

    def log_loss(coefficients: Float[Array, " k"]) -> Float[Array, " point"]:
        by_name = dict(zip(law.names, coefficients, strict=True))
        return law.log_loss(by_name, point)

    by_name = dict(zip(law.names, theta, strict=True))
    return jax.jacfwd(log_loss)(theta), law.imbalance(by_name, point)


def run_information(
    law: Law, theta: Values, point: Point, *, log_noise: float, log_off_valley: float
) -> tuple[Values, Values]:
    """Information of one run, averaged over the points (k, k); slope ahead of them (k,).

    Ahead is the point of largest N D, with both counts sqrt(10) times as large.
    """
    with jax.enable_x64(True):
        gradients, imbalance = (
            np.asarray(part) for part in _gradients(law, jnp.asarray(theta), point)
        )
        budget = np.asarray(point.log_params + point.log_tokens)
        last = int(np.argmax(budget))
        step = np.log(BEYOND) / 2
        ahead = Point(
            log_params=jnp.asarray(point.log_params)[last : last + 1] + step,
            log_tokens=jnp.asarray(point.log_tokens)[last : last + 1] + step,
            columns={name: jnp.asarray(v)[last : last + 1] for name, v in point.columns.items()},
            log_reference=point.log_reference,
        )
        slope = np.asarray(_gradients(law, jnp.asarray(theta), ahead)[0])[0]
    variance = np.exp(2 * log_noise) + np.exp(2 * log_off_valley) * imbalance**4
    weighted = gradients * (STUDENT_INFORMATION / variance)[:, None]
    return np.asarray(gradients.T @ weighted / len(gradients)), slope


def prior_precision(
    law: Law,
    theta: Values,
    information: Values,
    shift: Values,
    *,
    law_part: LawPart,
    level: Values,
    default_precision: Values,
) -> Values:
    """Precision (k, k) in this study's coefficients of a prior with that information on quantities.

    A prior of the shape alone leaves the level to the default prior (diagonal precision).
    """
    with jax.enable_x64(True):

        def quantities(c: Float[Array, " k"]) -> Float[Array, " k"]:
            return to_file(law, c[:, None], jnp.asarray(shift))[0][:, 0]

        jacobian = np.asarray(jax.jacfwd(quantities)(jnp.asarray(theta)))
    if law_part == "full":
        return np.asarray(jacobian.T @ information @ jacobian)
    part = jacobian[1:]
    row = level * default_precision
    of_level = np.outer(row, row) / row.sum()
    return np.asarray(part.T @ information @ part + of_level)


def location_information(
    weights: Values, means: Values, scales: Values, df: float, *, draws: int = 2000, seed: int = 0
) -> Values:
    """Expected information (d, d) of a mixture of Student-t about its own location.

    E[score score'] over its draws, as in the expected-local-information-ratio of Neuenschwander et
    al. 2020: unlike the inverse covariance it does not count heavy tails against the middle.
    """
    rng = np.random.default_rng([seed, 16])
    d = means.shape[1]
    component = rng.choice(len(weights), size=draws, p=weights / weights.sum())
    roots = np.linalg.cholesky(scales)
    z = np.einsum("nij,nj->ni", roots[component], rng.normal(size=(draws, d)))
    x = means[component] + z * np.sqrt(df / rng.chisquare(df, size=draws))[:, None]
    logs, scores = [], []
    for weight, mean, scale, root in zip(weights, means, scales, roots, strict=True):
        pulled = np.linalg.solve(scale, (x - mean).T).T
        distance = ((x - mean) * pulled).sum(axis=1)
        scores.append(-pulled * ((df + d) / (df + distance))[:, None])
        log_det = np.log(np.diag(root)).sum()
        fall = -0.5 * (df + d) * np.log1p(distance / df)
        logs.append(np.log(np.maximum(weight, 1e-300)) - log_det + fall)
    share = np.exp(np.stack(logs) - np.max(logs, axis=0))
    share /= share.sum(axis=0)
    score = (share[:, :, None] * np.stack(scores)).sum(axis=0)
    return np.asarray(score.T @ score / draws)


def runs_worth(
    default: Values, imported: Values, information: Values, ahead: Values, *, runs: float
) -> float:
    """Further runs of the design that are worth the imported prior; `MOST_RUNS` if none are.

    `default` and `imported` are precisions (k, k); `runs` is what there is already. Where prior
    and runs leave a direction open the prediction is, too, and the prior is worth nothing.
    """

    def variance(precision: Values) -> float:
        try:
            return float(ahead @ np.linalg.solve(precision, ahead))
        except np.linalg.LinAlgError:
            return np.inf

    wanted = variance(imported + runs * information)
    if variance(default + runs * information) <= wanted:
        return 0.0
    if variance(default + (runs + MOST_RUNS) * information) > wanted:
        return MOST_RUNS
    low, high = 0.0, MOST_RUNS
    for _ in range(60):
        middle = (low + high) / 2
        if variance(default + (runs + middle) * information) > wanted:
            low = middle
        else:
            high = middle
    return high
