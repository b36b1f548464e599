"""How may an experiment be looked at every day without being fooled?

    standard error (K looks), day of each look, planned days  ->  half_widths  ->  (K,)

- An interval at level alpha holds for one look. Here all looks hold together, however many there
  are and whenever one stops, with probability 1 - alpha in large samples.

Knows nobody; is read by `analysis`.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def half_widths(
    standard_error: ArrayLike, elapsed_days: ArrayLike, planned_days: int, alpha: float
) -> Floats:
    """Return the half widths of an asymptotic confidence sequence, look by look.

        width_k = SE_k sqrt((1 + 1 / m_k) log((1 + m_k) / alpha^2)),   m_k = m* k / K
        m* = -2 log alpha + log(1 - 2 log alpha)

    This is the Gaussian mixture of Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, "Time-uniform
    central limit theory and asymptotic confidence sequences" (Annals of Statistics 2024, arXiv
    2103.06476, theorem 2.2 with t rho^2 = m), after Robbins (1970); m* makes it narrowest at the
    planned end K. Time is days, fixed beforehand and free of outcomes. Sums of the same viewers
    over days have increments that agree rather than contradict each other, so two looks are at
    least as correlated as sqrt(j / k), which is what the boundary supposes; by Slepian's inequality
    it is then crossed no more often. This last step is ours; `make bench-experiments` measures it.

    Args:
        standard_error: (K,) of the effect at each look.
        elapsed_days: (K,) days of the experiment seen at each look, > 0.
        planned_days: Where the sequence is to be narrowest, > 0.
        alpha: 1 - coverage, in (0, 1).

    Returns:
        (K,) half widths, in the units of the standard error.

    >>> round(float(half_widths(1.0, 14, 14, 0.05)), 3)
    3.035
    """
    log_alpha = math.log(alpha)
    narrowest = -2.0 * log_alpha + math.log(1.0 - 2.0 * log_alpha)
    m = narrowest * np.asarray(elapsed_days, dtype=np.float64) / planned_days
    factor = np.sqrt((1.0 + 1.0 / m) * (np.log1p(m) - 2.0 * log_alpha))
    return np.asarray(factor * np.asarray(standard_error, dtype=np.float64))
