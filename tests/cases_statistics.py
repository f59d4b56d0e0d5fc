"""Cases of `test_rules`: `paradual.rules.statistics`, and the reductions with where= and initial=."""

import hypothesis.strategies as st
import numpy as np
from case_table import MASK, case, normal, positive, reseed, spread, z
from shape_table import along_an_axis, apart, axis, generator, of_any_shape, shape, shaped

reseed(33)

METHODS = [
    "inverted_cdf",
    "averaged_inverted_cdf",
    "closest_observation",
    "interpolated_inverted_cdf",
    "hazen",
    "weibull",
    "linear",
    "median_unbiased",
    "normal_unbiased",
    "lower",
    "higher",
    "midpoint",
    "nearest",
]
AXES = (0, 1, -1, (0, 2), (-1, 0), (2, 0, 1))


def named(k):
    return f"axis{k}".replace(" ", "")


def gaps(x):
    """An array with nan in some places, never in two neighbours."""
    return np.where(np.indices(x.shape).sum(0) % 3 == 1, np.nan, x)


# --- order statistics ---------------------------------------------------------------------------------------

for f, a_q in {np.median: (), np.quantile: (0.3,), np.percentile: (30,)}.items():
    n_f, n_q = getattr(np, f"nan{f.__name__}"), a_q
    case(f, "all", spread(2, 3), fn=lambda a, f=f, q=a_q: f(a, *q))
    case(n_f, "all", spread(3, 3), fn=lambda a, f=n_f, q=n_q: f(gaps(a), *q))
    for k in AXES:
        case(f, named(k), spread(2, 3, 4), fn=lambda a, f=f, q=a_q, k=k: f(a, *q, k))
        case(n_f, named(k), spread(3, 3, 3), fn=lambda a, f=n_f, q=n_q, k=k: f(gaps(a), *q, axis=k))
        for g in (f, n_f):
            case(
                g,
                f"{named(k)}-keepdims",
                spread(2, 3, 4),
                fn=lambda a, f=g, q=a_q, k=k: f(a, *q, axis=k, keepdims=True),
            )
    for g in (f, n_f):
        case(g, "keepdims", spread(2, 3), fn=lambda a, f=g, q=a_q: f(a, *q, keepdims=True))
        case(g, "odd", spread(5), fn=lambda a, f=g, q=a_q: f(a, *q))
        case(g, "one", spread(1), fn=lambda a, f=g, q=a_q: f(a, *q))
        case(g, "0d", spread(), fn=lambda a, f=g, q=a_q: f(a, *q))
        case(g, "overwrite", spread(4), fn=lambda a, f=g, q=a_q: f(a, *q, overwrite_input=True))
        case(g, "long", spread(19), fn=lambda a, f=g, q=a_q: f(a, *q))
case(np.median, "complex", z(2, 4), axis=1)
for f, scale in ((np.quantile, 1), (np.percentile, 100), (np.nanquantile, 1), (np.nanpercentile, 100)):
    for method in METHODS:
        q = np.array([0.0, 0.13, 0.6, 1.0]) * scale
        case(f, method, spread(2, 4), fn=lambda a, f=f, q=q, m=method: f(a, q, -1, method=m))
    q = np.array([0.05, 0.5, 0.95]) * scale
    case(f, "many", spread(2, 5), fn=lambda a, f=f, q=q: f(a, q))
    case(f, "many-axis", spread(2, 5, 2), fn=lambda a, f=f, q=q: f(a, q, axis=(0, 2), keepdims=True))
    case(f, "many-gaps", spread(3, 3), fn=lambda a, f=f, q=q: f(a, list(q), axis=0, method="hazen"))
    w = positive(2, 4)
    for k, weights in {None: w, 1: w[0], (1, 0): w.T, 0: w}.items():
        if k == 1 and f.__name__.startswith("nan"):
            continue  # NumPy has an error of its own here
        case(
            f,
            f"weights-{named(k)}",
            spread(2, 4),
            fn=lambda a, f=f, q=q, k=k, w=weights: f(a, q, axis=k, weights=w, method="inverted_cdf"),
        )
w = positive(3, 3)
case(
    np.nanquantile,
    "weights-gaps",
    spread(3, 3),
    fn=lambda a, w=w: np.nanquantile(gaps(a), [0.3, 0.8], axis=1, weights=w, method="inverted_cdf"),
)

for f in (np.median, np.nanmedian):
    shaped(f, along_an_axis(f, many=True, keepdims=True), of_any_shape(f))
for f in (np.quantile, np.percentile, np.nanquantile, np.nanpercentile):
    scale = 1 if "quantile" in f.__name__ else 100
    shaped(
        f,
        along_an_axis(f, many=True, keepdims=True, q=0.37 * scale, method="weibull"),
        along_an_axis(f, many=True, keepdims=True, q=[0.1 * scale, 0.77 * scale]),
    )


# --- leaving out nan ----------------------------------------------------------------------------------------

NAN = {
    np.nansum: normal,
    np.nanprod: normal,
    np.nanmean: normal,
    np.nanvar: normal,
    np.nanstd: normal,
    np.nanmax: spread,
    np.nanmin: spread,
}


def with_gaps(f, keepdims=True, many=True, min_side=1):
    """An entry: ``f(x, axis=axis)`` with nan in some of the places of ``x``."""

    def entry(draw):
        rng, dims = generator(draw), shape(draw, 1, min_side=min_side)
        options = {"axis": axis(draw, len(dims), many=many)}
        if keepdims:
            options["keepdims"] = draw(st.booleans())
        missing = rng.random(dims) < 0.3
        if many and np.any(np.sum(~missing, axis=options["axis"]) < 2):
            missing[...] = False
        return (lambda x: f(np.where(missing, np.nan, x), **options)), (apart(rng, *dims),)

    return entry


for f, points in NAN.items():
    case(f, "all", points(3, 3), fn=lambda a, f=f: f(gaps(a)))
    case(f, "none-missing", points(2, 3), axis=1)
    for k in AXES:
        case(f, named(k), points(3, 3, 3), fn=lambda a, f=f, k=k: f(gaps(a), k))
        case(
            f,
            f"{named(k)}-keepdims",
            points(3, 3, 3),
            fn=lambda a, f=f, k=k: f(gaps(a), axis=k, keepdims=True),
        )
    more = {"initial": 0.33} if f in (np.nanmax, np.nanmin) else {}
    case(f, "where", points(2, 4), fn=lambda a, f=f, m=more: f(gaps(a), 1, where=[True] * 3 + [False], **m))
    if f not in (np.nanmax, np.nanmin):
        case(f, "complex", z(3, 3), fn=lambda a, f=f: f(gaps(a), axis=0))
        if f not in (np.nanvar, np.nanstd):  # where NumPy squares in the first precision
            case(f, "dtype", normal(2, 3).astype(np.float32), fn=lambda a, f=f: f(gaps(a), dtype=np.float64))
    # the slope of nanstd jumps where there is one element only
    shaped(f, with_gaps(f, min_side=2 if f is np.nanstd else 1))
for f in (np.nansum, np.nanprod, np.nanmax, np.nanmin):
    case(f, "initial", spread(3, 3), 0.4, fn=lambda a, b, f=f: f(gaps(a), axis=1, initial=b))
for f in (np.nanvar, np.nanstd):
    case(f, "ddof", normal(3, 3), fn=lambda a, f=f: f(gaps(a), axis=1, ddof=1))
    case(f, "correction", normal(3, 3), fn=lambda a, f=f: f(gaps(a), correction=0.5))
    case(f, "mean-given", normal(3, 3), normal(3, 1), fn=lambda a, b, f=f: f(gaps(a), axis=1, mean=b))
for f in (np.nancumsum, np.nancumprod):
    case(f, "flat", normal(2, 3), fn=lambda a, f=f: f(gaps(a)))
    for k in (0, -1):
        case(f, named(k), normal(2, 3), fn=lambda a, f=f, k=k: f(gaps(a), k))
    case(f, "dtype", normal(4).astype(np.float32), fn=lambda a, f=f: f(gaps(a), dtype=np.float64))
    shaped(f, with_gaps(f, keepdims=False, many=False))

# --- covariances --------------------------------------------------------------------------------------------

COUNTS, X, Y = np.array([1, 2, 0, 3]), normal(12), normal(12)
for points, label in ((normal, ""), (z, "-complex")):
    for f in (np.cov, np.corrcoef):
        case(f, f"rows{label}", points(3, 4))
        case(f, f"columns{label}", points(4, 3), rowvar=False)
        case(f, f"vector{label}", points(4))
        case(f, f"two{label}", points(2, 4), points(4))
        case(f, f"two-columns{label}", points(4, 2), points(4, 1), fn=lambda m, y, f=f: f(m, y, rowvar=False))
        case(f, f"only-y{label}", points(4), fn=lambda y, f=f, m=X[:4]: f(m, y))
    for ddof in (None, 0, 1, 2):
        for bias in (False, True):
            case(np.cov, f"ddof{ddof}-bias{bias}{label}", points(2, 4), ddof=ddof, bias=bias)
        case(np.cov, f"fweights-ddof{ddof}{label}", points(2, 4), fweights=COUNTS, ddof=ddof)
        case(
            np.cov,
            f"aweights-ddof{ddof}{label}",
            points(2, 4),
            3 + positive(4),
            fn=lambda m, w, d=ddof: np.cov(m, aweights=w, ddof=d),
        )
        case(
            np.cov,
            f"weights-ddof{ddof}{label}",
            points(2, 4),
            3 + positive(4),
            fn=lambda m, w, d=ddof: np.cov(m, fweights=COUNTS, aweights=w, ddof=d),
        )
case(np.cov, "mixed", normal(4), z(2, 4))
case(np.cov, "positional", normal(3, 4), fn=lambda m: np.cov(m, None, True, True))
case(np.cov, "one-row-of-columns", normal(1, 4), rowvar=False, ddof=0)


def of_variables(f, **options):
    """An entry: variables and their observations."""

    def entry(draw):
        rng, n, m = generator(draw), draw(st.integers(1, 3)), draw(st.integers(3, 5))
        rowvar = draw(st.booleans())
        a, b = rng.standard_normal((n, m)), rng.standard_normal((1, m))
        if not rowvar:
            a, b = a.T.copy(), b.T.copy()
        return (lambda x, y: f(x, y, rowvar=rowvar, **options)), (a, b)

    return entry


shaped(np.cov, of_variables(np.cov), of_variables(np.cov, bias=True))
shaped(np.corrcoef, of_variables(np.corrcoef))

# --- histograms ---------------------------------------------------------------------------------------------

case(np.bincount, "weights", normal(5), fn=lambda w: np.bincount([0, 2, 1, 2, 0], w))
case(
    np.bincount, "minlength", normal(3), fn=lambda w: np.bincount(np.array([1, 1, 3]), weights=w, minlength=6)
)

EDGES = np.array([-1.0, -0.2, 0.5, 2.0])
for density in (False, True):
    label = "-density" if density else ""
    case(
        np.histogram,
        f"weights{label}",
        positive(12),
        fn=lambda w, d=density: np.histogram(X, weights=w, density=d),
    )
    case(
        np.histogram,
        f"weights-edges{label}",
        positive(3, 4),
        fn=lambda w, d=density: np.histogram(X.reshape(3, 4), EDGES, None, d, w),
    )
    case(
        np.histogram,
        f"weights-complex{label}",
        z(12),
        fn=lambda w, d=density: np.histogram(X, 3, (-1, 1), d, w),
    )
    case(np.histogram, f"data{label}", spread(7), bins=3, density=density)
    case(np.histogram, f"data-auto{label}", spread(7), bins="sturges", density=density)
    case(
        np.histogram,
        f"data-and-weights{label}",
        spread(7),
        positive(7),
        fn=lambda a, w, d=density: np.histogram(a, 4, weights=w, density=d),
    )
    case(np.histogram, f"bins{label}", EDGES, fn=lambda b, d=density: np.histogram(X, b, density=d))
    case(
        np.histogram,
        f"range{label}",
        normal(12) * 0.5,
        -0.9,
        1.3,
        fn=lambda x, a, b, d=density: np.histogram(x, 3, (a, b), d),
    )
    case(
        np.histogram2d,
        f"weights{label}",
        positive(12),
        fn=lambda w, d=density: np.histogram2d(X, Y, [3, EDGES], None, d, w),
    )
    case(np.histogram2d, f"data{label}", spread(6), spread(6), bins=3, density=density)
    case(np.histogram2d, f"edges{label}", EDGES, fn=lambda b, d=density: np.histogram2d(X, Y, b, density=d))
    case(
        np.histogramdd,
        f"weights{label}",
        positive(12),
        fn=lambda w, d=density: np.histogramdd([X, Y, X], 2, weights=w, density=d),
    )
    case(np.histogramdd, f"data{label}", spread(6, 2), bins=3, density=density)
    case(np.histogramdd, f"data-of-one{label}", spread(6), bins=3, density=density)
    case(
        np.histogramdd,
        f"list{label}",
        spread(6),
        spread(6),
        fn=lambda x, y, d=density: np.histogramdd([x, y], [2, EDGES], density=d),
    )
    case(
        np.histogramdd,
        f"range{label}",
        normal(6, 2),
        fn=lambda a, d=density: np.histogramdd(a, 2, [(-3, 3), None], d),
    )
for bins in (4, "auto", "fd"):
    case(np.histogram_bin_edges, f"{bins}", spread(2, 4), bins=bins)
case(
    np.histogram_bin_edges,
    "range",
    spread(3),
    0.1,
    2.0,
    fn=lambda x, a, b: np.histogram_bin_edges(x, 3, (a, b)),
)
case(np.histogram_bin_edges, "given", EDGES, fn=lambda b: np.histogram_bin_edges(X, b))


def of_weights(f, columns, several=False):
    """An entry: a histogram of random numbers, weighted."""

    def entry(draw):
        rng, n, density = generator(draw), draw(st.integers(2, 6)), draw(st.booleans())
        bins, data = draw(st.integers(1, 4)), [rng.standard_normal(n) for _ in range(columns)]
        data = [data] if several else data
        return (lambda w: f(*data, bins=bins, density=density, weights=w)), (rng.uniform(0.5, 1.0, n),)

    return entry


def of_data(draw):
    """An entry: the edges of a histogram move with the extremes of the data."""
    rng, dims = generator(draw), shape(draw, 1, min_side=2)
    bins = draw(st.integers(1, 4))
    return (lambda x: np.histogram_bin_edges(x, bins)), (apart(rng, *dims),)


def of_counts(draw):
    """An entry: weights of random integers."""
    rng, n, least = generator(draw), draw(st.integers(1, 5)), draw(st.integers(0, 5))
    k = rng.integers(0, 4, n)
    return (lambda w: np.bincount(k, w, least)), (rng.standard_normal(n),)


shaped(np.bincount, of_counts)
shaped(np.histogram, of_weights(np.histogram, 1))
shaped(np.histogram2d, of_weights(np.histogram2d, 2))
shaped(np.histogramdd, of_weights(np.histogramdd, 3, several=True))
shaped(np.histogram_bin_edges, of_data)

# --- sets ---------------------------------------------------------------------------------------------------

TWICE = np.array([0, 1, 2, 1, 0])
case(np.unique, "plain", spread(2, 3))
case(np.unique, "complex", z(4))
for k in (0, 1, -1):
    case(np.unique, named(k), spread(3, 2), axis=k)
case(np.unique, "keywords", spread(4), return_index=True, return_inverse=True, return_counts=True)
case(np.unique, "positional", spread(4), fn=lambda a: np.unique(a, False, True)[0])
for f in (np.unique, np.unique_all, np.unique_counts, np.unique_inverse, np.unique_values):
    first = (lambda a: a) if f in (np.unique, np.unique_values) else (lambda a: a[0])
    case(f, "array", spread(2, 3), fn=lambda a, f=f, first=first: first(f(a)))
    # the direction along which equal elements stay equal is the only smooth one
    case(f, "of-some", spread(3), fn=lambda a, f=f, first=first: first(f(a[TWICE])))
    shaped(f, of_any_shape(lambda x, f=f, first=first: first(f(x)), min_dims=1))
A, B = spread(5), spread(4)
for f in (np.union1d, np.intersect1d, np.setxor1d, np.setdiff1d):
    case(f, "both", A, fn=lambda a, f=f: f(a[:4], a[2:]))
    case(
        f,
        "left",
        A[:4],
        fn=lambda a, f=f: f(a, np.array([7.0, 9.0, 8.0])) if f is not np.intersect1d else f(a, a[1:]),
    )
    case(f, "matrices", spread(2, 3), fn=lambda a, f=f: f(a, a[:1] if f is np.intersect1d else a[:1] + 5))
    shaped(f, of_any_shape(lambda x, f=f: f(x, np.ravel(x)[:1]), min_dims=1, min_side=2))
for f in (np.intersect1d, np.setxor1d, np.setdiff1d):
    case(f, "assume-unique", A, fn=lambda a, f=f: f(a[:4], a[2:], assume_unique=True))
case(np.intersect1d, "indices", A, fn=lambda a: np.intersect1d(a[1:], a[:3], return_indices=True)[0])
case(np.sort_complex, "real", spread(4))
case(np.sort_complex, "complex", z(2, 3))
shaped(np.sort_complex, of_any_shape(np.sort_complex, min_dims=1))

# --- reductions of some of the entries ----------------------------------------------------------------------
# Each is a case of the function whose rule it comes down to.

KEPT = ~MASK
for options, label in (
    ({}, ""),
    ({"axis": 1}, "-axis"),
    ({"axis": (0, -1), "keepdims": True}, "-axes-keepdims"),
):
    for f in (np.sum, np.prod):
        case(f, f"where{label}", normal(2, 3), where=KEPT, **options)
        case(f, f"where-complex{label}", z(2, 3), where=KEPT, **options)
        case(f, f"where-one-row{label}", normal(2, 3), where=KEPT[:1], **options)
        case(f, f"initial{label}", normal(2, 3), 0.7, fn=lambda a, b, f=f, o=options: f(a, initial=b, **o))
        case(f, f"where-initial{label}", normal(2, 3), where=KEPT, initial=1.5, **options)
    for f in (np.max, np.min):
        case(f, f"initial{label}", spread(2, 3), initial=0.33, **options)
        case(
            f,
            f"where{label}",
            spread(2, 3),
            0.33,
            fn=lambda a, b, f=f, o=options: f(a, initial=b, where=KEPT, **o),
        )
    case(np.sum, f"mean-where{label}", normal(2, 3), fn=lambda a, o=options: np.mean(a, where=KEPT, **o))
    case(np.sum, f"mean-where-complex{label}", z(2, 3), fn=lambda a, o=options: np.mean(a, where=KEPT, **o))
    for f in (np.var, np.std):
        case(f, f"where{label}", normal(3, 4), where=np.arange(12).reshape(3, 4) % 5 > 0, **options)
        case(
            f, f"where-complex{label}", z(3, 4), where=np.arange(12).reshape(3, 4) % 5 > 0, ddof=1, **options
        )
for f in (np.var, np.std):
    case(f, "where-mean", normal(2, 3), normal(2, 1), fn=lambda a, b, f=f: f(a, axis=1, where=KEPT, mean=b))
for name in ("sum", "prod"):
    case(
        getattr(np, name),
        "where-method",
        normal(2, 3),
        fn=lambda a, n=name: getattr(a, n)(axis=0, where=KEPT),
    )
case(np.sum, "initial-empty", normal(0), 0.5, fn=lambda a, b: np.sum(a, initial=b))
case(np.sum, "max-initial-empty", normal(2, 0), 0.5, fn=lambda a, b: np.max(a, axis=1, initial=b))
case(np.sum, "where-ufunc", normal(2, 3), fn=lambda a: np.add.reduce(a, axis=1, where=KEPT, initial=2.0))
case(np.sum, "where-dtype", normal(2, 3).astype(np.float32), where=KEPT, dtype=np.float64)
case(np.max, "amax-initial", spread(2, 3), fn=lambda a: np.amax(a, axis=1, initial=0.2))
case(np.min, "amin-initial", spread(2, 3), fn=lambda a: np.amin(a, axis=1, initial=0.2))
for f in (np.sum, np.mean, np.prod, np.max, np.min, np.var):
    case(f, "keepdims-1", spread(2, 3), axis=1, keepdims=1)
    if f is not np.sum and f is not np.var:
        case(f, "no-axis", spread(2, 3), axis=())


def of_some(f, initial=False):
    """An entry: a reduction along random axes of a random choice of entries, with an initial value or not."""

    def entry(draw):
        rng, dims = generator(draw), shape(draw)
        options = {"axis": axis(draw, len(dims), many=True), "keepdims": draw(st.booleans())}
        options["where"] = rng.random(dims) < 0.7
        if not initial and np.any(np.sum(options["where"], axis=options["axis"]) < 2):
            options["where"] = True
        x = apart(rng, *dims)
        if initial:
            return (lambda x, b: f(x, initial=b, **options)), (x, 0.17)
        return (lambda x: f(x, **options)), (x,)

    return entry


for f in (np.sum, np.prod, np.max, np.min, np.amax, np.amin):
    shaped(f, of_some(f, initial=True))
for f in (np.sum, np.prod, np.mean, np.var):
    shaped(f, of_some(f))
W = positive(2, 4) + 1j * normal(2, 4)
case(np.average, "weights-complex", normal(2, 4), W, fn=lambda a, w: np.average(a, weights=w))
case(
    np.average,
    "weights-returned",
    normal(2, 3, 4),
    positive(4, 2),
    fn=lambda a, w: np.average(a, (2, 0), w, True),
)
case(np.average, "returned-keepdims", normal(2, 3), axis=0, returned=True, keepdims=True)
case(np.average, "list", positive(3), fn=lambda w: np.average([1, 2, 3], weights=w))

del f, g, k, q, w, label, points, options, name, method, weights, scale, density, bins, more, ddof, bias
