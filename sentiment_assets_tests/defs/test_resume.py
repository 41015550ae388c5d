"""What a training keeps: decided on three small assets with Dagster's real records, without Spark."""

from collections.abc import Iterator
from typing import Any

import pytest
from dagster import (
    AssetCheckResult,
    AssetKey,
    Config,
    DagsterInstance,
    DataVersion,
    Definitions,
    MaterializeResult,
    asset,
    asset_check,
    define_asset_job,
    instance_for_test,
)

from sentiment_assets.local.resume import Plan, plan_training, train_all

WORLD: dict[str, Any] = {}
"""What the assets below find outside of Dagster."""


class Strength(Config):
    strength: int = 3


class Renamed(Config):
    power: int = 3


def definitions(*, code_version: str = "1", default: int = 3) -> Definitions:
    """raw -> cooked -> served, one more leaf beside it, and a blocking check on the first."""

    class Chosen(Strength):
        strength: int = default

    @asset(code_version="1")
    def raw() -> MaterializeResult:  # type: ignore[type-arg]
        return MaterializeResult(data_version=DataVersion(WORLD["data"]))

    @asset_check(asset=raw, blocking=True)
    def edible() -> AssetCheckResult:
        return AssetCheckResult(passed=WORLD["edible"])

    @asset(deps=[raw], code_version=code_version)
    def cooked(config: Chosen) -> MaterializeResult:  # type: ignore[type-arg]
        if WORLD["burns"]:
            raise RuntimeError("burnt")
        return MaterializeResult(data_version=DataVersion(f"{WORLD['data']}-{config.strength}"))

    @asset(deps=[raw], code_version="1")
    def beside() -> MaterializeResult:  # type: ignore[type-arg]
        return MaterializeResult(data_version=DataVersion(WORLD["data"]))

    @asset(deps=[cooked, beside], code_version="1")
    def served() -> MaterializeResult:  # type: ignore[type-arg]
        return MaterializeResult(data_version=DataVersion("served"))

    return Definitions(
        assets=[raw, cooked, beside, served], asset_checks=[edible], jobs=[define_asset_job("meal")]
    )


@pytest.fixture(autouse=True)
def world() -> None:
    WORLD.update(data="d1", edible=True, burns=False)


@pytest.fixture(scope="module")
def home() -> Iterator[DagsterInstance]:
    with instance_for_test() as made:
        yield made


@pytest.fixture
def instance(home: DagsterInstance) -> DagsterInstance:
    """An instance without any record."""
    home.wipe()
    return home


def run(instance: DagsterInstance, plan: Plan | None = None, config: dict[str, Any] | None = None) -> bool:
    job = definitions().resolve_job_def("meal")
    return job.execute_in_process(
        instance=instance,
        raise_on_error=False,
        run_config=config or {},
        asset_selection=list(plan.train) if plan else None,
    ).success


def planned(
    instance: DagsterInstance,
    made: Definitions | None = None,
    *,
    config: dict[str, Any] | None = None,
    unlike: dict[str, str] | None = None,
    selected: set[str] | None = None,
) -> Plan:
    made = made or definitions()
    return plan_training(
        made,
        made.resolve_job_def("meal"),
        instance,
        run_config=config or {},
        selected={AssetKey(name) for name in selected or {"raw", "cooked", "beside", "served"}},
        unlike_now=lambda key, _: (unlike or {}).get(key.to_user_string()),
    )


def names(plan: Plan) -> dict[str, str]:
    return {key.to_user_string(): reason for key, reason in plan.train.items()}


def test_on_a_fresh_instance_everything_is_made_upstream_first(instance: DagsterInstance) -> None:
    plan = planned(instance)
    assert set(plan.train.values()) == {"not there yet"}
    order = [key.to_user_string() for key in plan.train]
    assert (order[0], order[-1], len(order)) == ("raw", "served", 4)


def test_after_a_complete_run_everything_is_kept(instance: DagsterInstance) -> None:
    assert run(instance)
    plan = planned(instance)
    assert plan.train == {}
    assert len(plan.kept) == 4


def test_what_a_broken_run_has_done_is_kept_and_the_rest_is_made(instance: DagsterInstance) -> None:
    WORLD["burns"] = True
    assert not run(instance)
    plan = planned(instance)
    assert names(plan) == {"cooked": "not there yet", "served": "not there yet"}
    WORLD["burns"] = False
    assert run(instance, plan)
    assert planned(instance).train == {}


def test_a_new_code_version_remakes_the_asset_and_what_follows_it(instance: DagsterInstance) -> None:
    run(instance)
    plan = planned(instance, definitions(code_version="2"))
    assert names(plan) == {"cooked": "its code has changed", "served": "cooked is made"}


def test_an_explicit_configuration_equal_to_the_default_is_no_change(instance: DagsterInstance) -> None:
    run(instance)
    same = {"ops": {"cooked": {"config": {"strength": 3}}}}
    assert planned(instance, config=same).train == {}


@pytest.mark.parametrize("strength", [2, 4])
def test_another_configuration_remakes_the_asset_and_what_follows_it(
    instance: DagsterInstance, strength: int
) -> None:
    run(instance)
    plan = planned(instance, config={"ops": {"cooked": {"config": {"strength": strength}}}})
    assert names(plan) == {"cooked": "its configuration has changed", "served": "cooked is made"}


def test_a_configuration_that_is_not_understood_any_more_counts_as_changed(instance: DagsterInstance) -> None:
    run(instance, config={"ops": {"cooked": {"config": {"strength": 3}}}})

    @asset(deps=["raw"], code_version="1", name="cooked")
    def renamed(config: Renamed) -> MaterializeResult:  # type: ignore[type-arg]
        return MaterializeResult(data_version=DataVersion("x"))

    others = [a for a in definitions().assets or [] if getattr(a, "key", None) != AssetKey("cooked")]
    made = Definitions(assets=[*others, renamed], jobs=[define_asset_job("meal")])  # type: ignore[list-item]
    assert names(planned(instance, made))["cooked"] == "its configuration has changed"


def test_a_parent_that_was_made_otherwise_since_remakes_what_depends_on_it(instance: DagsterInstance) -> None:
    run(instance)
    run(
        instance,
        Plan({AssetKey("cooked"): "asked for"}, ()),
        {"ops": {"cooked": {"config": {"strength": 9}}}},
    )
    plan = planned(instance, config={"ops": {"cooked": {"config": {"strength": 9}}}})
    assert names(plan) == {"served": "cooked has changed"}


def test_a_difference_outside_of_dagster_counts(instance: DagsterInstance) -> None:
    run(instance)
    plan = planned(instance, unlike={"beside": "its files are gone"})
    assert names(plan) == {"beside": "its files are gone", "served": "beside is made"}


def test_nothing_is_built_on_what_a_blocking_check_has_refused(instance: DagsterInstance) -> None:
    WORLD["edible"] = False
    assert not run(instance)
    assert names(planned(instance))["raw"] == "its check edible has not passed"
    WORLD["edible"] = True
    assert run(instance, planned(instance))
    assert planned(instance).train == {}


def test_a_selection_is_planned_within_itself(instance: DagsterInstance) -> None:
    run(instance)
    plan = planned(instance, definitions(code_version="2"), selected={"beside", "served"})
    assert plan.train == {}
    assert {key.to_user_string() for key in plan.kept} == {"beside", "served"}


def test_force_keeps_nothing(instance: DagsterInstance) -> None:
    run(instance)
    job = definitions().resolve_job_def("meal")
    plan = train_all(job, {AssetKey("raw"), AssetKey("served")}, "asked for")
    assert (list(plan.train), plan.kept) == ([AssetKey("raw"), AssetKey("served")], ())
