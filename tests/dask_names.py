"""The public names of dask.array, and those that compute no array from another."""

from __future__ import annotations

import dask.array as da
import dask.array.gufunc
import dask.array.stats
import numpy as np

# {why they are not operations on values: names}
OTHER: dict[str, str] = {
    "new arrays: constants": """
        arange empty eye from_npy_stack from_tiledb from_zarr fromfunction indices ones tri tril_indices
        triu_indices zeros from_array fft.fftfreq fft.rfftfreq
    """,
    "a file, a store or a table keeps no derivative": """
        store to_hdf5 to_npy_stack to_tiledb to_zarr Array.store Array.to_hdf5 Array.to_tiledb Array.to_zarr
        Array.to_dask_dataframe Array.to_svg
    """,
    "they compute, optimise or name the graph, or ask for shapes and types": """
        compute optimize assert_eq array_expr_enabled register_chunk_type result_type ndim shape
        Array.compute Array.persist Array.visualize Array.dask Array.name Array.chunks Array.chunksize
        Array.dtype Array.itemsize Array.nbytes Array.ndim Array.npartitions Array.numblocks Array.shape
        Array.size Array.compute_chunk_sizes Array.to_backend overlap.coerce_boundary overlap.coerce_depth
        overlap.coerce_depth_type overlap.ensure_minimum_chunksize
        linalg.compression_level ma.normalize_masked_array
    """,
    "classes": """
        Array PerformanceWarning stats.F_onewayResult stats.KurtosistestResult stats.NormaltestResult
        stats.Power_divergenceResult stats.SkewtestResult stats.Ttest_1sampResult stats.Ttest_indResult
        stats.Ttest_relResult
    """,
    "Python's protocols: they compute the array at once, or are no operations on values": """
        Array.__array__ Array.__array_function__ Array.__array_ufunc__ Array.__bool__
        Array.__complex__ Array.__deepcopy__ Array.__float__ Array.__index__ Array.__int__ Array.__len__
        Array.__long__ Array.__nonzero__ Array.__div__ Array.__rdiv__
    """,
    "compiled code of bottleneck, which knows no duals": "push",
    "random numbers: constants; an array for a parameter is refused, as those in `REFUSED` are": """
        random.default_rng random.Generator random.RandomState random.seed random.beta random.binomial
        random.chisquare random.f random.geometric random.gumbel random.hypergeometric random.laplace
        random.logistic random.lognormal random.logseries random.multinomial random.negative_binomial
        random.noncentral_chisquare random.noncentral_f random.pareto random.power random.randint
        random.random random.random_integers random.random_sample random.standard_cauchy
        random.standard_exponential random.standard_gamma random.standard_normal random.standard_t
        random.triangular random.uniform random.vonmises random.wald random.weibull random.zipf
    """,
}

_MODULES = {
    "fft": da.fft,
    "gufunc": dask.array.gufunc,
    "lib.stride_tricks": da.lib.stride_tricks,
    "linalg": da.linalg,
    "ma": da.ma,
    "overlap": da.overlap,
    "random": da.random,
    "stats": dask.array.stats,
}


def public_names() -> set[str]:
    """What a user may call, in dask.array and its modules, and do with an array."""
    found = {
        name for name in da.__all__ if callable(getattr(da, name)) and getattr(da, name) not in _dtypes()
    }
    for prefix, module in _MODULES.items():
        for name, value in vars(module).items():
            # dask.array.ma has functions of numpy.ma under their own names
            here = getattr(value, "__module__", None) in (f"dask.array.{prefix}", f"numpy.{prefix}.core")
            if callable(value) and here and not name.startswith("_") and getattr(da, name, None) is not value:
                found.add(f"{prefix}.{name}")
    dunder = {n for n in vars(da.Array) if n.startswith("__") and callable(getattr(da.Array, n))}
    skip = {n for n in dunder if n in vars(object) and n not in COMPARISONS} | {
        n for n in dunder if "dask" in n
    }
    members = {n for n in dir(da.Array) if not n.startswith("_")} | (dunder - skip)
    return found | {f"Array.{name}" for name in members}


COMPARISONS = {"__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__"}


def _dtypes() -> list[object]:
    return [
        bool,
        np.bool_,
        *(v for v in vars(np).values() if isinstance(v, type) and issubclass(v, np.generic)),
    ]
