"""JSON for values: what is written comes back equal and of the same type, or is refused."""

import contextlib
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.documents import Document
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    ChatMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.outputs import ChatGeneration, Generation
from langchain_core.prompt_values import ChatPromptValue, StringPromptValue
from pydantic import BaseModel

from course_lib.caching import JsonCodec

TEXT = st.text() | st.sampled_from(["$type", "$tuple", "$dict", "$", "fields"])
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(TEXT, inner, max_size=4)
    ),
    max_leaves=12,
)
CALL = {"name": "f", "args": {"a": [1]}, "id": "x", "type": "tool_call"}
ANSWER = AIMessage(
    "hi",
    id="1",
    tool_calls=[CALL],
    usage_metadata={"input_tokens": 1, "output_tokens": 2, "total_tokens": 3},
    response_metadata={"$type": "AIMessage", "fields": {}},
)
OBJECTS = [
    ANSWER,
    AIMessageChunk("x", tool_call_chunks=[{"name": "f", "args": "{", "id": "x", "index": 0}]),
    HumanMessage([{"type": "text", "text": "q"}, {"type": "image_url", "image_url": {"url": "u"}}]),
    SystemMessage("s", additional_kwargs={"a": None}),
    ToolMessage("t", tool_call_id="3", artifact={"a": (1, 2)}),
    ChatMessage("u", role="r"),
    Document("text", id="7", metadata={"score": 0.25, "tags": ["a"]}),
    Generation(text="x", generation_info={"finish_reason": "stop"}),
    ChatGeneration(message=ANSWER),
    ChatPromptValue(messages=[HumanMessage("q"), ANSWER]),
    StringPromptValue(text="x"),
]


class Note(BaseModel):
    """A model of the user's own."""

    text: str
    tags: list[str] = []


def same(one, two):
    """Equal, and of the same types all through; True is not 1."""
    if type(one) is not type(two):
        return False
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(map(same, one, two))
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(same(one[key], two[key]) for key in one)
    return one == two


@given(VALUES)
def test_plain_values_come_back_as_they_were(value):
    """Also those that look like the codec's own marks."""
    codec = JsonCodec()
    assert same(codec.loads(codec.dumps(value)), value)


@given(st.dictionaries(TEXT, SCALARS, max_size=6), st.randoms())
def test_equal_values_have_one_text(value, random):
    """In whatever order a dict was filled."""
    items = list(value.items())
    random.shuffle(items)
    codec = JsonCodec()
    assert codec.dumps(dict(items)) == codec.dumps(value)


@given(st.dictionaries(TEXT, st.dictionaries(TEXT, SCALARS, max_size=3), max_size=6))
def test_a_dictionary_can_keep_its_order(value):
    """Also inside another one."""
    codec = JsonCodec()
    back = codec.loads(codec.dumps(value, sort=False))
    assert str(back) == str(value)


@pytest.mark.parametrize("value", OBJECTS, ids=lambda value: type(value).__name__)
def test_langchains_data_comes_back_as_it_was(value):
    """By itself and inside others."""
    codec = JsonCodec()
    back = codec.loads(codec.dumps([{"value": (value,)}]))
    assert same(back, [{"value": (value,)}])


def test_a_messages_text_is_a_str():
    """LangChain's own kind of str, which is equal to it."""
    codec = JsonCodec()
    back = codec.loads(codec.dumps(AIMessage("hi").text))
    assert type(back) is str
    assert back == "hi"


@pytest.mark.parametrize(
    "value",
    [
        {1, 2},
        b"x",
        object(),
        1j,
        np.float64(1.5),
        np.zeros(2),
        {1: "a"},
        {("a",): 1},
        Note(text="x"),
        lambda: None,
        [object()],
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_json_would_change_is_refused(value):
    """A value must not depend on the tier it comes from."""
    with pytest.raises(TypeError):
        JsonCodec().dumps(value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_json_does_not_know_are_refused(value):
    """With what to cache in their place."""
    with pytest.raises(ValueError, match="is no JSON: cache None or a finite number"):
        JsonCodec().dumps([value])


def test_a_class_that_was_named_can_be_stored():
    """And read by whoever names it, too."""
    codec = JsonCodec(allow=[Note])
    text = codec.dumps(Note(text="x", tags=["a"]))
    assert codec.loads(text) == Note(text="x", tags=["a"])
    with pytest.raises(ValueError, match="'Note' is not allowed: name its class in `allow=`"):
        JsonCodec().loads(text)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        '{"$type": "RunnableLambda", "fields": {}}',
        '{"$type": "os.system", "fields": {"command": "true"}}',
        '{"$type": ["Document"], "fields": {}}',
        '{"$type": "Document"}',
        '{"$type": "Document", "fields": {"page_content": 1}}',
        '{"$type": "Document", "fields": [1]}',
        '{"$tuple": 5}',
        '{"$dict": 5}',
        "NaN",
        "Infinity",
        "[" * 100_000,
    ],
)
def test_what_was_not_written_here_is_a_value_error(text):
    """Never another one, and no class that is not on the list is looked for."""
    with pytest.raises(ValueError):  # noqa: PT011 - pydantic's and json's own among them
        JsonCodec().loads(text)


@given(st.recursive(SCALARS, lambda i: st.lists(i) | st.dictionaries(TEXT, i), max_leaves=10))
def test_any_json_is_read_or_refused(data):
    """Whoever wrote it."""
    with contextlib.suppress(ValueError):
        JsonCodec().loads(json.dumps(data))


@pytest.mark.parametrize(
    ("allow", "error", "message"),
    [([dict], TypeError, "name pydantic models"), ([Note, "x"], TypeError, "name pydantic")],
)
def test_only_models_can_be_allowed(allow, error, message):
    """Their fields say what there is to read."""
    with pytest.raises(error, match=message):
        JsonCodec(allow=allow)


def test_two_classes_of_one_name_are_refused():
    """What is stored names its class, and nothing else."""
    other = type("Document", (Note,), {"__module__": "elsewhere"})
    with pytest.raises(ValueError, match="there is another Document: rename one"):
        JsonCodec(allow=[other])
