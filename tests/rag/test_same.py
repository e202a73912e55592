"""What is remembered of passages goes by which they are."""

from functools import lru_cache

from course_lib.rag.same import Same


def test_a_result_is_found_again_for_the_same_sequence_and_for_no_equal_one():
    count = lru_cache(lambda given: object())
    passages = ["a", "b"]
    assert count(Same(passages)) is count(Same(passages))
    assert count(Same(passages)) is not count(Same(list(passages)))


def test_a_sequence_lives_as_long_as_its_result_so_that_no_other_takes_its_place():
    seen = lru_cache(lambda given: given.sequence[0])
    assert [seen(Same([number])) for number in range(100)] == list(range(100))
