"""einsum, against PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
from compare import compare

import tensorlite as tl
from tensorlite import check
from tensorlite.check.samples.sample import integers, normal

EQUATIONS = [
    ("ij->ji", (2, 3)), ("ij->", (2, 3)), ("ij->j", (2, 3)), ("ii", (3, 3)), ("ii->i", (3, 3)), ("iij->ji", (2, 2, 3)),
    ("iji->j", (2, 3, 2)), ("iii->i", (2, 2, 2)), ("ba", (2, 3)), ("Ba", (2, 3)), ("aB", (2, 3)), ("", ()), ("->", ()),
    ("i j -> j i", (2, 3)), ("...ij->...ji", (2, 2, 3)), ("...", (2, 3)), ("...i->...", (2, 3)),
    ("...ij->ij", (2, 2, 3)), ("...ii->...i", (2, 3, 3)), ("i...->...", (2, 3)), ("i...i->...", (2, 3, 2)),
    ("ij->ij...", (2, 3)), ("ij->ij", (0, 3)), ("i,i", (3,), (3,)), ("i,j", (3,), (2,)), ("i,j->ji", (3,), (2,)),
    ("ij,jk", (2, 3), (3, 4)), ("ij,jk->ki", (2, 3), (3, 4)), ("ij,j->i", (2, 3), (3,)), ("ij,ij->ij", (2, 3), (2, 3)),
    ("ij,ij->i", (2, 3), (2, 3)), ("ij,ij->", (2, 3), (2, 3)), ("ij,kj->", (2, 3), (4, 3)),
    ("ij,kl->il", (2, 3), (4, 2)), ("bij,bjk->bik", (2, 3, 4), (2, 4, 2)),
    ("bthd,bshd->bhts", (2, 3, 2, 4), (2, 5, 2, 4)), ("bhts,bshd->bthd", (2, 2, 3, 5), (2, 5, 2, 4)),
    ("bnd,de->bne", (2, 3, 4), (4, 2)), ("bnd,hde->bhne", (2, 3, 4), (3, 4, 2)),
    ("ijkl,lkm->ijm", (2, 2, 3, 4), (4, 3, 2)), ("ij,", (2, 3), ()), (",", (), ()), ("i,->i", (3,), ()),
    ("ii,ij->j", (3, 3), (3, 2)), ("ij,jj->i", (2, 3), (3, 3)), ("...ij,...jk->...ik", (2, 3, 4), (4, 2)),
    ("...ij,...jk", (2, 1, 3, 4), (5, 4, 2)), ("i...,i...", (3, 2, 1), (3, 4)), ("i...,...j->ij", (2, 5), (5, 3)),
    ("ij,jk->ik", (2, 1), (3, 4)), ("ij,jk", (2, 3), (1, 4)), ("i,i->i", (1,), (3,)), ("ij,ij->j", (1, 3), (2, 1)),
    ("ij,jk->ik", (2, 0), (0, 3)), ("ij,jk->ik", (0, 2), (2, 3)), ("ij,jk->ik", (1, 1), (1, 1)),
    ("bi,bi->b", (0, 3), (0, 3)), ("i,i,i->i", (3,), (3,), (3,)), ("ij,jk,kl->il", (2, 3), (3, 4), (4, 2)),
    ("bi,ij,bj->b", (2, 3), (3, 4), (2, 4)), ("ij,kl,j,l->ik", (2, 3), (4, 2), (3,), (2,)),
    ("ab,bc,ca", (2, 3), (3, 4), (4, 2)), ("a,a,b->b", (2,), (2,), (3,)),
]  # fmt: skip

WRONG = [
    ("i", (2, 3)), ("ijk", (2, 3)), ("ij", (2, 3), (2, 3)), ("ij,jk", (2, 3)), ("i1", (2, 3)), ("ij->ii", (2, 3)),
    ("ij->ik", (2, 3)), ("......i", (2, 3)), ("..i", (2, 3)), ("ij-ji", (2, 3)), ("ij->ji->", (2, 3)),
    ("ii->i", (1, 3)), ("ij,jk", (2, 3), (2, 4)), ("...i,...i", (2, 3), (3, 3)), ("ij>ji", (2, 3)),
    ("ij->i......", (2, 3)), ("ij->i..j", (2, 3)), ("iä", (2, 3)), ("ij,ij->...i", (2, 3)),
]  # fmt: skip


@pytest.mark.parametrize("equation, shapes", [(case[0], case[1:]) for case in EQUATIONS + WRONG], ids=str)
def test_einsum(equation: str, shapes: tuple[tuple[int, ...], ...]):
    compare(lambda m, *xs: m.einsum(equation, *xs), *[normal(*shape) for shape in shapes])


@pytest.mark.parametrize("equation, shapes", [(case[0], case[1:]) for case in EQUATIONS], ids=str)
def test_einsum_differentiated_twice(equation: str, shapes: tuple[tuple[int, ...], ...]):
    inputs = [normal(*shape) for shape in shapes]
    check.gradients(lambda *xs: tl.einsum(equation, *xs), inputs)


def test_einsum_of_a_list_and_of_other_dtypes():
    compare(lambda m, a, b: m.einsum("ij,jk", [a, b]), normal(2, 3), normal(3, 2))
    compare(lambda m, a, b: m.einsum("ij,jk", a, b), integers(5, 2, 3), integers(5, 3, 2))
    compare(lambda m, a: (m.einsum("ij->j", a), m.einsum("i,j", a[0], a[1])), integers(5, 2, 3))
    compare(lambda m, a, b: m.einsum("ij,jk", a, b), normal(2, 3), normal(3, 2).astype(np.float32))
    compare(lambda m, a, b: m.einsum("ij,jk", a.mT, b.mT), normal(3, 2), normal(2, 3))
    compare(lambda m, a: m.einsum("ij,ik->jk", a, a), normal(2, 3))


def test_einsum_says_what_is_wrong():
    x = tl.ones(2, 3)
    for equation, operands, message in (
        ("ij,jk", (x,), r"'ij,jk' describes 2 operand\(s\), and 1 are given"),
        ("ij,jk", (x, x), r"'j' in 'ij,jk' has length 3 and 2"),
        ("ij->ik", (x,), r"the result of 'ij->ik' has 'k', which no operand has"),
        ("ijk", (x,), r"'ijk' names 3 dimensions of operand 0 of shape \(2, 3\) in 'ijk', which has 2"),
        ("ij", (x.long().bool(), x), "describes 1"),
        ("ij,ij", (x, x.double()), "one dtype, not float32, float64"),
    ):
        with pytest.raises(RuntimeError, match=message):
            tl.einsum(equation, *operands)
    with pytest.raises(TypeError, match="expected an equation"):
        tl.einsum(x, [0, 1], [1, 0])


def test_a_product_may_be_written_and_a_view_may_not():
    x = tl.randn(2, 3, 2, 4, requires_grad=True)
    for equation in ("bthd,bshd->bhts", "bthd,bshd->tshb"):
        scores = tl.einsum(equation, x, x)
        expected = scores.masked_fill(scores > 0, -1.0)
        assert (scores.masked_fill_(scores > 0, -1.0) == expected).all()
    with pytest.raises(RuntimeError, match="shares its memory with a view"):
        tl.einsum("ij->ji", tl.ones(2, 3, requires_grad=True) * 1).zero_()
