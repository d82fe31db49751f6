from __future__ import annotations

import time

import pytest

from cattune.grounding.links import ground_links

Links = list[tuple[str, list[str]]]


def chosen(prompt: str, completion: str, links: Links) -> list[list[int]]:
    """For each grounded link the start of its effect and of its causes, in the joined text."""
    starts = {"prompt": 0, "completion": len(prompt)}
    found = ground_links({"prompt": prompt, "completion": completion}, links, "context").links
    return [[starts[span.field] + span.start for span in (link.effect, *link.causes)] for link in found]


def test_a_cause_is_the_one_of_the_effects_own_clause() -> None:
    text = "Ann picked 6 plums, Bo picked 7 plums, and Cy picked 9 figs."
    links: Links = [("6 plums", ["Ann", "picked"]), ("7 plums", ["Bo", "picked"]), ("9 figs", ["Cy", "picked"])]
    assert chosen(text, "", links) == [[11, 0, 4], [30, 20, 23], [53, 43, 46]]


def test_a_sentence_end_is_farther_than_some_words() -> None:
    text = "Ann left. She had a big red hat and, as I heard, Bo had a red one too, Ann says. So he won."
    assert chosen(text, "", [("won", ["Ann", "she"])])[0][1:] == [0, 10]


def test_the_causes_of_an_answer_stand_by_each_other() -> None:
    text = "Ann has 4 pens. Bo has 5 pens. Ann gives all of her 4 to Bo. How many has Bo? Answer: "
    assert chosen(text, "9", [("9", ["Ann", "4 pens", "Bo", "5 pens"])]) == [[len(text), 0, 8, 16, 23]]


def test_causes_are_listed_in_reading_order() -> None:
    text = "rate: 3.5; load: 4.0; width: 3.5; depth: 7; height: 3.5. Answer: "
    assert chosen(text, "1", [("1", ["3.5", "4.0"])])[0][1:] == [6, 17]
    assert chosen(text, "1", [("1", ["4.0", "3.5"])])[0][1:] == [17, 29]
    assert chosen(text, "1", [("1", ["7", "3.5"])])[0][1:] == [41, 52]
    assert chosen(text, "1", [("1", ["3.5", "4.0", "3.5", "7", "3.5"])])[0][1:] == [6, 17, 29, 41, 52]


def test_a_value_is_not_a_part_of_the_next_one() -> None:
    assert chosen("a: 20.5; b: 18.1; c: 18.1%. Answer: ", "1", [("1", ["20.5", "18.1", "18.1%"])])[0][1:] == [3, 12, 21]


def test_a_cause_is_not_a_word_of_the_effect_if_it_stands_before() -> None:
    assert chosen("Ann has eggs. Now Ann finds more.", "", [("Ann finds more", ["Ann"])]) == [[18, 0]]
    assert chosen("Well, Ann finds more.", "", [("Ann finds more", ["Ann"])]) == [[6, 6]]


def test_the_effect_is_by_its_causes() -> None:
    text = "The red bird flew 3 miles. A cat sat there and slept. The cat then ran 3 miles to the sea."
    assert chosen(text, "", [("3 miles", ["cat", "ran"])]) == [[71, 58, 67]]
    assert chosen(text, "", [("3 miles", ["bird"])]) == [[18, 8]]


def test_a_cause_after_the_effect_still_tells_where_it_is() -> None:
    text = "He lifted iron bars for a show in Rome. It was summer, and nobody came. What do iron bars weigh?"
    assert chosen(text, "", [("iron bars", ["lifted", "show"])]) == [[10, 3]]


def test_an_effect_that_no_cause_precedes_is_not_taken_if_there_is_another() -> None:
    text = "He adds 40 boxes at $2 each. What are 40 boxes worth?"
    assert chosen(text, "", [("40 boxes", ["$2 each"])]) == [[38, 20]]
    text = text.replace(" What", " He goes. " * 9 + "What")
    assert chosen(text, "", [("40 boxes", ["$2 each"])]) == [[text.rindex("40 boxes"), 20]]


def test_mentions_of_a_phrase_take_different_places() -> None:
    assert sorted(chosen("a: 7; b: 7; c: 7. Answer: ", "1", [("1", ["7", "7"])])[0][1:]) == [9, 15]


def test_links_run_through_the_text_in_order() -> None:
    text = "It ran on Monday. It sat on Tuesday. Which is later, Monday or Tuesday?"
    assert chosen(text, "", [("Monday", ["on"]), ("Tuesday", ["on"]), ("later", ["Which"])])[1] == [28, 25]
    again = "Ann met Bo, Cy met Bo, Di met Bo."
    assert chosen(again, "", [("Cy", ["Ann"]), ("Bo", ["met"]), ("Di", ["Cy"])])[1] == [19, 15]


@pytest.mark.parametrize("places", [300, 3000])
def test_an_effect_that_occurs_often_is_still_found_by_its_cause(places: int) -> None:
    text = "a the " * places + "rare the " + "a the " * places
    at = text.index("rare")
    assert chosen(text, "", [("the", ["rare"])]) == [[at + 5, at]]


def test_the_time_is_bounded() -> None:
    links: Links = [("the", ["the", "the", "cat", "cat", "sat"] * 4)] * 30
    start = time.process_time()
    chosen("the cat sat " * 1000, "the", links)
    assert time.process_time() - start < 5.0  # it takes 0.5 s; comparing all with all takes hours
