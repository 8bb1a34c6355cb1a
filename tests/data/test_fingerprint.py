"""Digests of a dataset: the split by file, what changed, and duplicates."""

import numpy as np
import pytest

from edgeae.data.fingerprint import (
    Member,
    choose_validation,
    combine,
    describe_changes,
    describe_duplicates,
    digest_images,
    draw,
)

DIGESTS = [f"{number:032x}" for number in range(2000)]


def test_another_file_moves_no_file_to_the_other_side() -> None:
    many = choose_validation(DIGESTS, 0.1, seed=3)
    assert 0.07 < many.mean() < 0.13
    for count in (200, 1999):
        np.testing.assert_array_equal(choose_validation(DIGESTS[:count], 0.1, seed=3), many[:count])
    shuffled = np.random.default_rng(0).permutation(2000)
    np.testing.assert_array_equal(choose_validation([DIGESTS[i] for i in shuffled], 0.1, seed=3), many[shuffled])
    assert (choose_validation(DIGESTS, 0.1, seed=4) != many).any()


@pytest.mark.parametrize("count", [2, 3, 10])
def test_both_sides_of_few_files_have_one(count: int) -> None:
    for seed in range(30):
        chosen = choose_validation(DIGESTS[:count], 0.1, seed)
        assert 1 <= chosen.sum() < count and chosen.sum() <= 3
        assert 3 <= choose_validation(DIGESTS[:10], 0.3, seed).sum() <= 7


def test_what_a_run_has_split_stays_where_it_is() -> None:
    for seed in range(30):
        known = dict(zip(DIGESTS[:12], choose_validation(DIGESTS[:12], 0.1, seed).tolist(), strict=True))
        for new in (DIGESTS[:13], DIGESTS[3:40], DIGESTS[11::-1]):
            chosen = choose_validation(new, 0.1, seed, known)
            assert 1 <= chosen.sum() < len(new)
            if any(known.get(digest) for digest in new):
                assert all(known.get(digest, side) == side for digest, side in zip(new, chosen.tolist(), strict=True))


def test_copies_stay_together_and_targets_do_not_count() -> None:
    chosen = choose_validation([*DIGESTS[:50], *(f"{digest}-target" for digest in DIGESTS[:50])], 0.3, seed=0)
    np.testing.assert_array_equal(chosen[:50], chosen[50:])


def test_a_draw_changes_by_one_name() -> None:
    names = [f"{number}-photo.png" for number in range(100)]
    before, after = ({names[row] for row in draw(names[:n], 20, seed=1)} for n in (99, 100))
    assert len(before) == len(after) == 20 and len(before - after) <= 1


OLD = [Member("train", "a.png", "1"), Member("train", "b.png", "2"), Member("val", "c.png", "3")]


@pytest.mark.parametrize(
    "new, said",
    [
        pytest.param(OLD, "", id="nothing"),
        pytest.param([*OLD, Member("val", "d.png", "4")], "1 added (d.png)", id="added"),
        pytest.param(OLD[1:], "1 removed (a.png)", id="removed"),
        pytest.param([Member("train", "a.png", "9"), *OLD[1:]], "1 changed (a.png)", id="replaced"),
        pytest.param([Member("train", "z.png", "1"), *OLD[1:]], "1 renamed (a.png to z.png)", id="renamed"),
        pytest.param(
            [Member("val", "a.png", "1"), *OLD[1:]], "1 moved between train and val (a.png)", id="moved between parts"
        ),
        pytest.param([], "3 removed (a.png, b.png, c.png)", id="all gone"),
    ],
)
def test_changes_are_named(new: list[Member], said: str) -> None:
    assert describe_changes(OLD, new) == said
    assert (combine(OLD) == combine(new)) == (said == "")
    assert (combine(OLD, named=False) == combine(new, named=False)) == ("renamed" in said or not said)
    assert combine(OLD) == combine(OLD[::-1])


def test_duplicates_are_counted_and_named() -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    a, b, c, d = digest_images(images)
    assert digest_images(images[::2].copy()) == [a, c]
    assert describe_duplicates(["a", "b"], ["c"], [a, b], [c]) == []
    shared, again = describe_duplicates(["a", "b", "B"], ["A", "d"], [a, b, b], [a, d])
    assert "1 validation image is a duplicate of training images (A = a)" in shared
    assert again == "1 image is a duplicate of others (B = b)"
