"""The training report from a store of made-up candidates: what it says, and that texts stay texts."""

import base64
import re
from datetime import UTC, datetime
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from sentiment_assets.failures import ModelError
from sentiment_assets.models.store import Draft, ModelStore, Source
from sentiment_assets.reports.content import RunRecords, TrainingReport, gather, percent
from sentiment_assets.reports.pages import Origin, markdown, summary, write_page
from sentiment_assets.reports.studies import LearningPoint, Studies, read_studies, write_study
from sentiment_assets.settings import Settings
from sentiment_assets.spark.evaluation import ScoredRows, halves_of
from sentiment_assets.spark.evidence import write_evidence
from sentiment_assets.spark.explain import TellingTerms

HOSTILE = "<script>alert(1)</script>"
TERMS = TellingTerms(((HOSTILE, 2.0), ("a|b`c", 1.0)), (("sad", -2.5), ("ugh", -1.0)))
MADE = Origin("sentiment-assets report", datetime(2026, 1, 2, tzinfo=UTC))
SKILL = {"nb_ngrams_logistic_regression": 1.3, "count_logistic_regression": 0.9, "hashing_naive_bayes": 0.8}


def made_up_scores(skill: float, n: int = 4000) -> ScoredRows:
    """Scores of the same ``n`` rows, better the larger ``skill`` is."""
    random = np.random.default_rng(5)
    positive = random.random(n) < 0.5
    noise = np.random.default_rng(int(skill * 100)).normal(size=n)
    logit = skill * np.where(positive, 1, -1) + noise
    return ScoredRows.of(np.arange(n), random.random(n) < 0.5, positive, 1 / (1 + np.exp(-logit)))


def store_candidate(
    store: ModelStore,
    name: str,
    *,
    skill: float | None = None,
    kind: str = "file",
    note: str = "a file of tests",
    evidence: bool = True,
) -> str:
    variant = next(v for v in ("nb_ngrams", "count", "hashing") if name.startswith(v))
    rows = made_up_scores(SKILL[name] if skill is None else skill)
    draft = Draft(
        kind="candidate",
        name=name,
        variant=variant,
        algorithm=name.removeprefix(f"{variant}_"),
        source=Source.model_validate({"kind": kind, "file": "tweets.csv", "note": note}),
        rows_train=16_000,
        data_version="data",
        code_version="1.1",
        seed=2000,
        params={"penalty": 1.0},
        metrics={**halves_of(rows).as_dict(), "fit_seconds": 2.5, "features_seconds": 4.0},
        run_id="run",
    )

    def write(folder: Path) -> None:
        (folder / "pipeline").write_text("weights")
        if evidence:
            write_evidence(folder, rows, TERMS)

    return store.save(draft, write).version


@pytest.fixture
def store(settings: Settings) -> ModelStore:
    made = ModelStore(settings.models)
    versions = [store_candidate(made, name) for name in SKILL]
    made.promote(versions[0], "It is the best candidate and no model was chosen yet.")
    return made


def report_of(store: ModelStore, studies: Studies | None = None) -> TrainingReport:
    records = RunRecords(steps={"features/nb_ngrams": 12.0}, counts={"rows_in": 20_000, "empty_texts": 3})
    return gather(store, "data", records, studies or Studies())


def test_the_page_is_one_file_that_runs_nothing_and_shows_terms_as_text(
    store: ModelStore, settings: Settings
) -> None:
    page = write_page(report_of(store), settings, MADE)
    html = page.read_text(encoding="utf-8")
    assert page.name == f"{store.chosen()}.html"
    assert (settings.reports / "latest.html").read_text(encoding="utf-8") == html
    assert "<script" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "default-src 'none'" in html
    assert not re.findall(r"(?:src|href)=[\"'](?!data:|#)", html)
    assert len(html) < 1_000_000


def test_the_page_says_first_which_model_was_chosen_how_good_it_is_and_why(
    store: ModelStore, settings: Settings
) -> None:
    html = write_page(report_of(store), settings, MADE).read_text(encoding="utf-8")
    head = html[: html.index('id="candidates"')]
    figures = store.manifest(store.chosen() or "").metrics
    assert "Logistic regression on word and character n-grams" in head
    assert percent(figures["report_accuracy"]) in head
    assert f"{figures['report_n']:,}" in head
    assert "It came first of 3." in head
    assert "McNemar" in head


def test_where_accuracy_cannot_tell_two_apart_the_page_says_that_the_curve_decided(
    settings: Settings,
) -> None:
    skills = [1 + n / 100 for n in range(10)]
    figures = {skill: halves_of(made_up_scores(skill)).as_dict() for skill in skills}
    first, second = next(
        (a, b)
        for a, b in permutations(skills, 2)
        if 0 < figures[b]["selection_accuracy"] - figures[a]["selection_accuracy"] < 0.005
        and figures[a]["selection_auc"] > figures[b]["selection_auc"]
    )
    store = ModelStore(settings.models)
    chosen = store_candidate(store, "nb_ngrams_logistic_regression", skill=first)
    store_candidate(store, "nb_ngrams_linear_svm", skill=second)
    store.promote(chosen, "a test")
    reason = report_of(store).reasons()[0]
    assert reason.head == "It came first of 2."
    assert "within one standard error, so the area under the curve decides" in reason.detail


def test_drawings_are_the_same_for_the_same_figures(store: ModelStore, settings: Settings) -> None:
    first, second = (write_page(report_of(store), settings, MADE).read_bytes() for _ in range(2))
    assert first == second
    [drawing, *_] = re.findall(rb"data:image/svg\+xml;base64,([^\"]+)", first)
    assert b"nb_ngrams_logistic_regression" in base64.b64decode(drawing)


def test_made_up_tweets_are_named_as_such_in_every_form(settings: Settings) -> None:
    store = ModelStore(settings.models)
    note = "generated sample, made-up tweets"
    version = store_candidate(store, "count_logistic_regression", kind="generated", note=note)
    store.promote(version, "test")
    report = report_of(store)
    page = write_page(report, settings, MADE).read_text(encoding="utf-8")
    for form in (page, markdown(report, MADE), summary(report)):
        assert "made up" in form
        assert "made-up tweets" in form


def test_a_model_without_kept_scores_is_reported_with_what_is_known(settings: Settings) -> None:
    store = ModelStore(settings.models)
    store.promote(store_candidate(store, "hashing_naive_bayes", evidence=False), "test")
    html = write_page(report_of(store), settings, MADE).read_text(encoding="utf-8")
    assert "Train it again to see its curves" in html


def test_a_chosen_model_of_other_data_is_said_to_be_an_earlier_one(store: ModelStore) -> None:
    manifest = store.manifest(store.chosen() or "")
    draft = Draft(**(manifest.model_dump() | {"data_version": "earlier", "name": "nb_ngrams_naive_bayes"}))
    earlier = store.save(draft, lambda folder: (folder / "pipeline").write_text("weights"))
    store.promote(earlier.version, "test")
    report = report_of(store)
    assert report.kept
    assert "trained earlier" in report.reasons()[0].detail
    assert report.paired is None


def test_without_a_chosen_model_the_next_step_is_named(settings: Settings) -> None:
    with pytest.raises(ModelError, match="sentiment-assets train"):
        report_of(ModelStore(settings.models))


def test_a_term_is_no_markup_of_a_markdown_table(store: ModelStore) -> None:
    text = markdown(report_of(store), MADE)
    assert r"`` a\|b`c ``" in text
    assert f"`{HOSTILE}`" in text
    assert "`sentiment-assets report`" in text


@pytest.mark.parametrize(
    ("other", "head"), [(1.29, "It is about as good as the runner-up."), (0.5, "It beats the runner-up.")]
)
def test_a_difference_that_chance_explains_is_called_none(
    other: float, head: str, settings: Settings
) -> None:
    store = ModelStore(settings.models)
    version = store_candidate(store, "nb_ngrams_logistic_regression", skill=1.3)
    store_candidate(store, "count_logistic_regression", skill=other)
    store.promote(version, "test")
    report = report_of(store)
    assert report.paired is not None
    assert head in [reason.head for reason in report.reasons()]
    assert (report.paired.p_value >= 0.05) == ("about as good" in head)


def test_a_learning_curve_of_this_model_is_shown_and_one_of_another_is_not(
    store: ModelStore, settings: Settings
) -> None:
    points = [
        LearningPoint(rows=r, accuracy=a, ci95_low=a - 0.01, ci95_high=a + 0.01, n=900, seconds=1)
        for r, a in ((1000, 0.7), (2000, 0.75))
    ]
    write_study(settings, f"learning_curve-{store.chosen()}", points)
    write_study(settings, "learning_curve-other", points[:1])
    studies = read_studies(settings, model_version=store.chosen() or "", data_version="data")
    assert studies.learning_curve == points
    html = write_page(report_of(store, studies), settings, MADE).read_text(encoding="utf-8")
    assert "From 1,000 to 2,000 tweets accuracy changed by" in html
    assert "+5.0 points" in html
