"""JSON edited in its bytes: only what was asked to change changes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r2router.gateway.splice import Items, Members, NotJson, with_words

ODD = (
    b' {\r\n "z" : 123456789012345678901234567890,\t"model":"a\\u00e9\\"" , "temperature":0,"x\\"y":[1 ,'
    b' {"a":-0.0e+5}],"n":null}\n '
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
objects = st.dictionaries(st.text(max_size=8), values, max_size=6)
written = st.sampled_from(
    [{}, {"indent": 1}, {"separators": (",", ":")}, {"ensure_ascii": False, "separators": (" , ", "\t:\n")}]
)


def dumped(value: object, how: dict[str, object]) -> bytes:
    return json.dumps(value, **how).encode("utf-8", "surrogatepass")  # type: ignore[arg-type]


def test_what_is_not_edited_is_the_same_bytes() -> None:
    body = Members(ODD)
    assert body.render() is ODD
    body.set("model", b'"b"')
    assert body.render() == ODD.replace(b'"a\\u00e9\\""', b'"b"')
    assert body.get("z") == 123456789012345678901234567890


def test_members_come_and_go() -> None:
    body = Members(b'{"r2router":{"policy":1},"a":1,"b": 2}')
    body.remove("r2router")
    assert body.render() == b'{"a":1,"b": 2}'
    body.remove("a")
    assert body.render() == b'{"b": 2}'
    body.remove("b")
    assert body.render() == b"{}"
    body.put("c", {"d": 1})
    assert body.render() == b'{"c":{"d":1}}' and "c" in body and "a" not in body


@settings(max_examples=50)
@given(objects, written, st.data())
def test_an_edit_is_what_json_would_make_of_it(
    value: dict[str, object], how: dict[str, object], data: st.DataObject
) -> None:
    try:
        body = Members(dumped(value, how))
    except NotJson:  # half a surrogate in a key has no UTF-8
        return
    wanted = dict(value)
    for key in data.draw(st.lists(st.sampled_from([*value, "new", "other"]), max_size=4)):
        if data.draw(st.booleans()):
            body.remove(key)
            wanted.pop(key, None)
        else:
            body.put(key, 7)
            wanted[key] = 7
    assert json.loads(body.render()) == wanted


@pytest.mark.parametrize(
    "twice",
    [
        b'{"model":"a","model":"b"}',
        b'{"model":"a","x":1,"model":"a"}',
        b'{"mod\\u0065l":"a","model":"b"}',
        b'{"a":1,"a":1,"b":2}',
        b'{"a":"x","b":1,"a":"x,\\"b\\":1,"}',
        b'{"a":1,"b":",\\"b\\":1","a":1}',
    ],
)
def test_a_key_that_stands_twice_is_refused(twice: bytes) -> None:
    with pytest.raises(NotJson, match="twice"):
        Members(twice)


@settings(max_examples=50)
@given(st.lists(st.tuples(st.sampled_from("abc"), values), min_size=1, max_size=6), written)
def test_only_objects_with_each_key_once_are_taken(pairs: list[tuple[str, object]], how: dict[str, object]) -> None:
    text = b"{" + b",".join(json.dumps(k).encode() + b":" + dumped(v, how) for k, v in pairs) + b"}"
    if len({k for k, _ in pairs}) == len(pairs):
        assert Members(text).render() == text
    else:
        with pytest.raises(NotJson):
            Members(text)


DEEP = b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"  # deeper than any Python's reader goes


@pytest.mark.parametrize("bad", [b"", b"[]", b"1", b'{"a":1', b'{"a":1}x', b'{"a":NaN}', b"\xff", DEEP])
def test_what_is_no_object_is_refused(bad: bytes) -> None:
    with pytest.raises(NotJson):
        Members(bad)


@settings(max_examples=50)
@given(st.lists(values, max_size=5), written, st.integers(0, 4))
def test_items_are_replaced_in_place(value: list[object], how: dict[str, object], at: int) -> None:
    text = dumped(value, how)
    items = Items(text)
    assert items.render() == text or not value
    assert [json.loads(items[i]) for i in range(len(items))] == value
    wanted = list(value)
    if at < len(value):
        items.set(at, b"7")
        wanted[at] = 7
    items.append(b"8")
    items.insert_first(b"9")
    assert json.loads(items.render()) == [9, *wanted, 8]


def test_words_go_behind_a_string_as_it_was_written() -> None:
    assert with_words(b'"a\\u00e9\\n"', '\n\nsay "x"') == b'"a\\u00e9\\n\\n\\nsay \\"x\\""'
