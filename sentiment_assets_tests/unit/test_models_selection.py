"""The promotion policy, one sentence per case."""

from datetime import UTC, datetime
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentiment_assets.models.manifest import Manifest, Source
from sentiment_assets.models.selection import Decision, decide_promotion, rank


def model(
    version: str,
    accuracy: float | None = 0.80,
    *,
    algorithm: str = "logistic_regression",
    variant: str = "ngrams",
    kind: str = "file",
    **metrics: float,
) -> Manifest:
    figures = {} if accuracy is None else {"selection_accuracy": accuracy}
    return Manifest(
        kind="candidate",
        name=f"{variant}_{algorithm}",
        variant=variant,
        algorithm=algorithm,
        source=Source.model_validate({"kind": kind, "file": "tweets.csv", "note": "a note"}),
        rows_train=800,
        data_version="d1",
        code_version="1",
        seed=2000,
        metrics=figures | metrics,
        version=version,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        pins={},
        files={},
    )


def decide(candidates: list[Manifest], current: Manifest | None = None, **options: object) -> Decision:
    values = {"minimum_gain": 0.001, "leakage_ceiling": 0.90} | options
    return decide_promotion(rank(candidates), current, **values)  # type: ignore[arg-type]


def test_the_most_accurate_comes_first():
    assert [m.version for m in rank([model("b", 0.79), model("a", 0.81), model("c", 0.80)])] == [
        "a",
        "c",
        "b",
    ]


def test_those_within_one_standard_error_of_the_highest_accuracy_are_ranked_by_the_area_under_the_curve():
    # One standard error of 0.8 on 10,000 rows is 0.004.
    highest = model("highest", 0.800, selection_n=10_000, selection_auc=0.880)
    as_good = model("as good", 0.797, selection_n=10_000, selection_auc=0.885)
    worse = model("worse", 0.795, selection_n=10_000, selection_auc=0.890)
    assert [m.version for m in rank([worse, highest, as_good])] == ["as good", "highest", "worse"]


def test_of_those_as_good_the_first_that_gains_enough_is_promoted():
    current = model("current", 0.7994, selection_n=10_000, selection_auc=0.87)
    first = model("first", 0.8000, selection_n=10_000, selection_auc=0.89)
    second = model("second", 0.8006, selection_n=10_000, selection_auc=0.88)
    decision = decide([first, second], current)
    assert (decision.action, decision.version) == ("promote", "second")
    assert decide([first], current).action == "keep"


def test_a_refused_candidate_does_not_decide_who_is_as_good_as_the_best():
    higher = model("higher", 0.8006, selection_n=10_000, selection_auc=0.88)
    better = model("better", 0.8000, selection_n=10_000, selection_auc=0.89)
    leaky = model("leaky", 0.99, selection_n=10_000, selection_auc=0.99)
    decision = decide([higher, better, leaky])
    assert (decision.version, [refusal.version for refusal in decision.refused]) == ("better", ["leaky"])


def test_ties_are_broken_by_auc_then_macro_f1_then_the_simpler_algorithm_then_the_name():
    forest = model("forest", algorithm="random_forest")
    regression = model("regression")
    other_variant = model("counts", variant="counts")
    auc = model("auc", algorithm="random_forest", selection_auc=0.9)
    f1 = model("f1", algorithm="random_forest", selection_macro_f1=0.8)
    ranked = rank([forest, regression, other_variant, auc, f1])
    assert [m.version for m in ranked] == ["auc", "f1", "counts", "regression", "forest"]


@given(st.randoms(use_true_random=False))
def test_the_order_given_does_not_matter(random: Random):
    candidates = [
        model(f"{i}", 0.8 + i % 3 / 100, algorithm=["linear_svm", "naive_bayes"][i % 2]) for i in range(8)
    ]
    shuffled = list(candidates)
    random.shuffle(shuffled)
    assert rank(shuffled) == rank(candidates)


def test_a_candidate_without_figures_comes_last():
    assert rank([model("none", None), model("bad", 0.1)])[-1].version == "none"


def test_the_first_model_is_promoted():
    assert decide([model("a", 0.7), model("b", 0.8)]).action == "promote"
    assert decide([model("a", 0.7), model("b", 0.8)]).version == "b"


def test_a_sufficient_gain_replaces_the_current_model_and_the_reason_has_the_figures():
    decision = decide([model("new", 0.801)], model("old", 0.800))
    assert (decision.action, decision.version) == ("promote", "new")
    assert "0.8010" in decision.reason
    assert "+0.0010" in decision.reason


@pytest.mark.parametrize("accuracy", [0.8009, 0.80, 0.70])
def test_too_small_a_gain_keeps_the_current_model(accuracy):
    decision = decide([model("new", accuracy)], model("old", 0.80))
    assert (decision.action, decision.version) == ("keep", "old")


def test_above_the_ceiling_a_candidate_is_refused_and_the_next_best_is_taken():
    decision = decide([model("leaky", 0.93), model("sound", 0.81)], model("old", 0.80))
    assert (decision.action, decision.version) == ("promote", "sound")
    assert [refusal.version for refusal in decision.refused] == ["leaky"]
    assert "leaked" in decision.refused[0].reason


def test_exactly_at_the_ceiling_is_still_sound():
    assert decide([model("edge", 0.90)]).action == "promote"


def test_when_all_are_refused_the_current_model_stays():
    decision = decide([model("leaky", 0.93)], model("old", 0.80))
    assert (decision.action, decision.version) == ("refuse", "old")
    assert decide([model("leaky", 0.93)]).version is None
    assert decide([]).action == "refuse"


def test_force_does_not_reach_beyond_the_ceiling():
    assert decide([model("leaky", 0.93)], model("old", 0.80), force=True).action == "refuse"


def test_force_promotes_a_worse_candidate():
    assert decide([model("new", 0.70)], model("old", 0.80), force=True).version == "new"


def test_real_tweets_always_replace_the_generated_sample():
    decision = decide([model("real", 0.76)], model("made-up", 0.82, kind="generated"))
    assert (decision.action, decision.version) == ("promote", "real")


def test_the_generated_sample_never_replaces_real_tweets_unless_forced():
    real, made_up = model("real", 0.76), model("made-up", 0.82, kind="generated")
    assert decide([made_up], real).action == "keep"
    assert decide([made_up], real, force=True).version == "made-up"


def test_the_chosen_model_is_not_promoted_again():
    decision = decide([model("same", 0.80), model("other", 0.79)], model("same", 0.80))
    assert (decision.action, decision.version) == ("keep", "same")


def test_a_current_model_that_nothing_compares_with_stays_unless_a_person_says_otherwise():
    decision = decide([model("new", 0.75)], model("old", None))
    assert (decision.action, decision.version) == ("keep", "old")
    assert "promote it by name" in decision.reason
    assert decide([model("new", 0.75)], model("old", None), force=True).version == "new"


def test_the_same_figures_lead_to_the_same_choice_whoever_was_first():
    # Within one standard error, so the area under the curve decides, although the other gains enough.
    regression = model("regression", 0.8158, selection_n=15_000, selection_auc=0.8977)
    svm = model("svm", 0.8170, algorithm="linear_svm", selection_n=15_000, selection_auc=0.8945)
    again = model("regression again", 0.8158, selection_n=15_000, selection_auc=0.8977)
    assert decide([regression, svm]).version == "regression"
    decision = decide([again, svm], regression)
    assert (decision.action, decision.version) == ("keep", "regression")


def test_a_leak_on_all_test_rows_is_refused_too():
    leaky = model("leaky", 0.899)
    leaky = leaky.with_metrics(leaky.metrics | {"accuracy": 0.901})
    decision = decide([leaky, model("sound", 0.81)])
    assert (decision.version, [refusal.version for refusal in decision.refused]) == ("sound", ["leaky"])


def test_what_was_rolled_back_does_not_come_back_by_itself_nor_made_the_same_way():
    bad, current = model("bad", 0.82), model("current", 0.80, variant="counts")
    made_again = model("made again", 0.82).model_copy(update={"params": {"features": "others"}})
    other_data = made_again.model_copy(update={"data_version": "d2", "version": "other data"})
    for candidate in (bad, made_again):
        decision = decide([candidate], current, withdrawn=[bad])
        assert (decision.action, decision.version) == ("keep", "current")
        assert "rolled back" in decision.reason
        assert decide([candidate], current, withdrawn=[bad], force=True).version == candidate.version
    assert decide([bad, model("next", 0.81, variant="hashing")], current, withdrawn=[bad]).version == "next"
    assert decide([other_data], current, withdrawn=[bad]).version == "other data"


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6), st.floats(0, 1))
def test_whatever_the_figures_nothing_above_the_ceiling_is_chosen_and_accuracy_never_falls(figures, before):
    candidates = [model(f"c{i}", figure) for i, figure in enumerate(figures)]
    decision = decide(candidates, model("old", before))
    accuracies = {f"c{i}": figure for i, figure in enumerate(figures)} | {"old": before}
    if decision.action == "promote":
        assert accuracies[decision.version] <= 0.90
    assert accuracies[decision.version] >= before
