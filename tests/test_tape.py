"""A tape, the sweep over it, and the plan of the reverse pass: plain data and no arrays needed."""

import pickle
import random

import numpy as np
import pytest

import paradual as pdl
from paradual.jobs import ROOT, branch, reverse_plan, successor
from paradual.reverse import reverse
from paradual.sizes import tape_bytes
from paradual.tape import ACTIVE, INPUT, OUTSIDE, Tape, add_leaf, backward, history

JOB = (0,)


def tape_of(*records, job=JOB, past=()):
    tape = Tape(("d", job), list(records), past)
    for index, record in enumerate(records):
        if record[0] is None:
            tape.leaves[record[2]] = index
    return tape


def leaf(slot, form=float):
    return None, form, slot


def no_pull(*args):
    raise AssertionError(f"there is no array record here: {args}")


def as_it_is(g, form, is_owned):
    return g


def sweep(tape, seeds, consume=False):
    return backward(tape, seeds, no_pull, as_it_is, consume)


# --- the sweep --------------------------------------------------------------------------------------------


def test_scalar_records():
    x, y = (INPUT, 0), (INPUT, 1)
    # z = x y at (2, 3); w = z + 5 x; v = w w
    tape = tape_of(leaf(x), leaf(y), (0, 3.0, 1, 2.0), (2, 1.0, 0, 5.0), (3, 16.0, 3, 16.0))
    assert sweep(tape, [(4, 1.0)]) == {x: 32.0 * 8.0, y: 32.0 * 2.0}
    assert sweep(tape, [(3, 1.0)]) == {x: 8.0, y: 2.0}
    assert sweep(tape, [(2, 1.0), (3, 10.0)]) == {x: 3 + 80.0, y: 2 + 20.0}
    assert sweep(tape, [(0, 7.0)]) == {x: 7.0}
    assert sweep(tape, []) == {}


def test_seeds_of_one_slot_add_up():
    x = (INPUT, 0)
    assert sweep(tape_of(leaf(x), (0, 2.0)), [(1, 1.0), (1, 10.0), (0, 0.5)]) == {x: 22.5}


def test_a_leaf_that_received_nothing_is_left_out():
    x, y = (INPUT, 0), (INPUT, 1)
    assert sweep(tape_of(leaf(x), leaf(y), (0, 2.0)), [(2, 1.0)]) == {x: 2.0}


def test_each_record_is_visited_once_in_descending_order_with_its_complete_sum():
    visited = []

    def pull(records, cotangents, owned, index, g, consume):
        visited.append((index, g))
        for operand in records[index][2]:
            c = cotangents[operand]
            cotangents[operand] = g if c is None else c + g

    x = (INPUT, 0)
    records = [leaf(x)] + [("f", float, (k,) * 2) for k in range(40)]  # 2**40 paths
    tape = tape_of(*records)
    assert backward(tape, [(40, 1)], pull, as_it_is) == {x: 2**40}
    assert visited == [(k, 2 ** (40 - k)) for k in range(40, 0, -1)]


def test_settle_is_told_whether_the_sum_is_owned():
    told = []

    def pull(records, cotangents, owned, index, g, consume):
        cotangents[0] = g
        owned.add(0)

    def settle(g, form, is_owned):
        told.append((g, form, is_owned))
        return -g

    tape = tape_of(leaf("a", "form"), leaf("b"), ("f", float, ()))
    assert backward(tape, [(2, 5.0), (1, 1.0)], pull, settle) == {"a": -5.0, "b": -1.0}
    assert sorted(told) == [(1.0, float, False), (5.0, "form", True)]


def test_consume_empties_the_tape():
    x, y = (INPUT, 0), (INPUT, 1)
    tape = tape_of(leaf(x), leaf(y), (0, 2.0), (1, 3.0), (2, 5.0))
    assert sweep(tape, [(4, 1.0)], consume=True) == {x: 10.0}
    assert tape.records == [(), (), (), (), ()]
    kept = tape_of(leaf(x), (0, 2.0))
    assert sweep(kept, [(1, 1.0)]) == sweep(kept, [(1, 1.0)]) == {x: 2.0}
    assert len(kept.records[1]) == 2


def test_random_scalar_tapes_against_matrix_products():
    rng = random.Random(0)
    for _ in range(50):
        n = rng.randrange(2, 25)
        records = [leaf((INPUT, 0)), leaf((INPUT, 1))]
        rows = [np.array([1.0, 0.0]), np.array([0.0, 1.0])]
        for _ in range(n):
            i, j = rng.randrange(len(records)), rng.randrange(len(records))
            d, e = rng.uniform(-1, 1), rng.uniform(-1, 1)
            if rng.random() < 0.5:
                records.append((i, d))
                rows.append(d * rows[i])
            else:
                records.append((i, d, j, e))
                rows.append(d * rows[i] + e * rows[j])
        found = sweep(tape_of(*records), [(len(records) - 1, 1.0)])
        got = [found.get((INPUT, k), 0.0) for k in range(2)]
        np.testing.assert_allclose(got, rows[-1], rtol=1e-12, atol=1e-13)


# --- tapes ------------------------------------------------------------------------------------------------


def test_leaves_are_memoised():
    tape = Tape(("d", JOB), [])
    slots = [((0, 1), 3), ((0, 1), 4), ((), 3)]
    places = [add_leaf(tape, slot, float) for slot in slots]
    assert places == [0, 1, 2]
    assert [add_leaf(tape, slot, float) for slot in reversed(slots)] == [2, 1, 0]
    assert len(tape.records) == 3
    assert tape.records[1] == (None, float, slots[1])


def test_a_value_of_another_job_is_imported_once():
    def f(x):
        y = x * 2.0

        def task():
            total = y * 1.0
            for _ in range(5):
                total = total + y * y
            tape = ACTIVE.get()[-1]
            assert len(tape.leaves) == 1
            assert sum(record[0] is None for record in tape.records) == 1
            return total

        return pdl.par(task)[0]

    assert pdl.grad(f)(1.5) == pytest.approx(2 + 40 * 1.5)


def test_a_tape_is_data():
    x = (INPUT, 0)
    before = tape_of(leaf(x), (0, 2.0), job=(0,))
    tape = tape_of(leaf(((0,), 1)), (0, 5.0), job=(1,), past=(before,))
    tape.forks = 3
    tape.masks = True
    copy = pickle.loads(pickle.dumps(tape))
    assert copy.home == tape.home
    assert copy.records == tape.records
    assert copy.leaves == tape.leaves
    assert copy.masks is True
    assert copy.past[0].records == before.records
    assert reverse(copy, [(((1,), 1), 1.0)]) == reverse(tape, [(((1,), 1), 1.0)]) == {x: 10.0}


def test_a_tape_says_what_it_is():
    assert repr(tape_of(leaf((INPUT, 0)), job=(0, 1, 0))) == "<Tape of job (0, 1, 0): 1 records>"
    assert "forward" in repr(Tape(("d", JOB)))
    assert ACTIVE.get() == (OUTSIDE,)


def test_records_of_python_floats_are_operands_and_partials():
    def f(x, y):
        start = len(ACTIVE.get()[-1].records)
        out = (x * y - x) / 2.0
        records.extend(ACTIVE.get()[-1].records[start:])
        return out

    records = []
    pdl.grad(f, (0, 1))(3.0, 5.0)
    assert records[0] == (0, 5.0, 1, 3.0)
    assert records[1] == (2, 1.0, 0, -1.0)
    assert records[2] == (3, 0.5)


def test_only_what_a_rule_names_is_kept():
    def f(x):
        np.tanh(x * 2.0)
        tape = ACTIVE.get()[-1]
        function, form, ((operand, number, keep),) = tape.records[-1]
        assert function is np.tanh
        assert form == (x.shape, x.dtype)
        assert (operand, number) == (len(tape.records) - 2, 0)
        assert len(keep) == 1
        np.testing.assert_array_equal(keep[0], np.tanh([2.0, 4.0]))
        return x.sum()

    pdl.grad(f)(np.array([1.0, 2.0]))


# --- the history --------------------------------------------------------------------------------------------


def test_history_is_in_program_order():
    root = tape_of(job=(0,))
    left, right = tape_of(job=(0, 0, 0)), tape_of(job=(0, 1, 0))
    after_left = tape_of(job=(0, 0, 1), past=(left,))
    joined = tape_of(job=(1,), past=(root, after_left, right))
    late = tape_of(job=(0, 2, 0))
    last = tape_of(job=(2,), past=(joined, late, right))
    assert [tape.home[1] for tape in history(last)] == [
        (0,),
        (0, 0, 0),
        (0, 0, 1),
        (0, 1, 0),
        (1,),
        (0, 2, 0),
        (2,),
    ]
    assert list(history(root)) == [root]


def test_history_of_a_long_chain_needs_no_recursion():
    tape = tape_of(job=(0,))
    for k in range(1, 20_000):
        tape = tape_of(job=(k,), past=(tape,))
    assert [t.home[1][0] for t in history(tape)] == list(range(20_000))


def test_history_of_a_program():
    names = []

    def f(x):
        first = pdl.submit(lambda: x * 2.0)
        a, b = pdl.par(lambda: x * 3.0, lambda: pdl.par(lambda: x * 5.0)[0])
        out = a * b * first.result()
        names.extend(tape.home[1] for tape in history(ACTIVE.get()[-1]))
        return out

    with pdl.executor("inline"):
        assert pdl.grad(f)(2.0) == pytest.approx(3 * 30 * 4)
    assert names == [(0,), (0, 1, 0), (0, 2, 0), (0, 2, 0, 0, 0), (0, 2, 1), (1,), (0, 0, 0), (2,)]
    inline, names[:] = names[:], []
    assert pdl.grad(f)(2.0) == pytest.approx(360.0)
    assert names == inline


# --- names and plans ----------------------------------------------------------------------------------------


def test_names():
    assert branch(ROOT, 2) == (0, 2, 0)
    assert successor((0, 2, 0)) == (0, 2, 1)
    assert successor(ROOT) == (1,)
    seen = set()

    def grow(job, depth):
        assert job not in seen
        seen.add(job)
        if depth:
            for number in range(2):
                grow(branch(job, number), depth - 1)
            grow(successor(job), depth - 1)

    grow(ROOT, 6)
    assert len(seen) == (3**7 - 1) // 2


def test_reverse_plan():
    uses = {"a": [], "b": ["a"], "c": ["a", "b", "a"], "d": ["c", "a"]}
    plan = reverse_plan(uses)
    assert list(plan) == ["d", "c", "b", "a"]
    assert plan == {"d": [], "c": ["d"], "b": ["c"], "a": ["b", "c", "d"]}
    assert reverse_plan({}) == {}
    assert reverse_plan({"a": ()}) == {"a": []}


@pytest.mark.parametrize(
    "uses",
    [
        {"a": ["a"]},
        {"a": ["b"], "b": []},
        {"a": ["b"], "b": ["a"]},
        {"a": ["nowhere"]},
        {"a": [], "b": ["b"]},
    ],
)
def test_reverse_plan_raises_where_there_is_no_order(uses):
    with pytest.raises(ValueError, match="does not precede it"):
        reverse_plan(uses)


def test_reverse_plans_of_random_graphs():
    rng = random.Random(1)
    for _ in range(100):
        n = rng.randrange(1, 20)
        uses = {k: [j for j in range(k) if rng.random() < 0.3] for k in range(n)}
        plan = reverse_plan(uses)
        assert list(plan) == list(range(n - 1, -1, -1))
        place = {job: k for k, job in enumerate(plan)}
        for job, consumers in plan.items():
            assert consumers == sorted(consumers)
            assert consumers == [k for k in range(n) if job in uses[k]]
            assert all(place[consumer] < place[job] for consumer in consumers)


def test_jobs_out_of_order_are_an_internal_error():
    first = tape_of(leaf(((1,), 0)), job=(0,))
    last = tape_of(leaf((INPUT, 0)), job=(1,), past=(first,))
    with pytest.raises(pdl.errors.InternalError, match="not in order"):
        reverse(last, [(((1,), 0), 1.0)])


def test_a_cotangent_for_an_unknown_job_is_an_internal_error():
    first = tape_of(leaf((INPUT, 0)), job=(0,))
    last = tape_of(leaf(((0,), 0)), job=(1,), past=(first,))
    with pytest.raises(pdl.errors.InternalError, match="not part of the program"):
        reverse(last, [(((7,), 0), 1.0)])


def test_what_leaves_a_program_is_summed_in_program_order():
    x = ((9, 9), 4)
    first = tape_of(leaf(x), (0, 1.0), job=(0,))
    second = tape_of(leaf(x), (0, 1e100), job=(0, 0, 0))
    last = tape_of(
        leaf(((0,), 1)),
        leaf(((0, 0, 0), 1)),
        leaf(x),
        (0, 1.0, 1, 1.0),
        (2, -1e100, 3, 1.0),
        job=(1,),
        past=(first, second),
    )
    for _ in range(5):
        assert reverse(last, [(((1,), 4), 1.0)]) == {x: (1.0 + 1e100) - 1e100}


def test_the_size_of_a_tape_counts_every_job_of_its_history() -> None:
    def program(x):
        for _ in range(4):
            a, b = pdl.par(lambda x=x: np.sin(x) * x, lambda x=x: x * x)
            x = a + b
        return x.sum()

    _, pullback = pdl.vjp(program, np.ones(10_000))
    assert tape_bytes(pullback.last) >= 4 * 2 * 80_000  # x and sin(x) of each step
