"""Cases of `test_rules`: the ufuncs of scipy.special."""

import hypothesis.extra.numpy as arrays_of
import numpy as np
import scipy.special as sp
from case_table import between, case, reseed, z
from shape_table import broadcast_together, generator, shaped

import paradual.rules.special  # noqa: F401  (so that its functions are in the table)
from paradual.rules.special import over

reseed(36)

# {name: its arguments}; a pair is an interval of which points are drawn, a number is a constant
POINTS = {
    # gamma functions
    "gamma": [(0.3, 3.0)],
    "gammaln": [(0.3, 3.0)],
    "loggamma": [(0.3, 3.0)],
    "rgamma": [(-2.5, 3.0)],
    "digamma": [(0.3, 3.0)],
    "poch": [(0.3, 3.0), (0.3, 2.0)],
    "beta": [(0.3, 3.0), (0.3, 3.0)],
    "betaln": [(0.3, 3.0), (0.3, 3.0)],
    "binom": [(3.1, 5.0), (0.3, 2.9)],
    "gammainc": [1.7, (0.3, 4.0)],
    "gammaincc": [1.7, (0.3, 4.0)],
    "gammaincinv": [1.7, (0.2, 0.8)],
    "gammainccinv": [1.7, (0.2, 0.8)],
    "betainc": [1.7, 2.4, (0.2, 0.8)],
    "betaincc": [1.7, 2.4, (0.2, 0.8)],
    "betaincinv": [1.7, 2.4, (0.2, 0.8)],
    "betainccinv": [1.7, 2.4, (0.2, 0.8)],
    # error functions
    "erf": [(-2.0, 2.0)],
    "erfc": [(-2.0, 2.0)],
    "erfcx": [(-1.0, 2.0)],
    "erfi": [(-1.0, 1.0)],
    "erfinv": [(-0.8, 0.8)],
    "erfcinv": [(0.2, 1.8)],
    "dawsn": [(-2.0, 2.0)],
    "wofz": [(-1.0, 2.0)],
    "ndtr": [(-2.0, 2.0)],
    "log_ndtr": [(-3.0, 2.0)],
    "ndtri": [(0.2, 0.8)],
    "ndtri_exp": [(-3.0, -0.2)],
    "voigt_profile": [(-2.0, 2.0), (0.5, 1.5), (0.5, 1.5)],
    "fresnel": [(-2.0, 2.0)],
    "modfresnelp": [(0.2, 1.5)],  # SciPy's values are wrong left of 0
    "modfresnelm": [(0.2, 1.5)],
    # logistic functions, entropies, losses
    "expit": [(-2.0, 2.0)],
    "logit": [(0.2, 0.8)],
    "log_expit": [(-2.0, 2.0)],
    "entr": [(0.2, 2.0)],
    "xlogy": [(-2.0, 2.0), (0.5, 2.0)],
    "xlog1py": [(-2.0, 2.0), (-0.5, 2.0)],
    "rel_entr": [(0.3, 2.0), (0.3, 2.0)],
    "kl_div": [(0.3, 2.0), (0.3, 2.0)],
    "huber": [(0.5, 1.0), (1.2, 3.0)],
    "pseudo_huber": [(0.5, 2.0), (-3.0, 3.0)],
    # exponentials and powers
    "exp2": [(-2.0, 2.0)],
    "exp10": [(-1.0, 1.0)],
    "expm1": [(-2.0, 2.0)],
    "log1p": [(-0.5, 2.0)],
    "cbrt": [(0.5, 2.0)],
    "exprel": [(-3.0, 3.0)],
    "powm1": [(0.5, 2.0), (-2.0, 2.0)],
    "cosm1": [(-2.0, 2.0)],
    "sindg": [(-200.0, 200.0)],
    "cosdg": [(-200.0, 200.0)],
    "tandg": [(-50.0, 50.0)],
    "cotdg": [(30.0, 80.0)],
    "radian": [(0.0, 90.0), (0.0, 60.0), (0.0, 60.0)],
    "boxcox": [(0.3, 3.0), (-2.0, 2.0)],
    "boxcox1p": [(-0.5, 2.0), (-2.0, 2.0)],
    "inv_boxcox": [(0.1, 1.0), (0.2, 2.0)],
    "inv_boxcox1p": [(0.1, 1.0), (0.2, 2.0)],
    # exponential and trigonometric integrals
    "exp1": [(0.5, 3.0)],
    "expi": [(0.5, 3.0)],
    "expn": [3, (0.5, 3.0)],
    "sici": [(0.5, 3.0)],
    "shichi": [(0.5, 3.0)],
    "spence": [(0.3, 3.0)],
    "wrightomega": [(-2.0, 2.0)],
    "agm": [(0.5, 2.0), (0.5, 2.0)],
    # Bessel functions
    **{
        name: [(0.5, 4.0)]
        for name in ["j0", "j1", "y0", "y1", "i0", "i1", "i0e", "i1e", "k0", "k1", "k0e", "k1e"]
    },
    **{name: [1.3, (0.5, 4.0)] for name in ["jv", "yv", "iv", "kv", "jve", "yve", "ive", "kve"]},
    **{name: [1.3, (0.5, 4.0)] for name in ["hankel1", "hankel2", "hankel1e", "hankel2e"]},
    **{name: [2, (1.0, 4.0)] for name in ["kn", "yn"]},
    "besselpoly": [(0.5, 2.0), 1.0, 2.0],
    "wright_bessel": [0.7, 1.2, (0.5, 2.0)],
    "log_wright_bessel": [0.7, 1.2, (0.5, 2.0)],
    "airy": [(-2.0, 2.0)],
    "airye": [(0.3, 2.0)],
    "itairy": [(-2.0, 2.0)],
    **{name: [(0.5, 3.0)] for name in ["itj0y0", "iti0k0", "it2j0y0", "it2i0k0"]},
    **{name: [(0.5, 3.0)] for name in ["itstruve0", "it2struve0", "itmodstruve0", "kelvin"]},
    **{name: [(0.5, 3.0)] for name in ["ber", "bei", "ker", "kei", "berp", "beip", "kerp", "keip"]},
    "struve": [0.7, (0.5, 3.0)],
    "modstruve": [0.7, (0.5, 3.0)],
    "pbdv": [1.3, (-2.0, 2.0)],
    "pbvv": [1.3, (-2.0, 2.0)],
    "pbwa": [0.4, (-2.0, 2.0)],
    "mathieu_cem": [2, 1.3, (0.0, 80.0)],
    "mathieu_sem": [2, 1.3, (0.0, 80.0)],
    **{
        name: [2, 1.3, (0.3, 1.0)]
        for name in ["mathieu_modcem1", "mathieu_modcem2", "mathieu_modsem1", "mathieu_modsem2"]
    },
    "pro_ang1": [1, 2, 1.3, (-0.7, 0.7)],
    "pro_rad1": [1, 2, 1.3, (1.5, 2.5)],
    "obl_ang1": [1, 2, 1.3, (-0.7, 0.7)],
    "obl_rad1": [1, 2, 1.3, (0.5, 1.5)],
    "pro_ang1_cv": [1, 2, 1.3, float(sp.pro_cv(1, 2, 1.3)), (-0.7, 0.7)],
    "pro_rad1_cv": [1, 2, 1.3, float(sp.pro_cv(1, 2, 1.3)), (1.5, 2.5)],
    "obl_ang1_cv": [1, 2, 1.3, float(sp.obl_cv(1, 2, 1.3)), (-0.7, 0.7)],
    "obl_rad1_cv": [1, 2, 1.3, float(sp.obl_cv(1, 2, 1.3)), (0.5, 1.5)],
    # orthogonal polynomials, hypergeometric and Legendre functions
    **{f"eval_{name}": [4, (-0.8, 0.8)] for name in ["chebyt", "chebyu", "chebyc", "chebys", "legendre"]},
    **{f"eval_sh_{name}": [4, (0.2, 0.8)] for name in ["chebyt", "chebyu", "legendre"]},
    **{f"eval_{name}": [4, (-1.0, 1.0)] for name in ["hermite", "hermitenorm", "laguerre"]},
    "eval_gegenbauer": [4, 0.7, (-0.8, 0.8)],
    "eval_genlaguerre": [4, 0.7, (-1.0, 2.0)],
    "eval_jacobi": [4, 0.7, 1.3, (-0.8, 0.8)],
    "eval_sh_jacobi": [4, 1.3, 0.7, (0.2, 0.8)],
    "lpmv": [1, 3, (-0.8, 0.8)],
    "hyp0f1": [1.3, (-2.0, 2.0)],
    "hyp1f1": [0.7, 1.3, (-2.0, 2.0)],
    "hyp2f1": [0.7, 0.4, 1.3, (-0.7, 0.7)],
    "hyperu": [0.7, 1.3, (0.5, 2.0)],
    # elliptic integrals and functions
    "ellipk": [(-2.0, 0.9)],
    "ellipkm1": [(0.1, 2.0)],
    "ellipe": [(-2.0, 0.9)],
    "ellipkinc": [(-2.0, 2.0), (-1.0, 0.8)],
    "ellipeinc": [(-2.0, 2.0), (-1.0, 0.8)],
    "ellipj": [(-2.0, 2.0), (0.05, 0.9)],
    "elliprc": [(0.5, 1.0), (1.5, 2.0)],
    "elliprf": [(0.3, 0.6), (0.8, 1.1), (1.4, 2.0)],
    "elliprd": [(0.3, 0.6), (0.8, 1.1), (1.4, 2.0)],
    "elliprg": [(0.3, 0.6), (0.8, 1.1), (1.4, 2.0)],
    "elliprj": [(0.3, 0.6), (0.8, 1.1), (1.4, 2.0), (2.5, 3.0)],
    # distributions
    "bdtr": [2, np.int64(6), (0.2, 0.8)],
    "bdtrc": [2, np.int64(6), (0.2, 0.8)],
    "bdtri": [2, np.int64(6), (0.2, 0.8)],
    "nbdtr": [2, 6, (0.2, 0.8)],
    "nbdtrc": [2, 6, (0.2, 0.8)],
    "nbdtri": [2, 6, (0.2, 0.8)],
    "pdtr": [2, (0.5, 4.0)],
    "pdtrc": [2, (0.5, 4.0)],
    "pdtri": [2, (0.2, 0.8)],
    "gdtr": [(0.5, 2.0), 1.7, (0.5, 2.0)],
    "gdtrc": [(0.5, 2.0), 1.7, (0.5, 2.0)],
    "gdtria": [(0.2, 0.8), 1.7, (0.5, 2.0)],
    "gdtrix": [(0.5, 2.0), 1.7, (0.2, 0.8)],
    "chdtr": [3.4, (0.5, 4.0)],
    "chdtrc": [3.4, (0.5, 4.0)],
    "chdtri": [3.4, (0.2, 0.8)],
    "fdtr": [3.4, 4.7, (0.5, 2.0)],
    "fdtrc": [3.4, 4.7, (0.5, 2.0)],
    "fdtri": [3.4, 4.7, (0.2, 0.8)],
    "stdtr": [3.4, (-2.0, 2.0)],
    "stdtrit": [3.4, (0.2, 0.8)],
    "chndtr": [(0.5, 4.0), 3.4, (0.5, 2.0)],
    "chndtrix": [(0.2, 0.8), 3.4, (0.5, 2.0)],
    "chndtrinc": [(2.0, 3.0), 3.4, (0.2, 0.3)],
    "ncfdtr": [3.4, 4.7, (0.5, 2.0), (0.5, 2.0)],
    "ncfdtri": [3.4, 4.7, (0.5, 2.0), (0.2, 0.8)],
    "nctdtr": [3.4, (0.3, 1.0), (-1.0, 2.0)],
    "nctdtrit": [3.4, (0.3, 1.0), (0.2, 0.8)],
    "nctdtrinc": [3.4, (0.2, 0.5), (1.0, 2.0)],
    "nrdtrimn": [(0.6, 0.8), (0.5, 2.0), (0.5, 2.0)],
    "nrdtrisd": [(0.5, 2.0), (0.6, 0.8), (2.5, 3.0)],
    "owens_t": [(-2.0, 2.0), (-2.0, 2.0)],
    "kolmogorov": [(0.4, 2.0)],
    "kolmogi": [(0.2, 0.8)],
    "tklmbda": [(-1.0, 1.0), (0.1, 0.5)],
}
SCALED = ("jve", "yve", "ive", "airye")  # not holomorphic


def takes_complex(f):
    return f.__name__ not in SCALED and any("D" in types.split("->")[0] for types in f.types)


def call(f, spec):
    """``f`` as a function of the arguments that are not constants."""
    active = [k for k, part in enumerate(spec) if isinstance(part, tuple)]

    def fn(*points):
        args = list(spec)
        for k, point in zip(active, points, strict=True):
            args[k] = point
        return f(*args)

    return fn, [spec[k] for k in active]


def random_points(f, spec):
    """An entry: the function at points of shapes that broadcast together."""
    fn, intervals = call(f, spec)

    def entry(draw):
        rng = generator(draw)
        shapes = draw(
            arrays_of.mutually_broadcastable_shapes(num_shapes=len(intervals), max_dims=3, max_side=3)
        ).input_shapes
        return fn, tuple(np.asarray(rng.uniform(*i, s)) for i, s in zip(intervals, shapes, strict=True))

    return entry


for name, spec in POINTS.items():
    f = getattr(sp, name, None)
    if f is None:  # an older SciPy
        continue
    if name.startswith(("mathieu", "obl", "pro")):  # in single precision SciPy does not find these
        spec = [np.float64(part) if isinstance(part, int | float) else part for part in spec]
    fn, intervals = call(f, spec)
    case(f, "array", *(between(*i)(2, 3) for i in intervals), fn=fn)
    case(f, "numbers", *(float(between(*i)()) for i in intervals), fn=fn)
    if takes_complex(f):
        case(f, "complex", *(between(*i)(3) + 0.3j * between(0.5, 1.0)(3) for i in intervals), fn=fn)
    shaped(f, random_points(f, spec))

for name in ("eval_legendre", "eval_chebyt", "eval_hermite", "eval_jacobi"):
    f = getattr(sp, name)
    more = () if name != "eval_jacobi" else (0.5, 1.5)
    fn = lambda x, f=f, more=more: f(np.arange(4)[:, None], *more, x)  # noqa: E731
    case(f, "orders", between(-0.8, 0.8)(3), fn=fn)
case(sp.eval_legendre, "real-order", between(-0.8, 0.8)(3), fn=lambda x: sp.eval_legendre(2.5, x))
case(sp.expn, "orders", between(0.5, 2.0)(3), fn=lambda x: sp.expn(np.arange(4)[:, None], x))
case(sp.jv, "orders", between(0.5, 2.0)(3), fn=lambda x: sp.jv(np.arange(-2, 3)[:, None], x))
case(
    sp.lpmv,
    "negative-order",
    between(-0.8, 0.8)(3),
    fn=lambda x: sp.lpmv([[-1], [-1], [-2]], [[1], [2], [2]], x),
)
case(sp.huber, "inside", between(1.2, 2.0)(3), between(-1.0, 1.0)(3))
case(sp.ellipkinc, "small-m", between(-2.0, 2.0)(4), np.array([0.0, 1e-9, -1e-4, 0.009]))
case(sp.ellipeinc, "small-m", between(-2.0, 2.0)(4), np.array([0.0, 1e-9, -1e-4, 0.009]))
case(sp.ellipj, "small-m", between(-2.0, 2.0)(3), np.array([1e-4, 0.005, 0.0098]))
case(sp.inv_boxcox, "small-exponent", between(0.5, 1.0)(4), np.array([1e-3, -1e-2, 0.09, -0.09]))
case(sp.loggamma, "left-complex", -between(0.5, 3.0)(3) + 0.5j)
case(sp.agm, "equal", np.array([1.0, 2.0]), np.array([1.0, 2.0]))
if hasattr(sp._ufuncs, "_lambertw"):
    lambertw = sp._ufuncs._lambertw
    case(lambertw, "real", between(0.3, 2.0)(3), fn=lambda x: sp.lambertw(x))
    case(lambertw, "branch", z(3), fn=lambda x: sp.lambertw(x, -1))
    shaped(lambertw, random_points(sp.lambertw, [(0.3, 2.0)]))
if hasattr(sp._ufuncs, "_zeta"):
    case(sp._ufuncs._zeta, "q", between(0.5, 2.0)(3), fn=lambda q: sp.zeta(2.5, q))
    shaped(sp._ufuncs._zeta, random_points(sp.zeta, [3.5, (0.5, 2.0)]))
case(over, "arrays", between(0.5, 2.0)(2, 3), between(0.5, 2.0)(3))
shaped(over, broadcast_together(over))

del f, fn, spec, name, intervals, more
