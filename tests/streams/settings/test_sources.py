"""What is said of a mapping file that is at fault: file, table, field and rule."""

from pathlib import Path

import pytest

from streams.errors import ConfigurationError
from streams.settings import load_settings
from streams.settings.source_paths import EVERY, parse, parse_template
from streams.settings.sources import load_sources, parse_sources

CLICKS = 'topic = "shop"\nfeeds = "clicks"\n'
FIELDS = '[source.fields]\nuser_id = "u"\nitem_id = "i"\naction = "a"\n'


def mapping(source: str = CLICKS, fields: str = FIELDS) -> str:
    return f"[[source]]\n{source}\n{fields}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x", "no TOML: "),
        ("", "there is no [[source]] table"),
        ("[sources]", "sources: there is no such key"),
        (mapping('feeds = "clicks"'), "source 1 (without a topic): topic: is missing"),
        (mapping('topic = "a b"\nfeeds = "clicks"'), "source 1 (a b): topic: must match pattern"),
        (mapping('topic = "a"\nfeeds = "click"'), "feeds: must be 'clicks', "),
        (mapping(CLICKS + 'format = "xml"'), "format: must be"),
        (mapping(fields='[source.fields]\nuser = "u"'), "source 1 (shop): clicks has no field 'user'"),
        (mapping(fields='[source.fields]\nuser_id = "u"'), "clicks needs the field 'item_id'"),
        (mapping(fields=FIELDS + 'value = "a..b"'), "fields.value: path 'a..b': no path from"),
        (mapping(fields=FIELDS + 'value = "$topics"'), "path '$topics': $topics is none of $, @,"),
        (mapping(fields=FIELDS + 'value = "$offset.x"'), "path '$offset.x': $offset has no parts"),
        (mapping(fields=FIELDS + 'value = "$header"'), "a header is named, such as $header.ce_id"),
        (mapping(fields=FIELDS + 'value = ""'), "path '': must not be empty"),
        (mapping(fields=FIELDS + 'value = { template = "a{b" }'), "the brace at 1 has no partner"),
        (mapping(fields=FIELDS + 'value = { path = "a", constant = 1 }'), "fields.value: needs one of"),
        (mapping(fields=FIELDS + "value = { values = { a = 1 } }"), "fields.value: needs one of"),
        (mapping(fields=FIELDS + 'value = { path = "a", foo = 1 }'), "value.foo: there is no such key"),
        (mapping(fields=FIELDS + 'value = { path = "a", unit = "h" }'), "fields.value.unit: must be 's'"),
        (mapping(fields=FIELDS + 'value.part = "a"'), "value is one value: give path, template or constant"),
        (mapping(fields=FIELDS + 'value = "@.x"'), "`@` and `$index` are of a list: say which in `each`"),
        (mapping(fields=FIELDS + 'value = "$event.x"'), "`$event` is the envelope"),
        (mapping(CLICKS + 'each = "items"'), "set repartition = true"),
        (mapping(CLICKS + 'where = [{ path = "a" }]'), "where.0: says nothing of its path"),
        (mapping() + mapping(CLICKS.replace("shop", "b")), "2 topics feed clicks directly"),
        (mapping() + '[[source]]\ntopic = "shop"\nfeeds = "users"\n[source.fields]\nuser_id = "u"',
         "shop feeds 2 inputs directly"),
        (mapping() + mapping('topic = "b"\nfeeds = "clicks"\nrepartition = true'), "directly and by"),
    ],
)  # fmt: skip
def test_a_fault_names_the_file_the_table_the_field_and_the_rule(text: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_sources(text, "shop.toml")
    assert str(caught.value).startswith("mapping shop.toml:")
    assert said in str(caught.value)


def test_every_fault_of_a_file_is_named_at_once() -> None:
    text = mapping('topic = "a b"\nfeeds = "click"', FIELDS + 'value = "a..b"')
    with pytest.raises(ConfigurationError) as caught:
        parse_sources(text, "m.toml")
    assert len(str(caught.value).splitlines()) == 4


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"mapping .*none.toml: No such file"):
        load_sources(tmp_path / "none.toml")
    with pytest.raises(ConfigurationError, match="Is a directory"):
        load_sources(tmp_path)
    (tmp_path / "m.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="no UTF-8 text"):
        load_sources(tmp_path / "m.toml")


def test_an_action_that_nobody_has_defined_is_a_fault_of_the_settings(tmp_path: Path) -> None:
    path = tmp_path / "m.toml"
    path.write_text(mapping(fields=FIELDS.replace('"a"', '{ path = "a", values = { x = "nod" } }')))
    with pytest.raises(ConfigurationError, match=r"source shop makes the actions \['nod'\]"):
        load_settings(mapping=path)
    assert [source.topic for source in load_settings(mapping=path, actions={"nod": 1.0}).sources] == ["shop"]


def test_paths_and_templates_are_read_as_they_are_written() -> None:
    assert parse("a.b[0].c").steps == ("a", "b", 0, "c")
    assert parse('a."b.c"').steps == ("a", "b.c")
    assert parse("['a b'][]").steps == ("a b", EVERY)
    assert (parse("$").root, parse("$").steps) == ("$", ())
    assert (parse("$key.id").root, parse("@").root) == ("$key", "@")
    assert parse("[0]").steps == (0,)
    assert parse_template("a{{b}}{c.d}e") == ("a", "{", "b", "}", parse("c.d"), "e")
