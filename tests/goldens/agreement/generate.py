"""Writes agreement.json: agreement measures of small lists as scipy computes them.

Run with Python 3, numpy and scipy; see README.md.
"""

import json
import pathlib
import warnings

import numpy as np
import scipy
from scipy.optimize import OptimizeWarning, curve_fit
from scipy.stats import kendalltau, pearsonr, spearmanr

rng = np.random.default_rng(20241002)
TIGHT = {"maxfev": 50000, "ftol": 1e-14, "xtol": 1e-14, "gtol": 1e-14}


def logistic(x, b1, b2, b3, b4):
    return b2 + (b1 - b2) / (1 + np.exp(-(x - b3) / np.abs(b4)))


def fit(scores, opinions):
    """The best of curve_fit from several starting points; the customary one is the first."""
    best = None
    high, low, mean, std = opinions.max(), opinions.min(), scores.mean(), scores.std()
    for b1, b2 in ((high, low), (low, high)):
        for b3 in (mean, *np.quantile(scores, [0.1, 0.3, 0.7, 0.9])):
            for b4 in (std / 4, std, std * 4):
                try:
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore", OptimizeWarning)
                        warnings.simplefilter("ignore", RuntimeWarning)
                        p, _ = curve_fit(logistic, scores, opinions, p0=(b1, b2, b3, b4), **TIGHT)
                except RuntimeError:
                    continue
                squares = float(np.sum((logistic(scores, *p) - opinions) ** 2))
                if best is None or squares < best[0]:
                    best = (squares, p)
    return best


def case(name, scores, opinions):
    scores, opinions = np.asarray(scores, float), np.asarray(opinions, float)
    squares, p = fit(scores, opinions)
    return {
        "name": name,
        "scores": scores.tolist(),
        "opinions": opinions.tolist(),
        "srcc": float(spearmanr(scores, opinions).statistic),
        "plcc": float(pearsonr(scores, opinions).statistic),
        "krcc": float(kendalltau(scores, opinions, variant="b").statistic),
        "rmse": float(np.sqrt(np.mean((scores - opinions) ** 2))),
        "plcc_logistic": float(pearsonr(logistic(scores, *p), opinions).statistic),
        "logistic_squares": squares,
    }


def rounded(values, digits):
    return np.round(values, digits)


def cases():
    x = rounded(rng.uniform(1, 7.6, 60), 3)
    yield case("a noisy sigmoid", x, rounded(logistic(x, 90, 12, 4.2, 0.7) + rng.normal(0, 3, 60), 2))
    x = rounded(rng.normal(0, 10, 40), 3)
    yield case("a falling sigmoid", x, rounded(logistic(x, 1, 5, 2, 3) + rng.normal(0, 0.1, 40), 3))
    yield case("many ties on both sides", rng.integers(1, 8, 50), rng.integers(1, 6, 50))
    levels = rng.integers(1, 8, 60)
    yield case("levels against opinions", levels, rounded(levels * 10 + rng.normal(0, 12, 60), 1))
    x = rounded(rng.uniform(0, 1, 30), 4)
    yield case("nearly a line", x, rounded(3 * x + 1 + rng.normal(0, 0.2, 30), 3))
    x = rounded(rng.uniform(0, 4, 30), 4)
    yield case("half a sigmoid", x, rounded(logistic(x, 80, -80, 0, 1.2) + rng.normal(0, 2, 30), 2))
    yield case("unrelated", rounded(rng.normal(0, 1, 25), 3), rounded(rng.normal(0, 1, 25), 3))
    yield case("five pairs", [1, 2, 3, 4, 5], [1, 3, 2, 4, 6])
    x = rounded(rng.uniform(1e6, 1e6 + 5, 30), 3)
    yield case("far from zero", x, rounded(1e-3 * logistic(x, 5, 1, 1e6 + 2, 0.5) + rng.normal(0, 1e-4, 30), 7))


document = {"scipy": scipy.__version__, "cases": list(cases())}
path = pathlib.Path(__file__).with_name("agreement.json")
path.write_text(json.dumps(document, indent=1) + "\n")
