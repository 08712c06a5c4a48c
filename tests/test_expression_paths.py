"""Expressions that only pick and arrange give what the library's interpreter gives."""

from __future__ import annotations

from typing import Any

import jmespath
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddbrelay.flow.mapping.expression_paths import picking

NAMES = st.sampled_from(["a", "b", "c", "@x", "with space"])
VALUES = st.recursive(
    st.sampled_from([None, True, False, 0, 1, "", "text", 1.5]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=12,
)


def quoted(name: str) -> str:
    return name if name.isalpha() else f'"{name}"'


PICKS = st.recursive(
    NAMES.map(quoted) | st.sampled_from(["`null`", "`0`", "`[]`", '`{"a": 1}`', "''", "'t'"]),
    lambda inner: st.one_of(
        st.tuples(inner, NAMES).map(lambda pair: f"({pair[0]}).{quoted(pair[1])}"),
        st.tuples(inner, inner).map(lambda pair: f"({pair[0]} || {pair[1]})"),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: f"[{', '.join(parts)}]"),
        st.dictionaries(NAMES, inner, min_size=1, max_size=3).map(
            lambda parts: (
                "{" + ", ".join(f"{quoted(name)}: {one}" for name, one in parts.items()) + "}"
            )
        ),
    ),
    max_leaves=8,
)


@given(PICKS, VALUES)
def test_a_closure_gives_what_the_interpreter_gives(text: str, value: Any) -> None:
    compiled = jmespath.compile(text)
    pick = picking(compiled.parsed)
    assert pick is not None
    found = pick(value)
    assert repr(found) == repr(compiled.search(value))


@pytest.mark.parametrize(
    "text", ["a[0]", "a[*].b", "a | b", "length(a)", "a == b", "{a: a[]}", "!a", "a && b", "@"]
)
def test_what_is_more_than_that_is_left_to_the_interpreter(text: str) -> None:
    assert picking(jmespath.compile(text).parsed) is None
