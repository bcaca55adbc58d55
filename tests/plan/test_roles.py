"""What role patterns mean, and every mistake one can make with them."""

from __future__ import annotations

import pytest

from smoe_cli.plan import PlanError, compile_plan
from smoe_cli.plan.roles import matching
from tests.plan.recipes import recipe

ROLES = (
    "experts.understanding",
    "experts.generation",
    "router.understanding",
    "router.generation",
    "shared",
    "attention",
    "norms",
    "embeddings",
    "vision",
    "projector",
    "latents",
)


def rates(learning_rate: dict[str, float], freeze: tuple[str, ...] = ()) -> dict[str, float]:
    changes = {"phases.0.learning_rate": learning_rate, "phases.0.freeze": list(freeze)}
    return compile_plan(recipe(**changes)).phases[0].rates


def problems(learning_rate: dict[str, float], freeze: tuple[str, ...] = ()) -> list[tuple]:
    with pytest.raises(PlanError) as error:
        rates(learning_rate, freeze)
    return [(problem.path, problem.message, problem.help) for problem in error.value.problems]


def test_reading_order() -> None:
    assert compile_plan(recipe()).roles == ROLES


@pytest.mark.parametrize(
    ("entry", "matched"),
    [
        ("shared", ("shared",)),
        ("experts.*", ROLES[:2]),
        ("*.generation", ("experts.generation", "router.generation")),
        ("*", ROLES),
        ("default", ROLES),
        ("expert", ()),
        ("experts?generation", ()),
        ("experts", ()),
    ],
)
def test_matching(entry: str, matched: tuple[str, ...]) -> None:
    assert matching(entry, ROLES) == matched


def test_exact_beats_pattern_beats_default_in_any_order() -> None:
    entries = {"default": 1.0, "experts.*": 2.0, "experts.generation": 3.0}
    for order in (entries, dict(reversed(entries.items()))):
        found = rates(order)
        assert found["experts.generation"] == 3.0
        assert found["experts.understanding"] == 2.0
        assert {found[role] for role in ROLES[2:]} == {1.0}


def test_the_narrower_of_two_patterns_wins() -> None:
    found = rates({"*": 1.0, "experts.*": 2.0})
    assert (found["experts.generation"], found["shared"]) == (2.0, 1.0)


def test_every_role_has_one_rate_or_is_frozen() -> None:
    plan = compile_plan(recipe())
    for phase in plan.phases:
        assert set(phase.rates) | set(phase.frozen) == set(plan.roles)
        assert not set(phase.rates) & set(phase.frozen)


def test_zero_is_a_rate_and_not_unset() -> None:
    found = rates({"shared": 0.0, "default": 1.0})
    assert found["shared"] == 0.0
    assert "shared" not in compile_plan(recipe(**{"phases.0.learning_rate": {"shared": 0.0, "default": 1.0}})).phases[0].frozen
    assert set(rates({"default": 0.0}).values()) == {0.0}


def test_frozen_roles_need_no_rate() -> None:
    others = tuple(role for role in ROLES if role != "latents")
    assert rates({"latents": 1.0}, freeze=others) == {"latents": 1.0}


def test_freezing_by_pattern() -> None:
    plan = compile_plan(recipe(**{"phases.0.freeze": ["*.understanding", "vision"]}))
    assert plan.phases[0].frozen == ("experts.understanding", "router.understanding", "vision")


def test_frozen_in_every_phase_is_fine() -> None:
    plan = compile_plan(recipe(**{"phases.1.freeze": ["vision"]}))
    assert all(phase.frozen == ("vision",) for phase in plan.phases)


def test_unknown_role() -> None:
    assert problems({"expert.generation": 1.0, "default": 1.0}) == [
        (
            ("phases", 0, "learning_rate", "expert.generation"),
            "unknown role `expert.generation`",
            "did you mean `experts.generation`?",
        )
    ]
    assert problems({"default": 1.0}, freeze=("visoin",)) == [
        (("phases", 0, "freeze", 0), "unknown role `visoin`", "did you mean `vision`?")
    ]
    assert problems({"defualt": 1.0, "*": 1.0})[0][2] == "did you mean `default`?"


def test_a_role_of_a_part_that_the_model_lacks_says_so() -> None:
    with pytest.raises(PlanError) as error:
        compile_plan(recipe(**{"model.vision": None}))
    (problem,) = error.value.problems
    assert problem.path == ("phases", 0, "freeze", 0)
    assert problem.message == "no role `vision`: the model has no vision encoder (`model.vision`)"


def test_a_pattern_that_matches_nothing() -> None:
    ((path, message, help),) = problems({"stream.*": 1.0, "default": 1.0})
    assert path == ("phases", 0, "learning_rate", "stream.*")
    assert message == "no role matches `stream.*`"
    assert help == "roles of this model: " + ", ".join(f"`{role}`" for role in ROLES)


def test_roles_without_a_rate() -> None:
    ((path, message, help),) = problems({"experts.*": 1.0, "router.*": 1.0, "shared": 1.0}, freeze=("vision", "norms"))
    assert path == ("phases", 0, "learning_rate")
    assert message == "no learning rate for `attention`, `embeddings`, `projector` and `latents`"
    assert help == "add an entry, or `default: …`, or freeze it"


def test_an_overridden_entry() -> None:
    ((path, message, _),) = problems(
        {"experts.*": 1.0, "experts.generation": 2.0, "experts.understanding": 3.0, "default": 4.0}
    )
    assert path == ("phases", 0, "learning_rate", "experts.*")
    assert "no effect" in message
    assert message.endswith("more specific entries decide: `experts.generation` and `experts.understanding`")


def test_an_overridden_default() -> None:
    ((path, message, _),) = problems({"*": 1.0, "default": 2.0})
    assert path == ("phases", 0, "learning_rate", "default")
    assert "no effect" in message


def test_a_rate_for_frozen_roles() -> None:
    for entry in ("vision", "vis*"):
        ((path, message, _),) = problems({entry: 1.0, "default": 1.0}, freeze=("vision",))
        assert path == ("phases", 0, "learning_rate", entry)
        assert message == f"`{entry}` has no effect: the roles it names are frozen in this phase"


def test_an_entry_that_is_overridden_where_it_is_not_frozen() -> None:
    ((path, message, _),) = problems(
        {"experts.*": 1.0, "experts.generation": 2.0, "default": 1.0}, freeze=("experts.understanding",)
    )
    assert path == ("phases", 0, "learning_rate", "experts.*")
    assert message.endswith("more specific entries decide: `experts.generation`")


def test_two_patterns_that_cannot_be_told_apart() -> None:
    ((path, message, help),) = problems({"experts.*": 1.0, "*.generation": 2.0, "default": 3.0})
    assert path == ("phases", 0, "learning_rate", "*.generation")
    assert message == "role `experts.generation` is named by `experts.*` and `*.generation`, and none is more specific"
    assert help == "add `experts.generation: …`"
    assert (
        rates({"experts.*": 1.0, "*.generation": 2.0, "experts.generation": 5.0, "default": 3.0})["experts.generation"] == 5.0
    )


def test_freezing_everything() -> None:
    assert problems({"default": 1.0}, freeze=("*",)) == [
        (("phases", 0, "freeze"), "every role is frozen: the phase would train nothing", None)
    ]


def test_freezing_twice() -> None:
    ((path, message, _),) = problems({"default": 1.0}, freeze=("experts.*", "experts.generation"))
    assert path == ("phases", 0, "freeze", 1)
    assert "no effect" in message


def test_default_cannot_be_frozen() -> None:
    ((path, message, _),) = problems({"default": 1.0}, freeze=("default",))
    assert path == ("phases", 0, "freeze", 0)
    assert message == "`default` is not a role"


def test_all_phases_are_checked_at_once() -> None:
    with pytest.raises(PlanError) as error:
        compile_plan(recipe(**{"phases.0.freeze": ["a"], "phases.1.freeze": ["b"]}))
    assert [problem.path for problem in error.value.problems] == [("phases", 0, "freeze", 0), ("phases", 1, "freeze", 0)]
    assert "phases.1.freeze.0: unknown role `b`" in str(error.value)
    assert error.value.exit_code == 2
