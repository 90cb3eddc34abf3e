"""A profile is the same for the same rows, and puts what is alike into the same buckets."""

import hashlib
from random import Random

import pytest

from shared.profiles import INPUT_FEATURES, ProfileBuilder, output_counts, place_answer
from shared.profiles.language import LANGUAGES, language_of
from shared.profiles.lengths import length_distribution
from shared.profiles.output import refuses
from shared.profiles.reference import ReferenceProfile
from shared.profiles.topics import fit_topics
from tests.support.drift import profile, question, rows


def build(items: list[dict[str, str]], *, most: int = 5000) -> ReferenceProfile:
    builder = ProfileBuilder(most)
    for row in items:
        builder.add(hashlib.sha256(row["prompt"].encode()).hexdigest(),
                    [("system", "Answer."), ("user", row["prompt"]), ("assistant", row["completion"])])
    made = builder.build()
    assert made is not None
    return made


def test_the_order_of_rows_changes_nothing() -> None:
    items = rows(400)
    shuffled = items.copy()
    Random(5).shuffle(shuffled)
    assert build(items).model_dump_json() == build(shuffled).model_dump_json()
    assert build(items, most=100).model_dump_json() == build(shuffled, most=100).model_dump_json()


def test_memory_is_bounded_and_the_draw_is_of_all_rows() -> None:
    made = build(rows(1000), most=100)
    assert made.rows == 100
    assert all(counts.total == 100 for counts in made.features.values())
    numbers = [int(text.rsplit("(", 1)[1].rstrip(")")) for text in made.examples]
    assert min(numbers) < 200
    assert max(numbers) > 800


def test_it_survives_json() -> None:
    made = build(rows(200))
    again = ReferenceProfile.model_validate_json(made.model_dump_json())
    asked = [("user", question(Random(9)))]
    assert again == made
    assert again.place(asked) == made.place(asked)


def test_an_empty_dataset_has_no_profile() -> None:
    assert ProfileBuilder().build() is None


def test_a_conversation_has_a_bucket_in_every_input_feature_whatever_it_says() -> None:
    made = profile(200)
    strange = [("system", "s"), ("user", "\ud83d\ude00 \u0000 日本語")]
    for asked in ([], [("user", "")], [("user", "x" * 100_000)], strange):
        places = made.place(asked)
        assert sorted(places) == sorted(INPUT_FEATURES)
        assert all(0 <= place < len(made.features[feature].counts) for feature, place in places.items())


def test_lengths_are_in_tenths_and_the_unseen_has_a_place() -> None:
    made = length_distribution(range(1, 101))
    assert made.counts == [10] * 10 + [0]
    assert (made.labels[0], made.labels[-1]) == ("to 10", "over 100")
    assert [made.place(length) for length in (1, 10, 11, 100, 101)] == [0, 0, 1, 9, 10]
    same = length_distribution([7] * 50)
    assert (same.counts, same.labels) == ([50, 0], ["to 7", "over 7"])
    assert length_distribution([3]).counts == [1, 0]


@pytest.mark.parametrize(("text", "language"), [
    ("How can I get my card back?", "en"),
    ("Wie kann ich meine Karte sperren?", "de"),
    ("Comment est-ce que je peux fermer mon compte ?", "fr"),
    ("¿Cómo puedo cerrar mi cuenta?", "es"),
    ("Как закрыть мой счёт?", "cyrillic"),
    ("口座を閉じたいです", "hiragana-katakana"),
    ("我想关闭我的账户", "han"),
    ("كيف أغلق حسابي؟", "arabic"),
    ("42 !?", "unknown"),
    ("", "unknown"),
])
def test_languages(text: str, language: str) -> None:
    assert language_of(text) == language
    assert language in LANGUAGES


def test_topics_are_what_texts_have_in_common() -> None:
    cats = [f"my cat sleeps on sofa number{i}" for i in range(30)]
    money = [f"transfer refund invoice bank amount{i}" for i in range(30)]
    model = fit_topics([*cats, *money])
    assert {model.place(text) for text in cats} & {model.place(text) for text in money} == set()
    assert model.place("zebra") == len(model.centres)
    assert model.labels[-1] == "none"
    assert fit_topics([]).place("anything") == 0


@pytest.mark.parametrize(("answer", "refused"), [
    ("I'm sorry, but I can't help with that.", True),
    ("I\u2019m sorry, but I can\u2019t help with that.", True),
    ("I cannot assist with this request.", True),
    ("Ich kann Ihnen sagen, wie das geht.", False),
    ("Ich kann dir dabei leider nicht helfen.", True),
    ("card_arrival", False),
    ("You can't use the card before it is active, sorry.", False),
])
def test_refusals(answer: str, refused: bool) -> None:
    assert refuses(answer) is refused


def test_answers_have_the_buckets_of_their_reference() -> None:
    reference = {counts.feature: counts for counts in output_counts(["yes", "no", "I cannot help you with that."])}
    assert reference["refusals"].counts == [2, 1]
    assert place_answer("I can't assist you.", None, reference)["refusals"] == 1
    assert place_answer("x" * 1000, None, reference)["answer_length"] == len(reference["answer_length"].counts) - 1
    assert place_answer("x", 0.5, {}) == {}
    assert output_counts([]) == []


def test_how_sure_a_model_was_is_compared_where_both_sides_say_it() -> None:
    counts = output_counts(["a"] * 100, [number / 100 for number in range(100)])
    reference = {item.feature: item for item in counts}
    assert reference["surprisal"].counts == [10] * 10 + [0]
    assert place_answer("a", 0.005, reference)["surprisal"] == 0
    assert place_answer("a", 7.5, reference)["surprisal"] == 10
    assert "surprisal" not in place_answer("a", None, reference)
    assert "surprisal" not in {item.feature: item for item in output_counts(["a"])}
