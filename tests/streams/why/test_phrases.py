import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.why.phrases import because_chosen, because_of, entity_name, link, often_enjoyed, relation_name


@pytest.mark.parametrize(
    ("relation", "words"),
    [
        ("directed_by", "directed by"),
        ("genre", "genre"),
        ("film.film.director", "director"),
        ("/film/film/written_by", "written by"),
        ("http://schema.org/productionCompany", "production company"),
        ("release-year", "release year"),
        ("", ""),
    ],
)
def test_relations_become_words(relation, words):
    assert relation_name(relation) == words


@pytest.mark.parametrize(
    ("entity", "name"),
    [
        ("Ridley Scott", "Ridley Scott"),
        ("person:Ridley_Scott", "Ridley Scott"),
        ("Alien: Covenant", "Alien: Covenant"),
        ("1979", "1979"),
        ("m.0bln8", ""),
        ("/m/02vxxgs", ""),
        ("Q42", ""),
        ("9b2fb6f0-2f0a-4d3b-9d57-9a4f8d2b1c11", ""),
        ("0123456789abcdef", ""),
        ("1234567", ""),
        ("deadbeefcafe", "deadbeefcafe"),
    ],
)
def test_entities_become_names_and_identifiers_nothing(entity, name):
    assert entity_name(entity) == name


def test_a_path_reads_as_a_sentence():
    assert (
        because_of("like", "Alien (1979)", "directed_by", "Ridley Scott")
        == "because you liked Alien (1979): directed by Ridley Scott"
    )
    assert because_of("click", "Alien", "genre", "Horror") == "because you looked at Alien: genre Horror"
    assert (
        because_of("view", "Alien", "film.film.director", "m.0bln8")
        == "because you viewed Alien: the same director"
    )
    assert (
        because_of("purchase", "Alien", "directed_by", "Q1")
        == "because you bought Alien: also directed by the same"
    )
    assert because_of("replayed", "Alien", "", "") == "because you replayed Alien: something in common"
    assert because_chosen("genre", "Comedy") == "because you chose genre Comedy"
    assert often_enjoyed("Alien") == "often enjoyed by people who liked Alien"


@given(st.text(), st.text())
def test_any_edge_has_words(relation, entity):
    assert link(relation, entity).strip()
