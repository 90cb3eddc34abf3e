"""The reducer under hypothesis: whatever happens in whatever order, what must never happen does not.

The machine keeps a route table of its own, changed only by the effects, by the same rules as the real one. Two
controllers look at the same rollout; each look is fenced, so of two that began from the same row only one is applied.
"""

from datetime import timedelta
from typing import Any, Literal

import hypothesis.strategies as st
from hypothesis import event, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from services.rollout.decide import step
from services.rollout.observation import Command, Loading, Observation, Verb
from services.rollout.samples import NoData
from services.rollout.state import FULL_WEIGHT, TERMINAL, RolloutState
from services.rollout.wanted import Answer, Effect, LeaveRoute, MakeStable, Shift, TakeRoute
from shared.pipeline import Guardrail, RolloutStep, ShadowStep
from shared.webhooks import Webhook, WebhookType
from tests.support.rollouts import LOADED, STABLE, World, policy

ASKED: tuple[WebhookType, ...] = ("confirm-traffic-increase", "confirm-promotion", "rollout")
FAULTS = [NoData(kind, f"of a fault: {kind}") for kind in ("unreachable", "timeout", "stale", "invalid", "empty")]


def gated_steps() -> dict[str, object]:
    """Copies first, a person behind two steps, and a guardrail that copies cannot show."""
    short: dict[str, Any] = {"min_duration": timedelta(seconds=10), "min_requests": 10}
    return {
        "shadow": ShadowStep(percent=30, approval=True, **short),
        "steps": [RolloutStep(weight=20, **short), RolloutStep(weight=50, approval=True, **short)],
        "guardrails": [*policy().guardrails, Guardrail(metric="thumbs_down", tolerable_rate=0.1)],
    }


class RolloutMachine(RuleBasedStateMachine):
    """Random traffic, faults, people, replicas, successors and two controllers."""

    @initialize(
        choice=st.sampled_from(["extend", "pause", "rollback"]), begun=st.integers(0, 3), gated=st.booleans(),
        control=st.booleans(), hooked=st.booleans(),
    )
    def begin(
        self, choice: Literal["extend", "pause", "rollback"], begun: int, gated: bool, control: bool, hooked: bool
    ) -> None:
        webhooks = [Webhook(name=type_, type=type_, url="http://ci/") for type_ in ASKED if hooked]
        self.world = World(policy(
            on_insufficient_evidence=choice, control=control, webhooks=webhooks, **(gated_steps() if gated else {})
        ))
        self.world.webhooks = dict.fromkeys(ASKED, True)
        self.holder: str | None = None
        self.weight = self.shadow = 0
        self.stable = STABLE
        self.epoch = 0
        self.slow: tuple[int, RolloutState, Observation] | None = None
        self.pending: list[Command] = []
        self.answered: list[int] = []
        self.looked = 0
        self.data_looks = 0
        self.person_promoted = False
        self.ends = 0
        if begun:
            self.world.loading = LOADED
        for _ in range(begun - 1):
            self.look()

    # --- The world ----------------------------------------------------------------------------------------------------

    @rule(stable=st.integers(0, 80), candidate=st.integers(0, 80), share=st.sampled_from([0.0, 0.0, 0.0, 0.02, 0.5]))
    def traffic(self, stable: int, candidate: int, share: float) -> None:
        if self.weight or self.shadow:
            self.world.serve(stable, candidate, bad=round(candidate * share), control=candidate)

    @rule(fault=st.sampled_from([None] * 8 + FAULTS))
    def metrics(self, fault: NoData | None) -> None:
        self.world.no_data = fault

    @rule()
    def gateway_restarts(self) -> None:
        self.world.restart_gateway()

    @rule(ready=st.sampled_from([0, 1, 1, 1]))
    def replicas(self, ready: int) -> None:
        self.world.loading = LOADED if ready else Loading(waiting=("gpu-0",), loaded=1)

    @rule(verb=st.sampled_from(["pause", "resume", "resume", "promote"]), full=st.booleans())
    def person(self, verb: Verb, full: bool) -> None:
        self.pending.append(self.world.command(verb, full=full and verb == "promote"))

    @rule(name=st.sampled_from(ASKED), answer=st.sampled_from([True, True, True, False, None]))
    def webhook(self, name: str, answer: bool | None) -> None:
        """From now on it says yes, no, or nothing."""
        self.world.webhooks.pop(name, None)
        if answer is not None:
            self.world.webhooks[name] = answer

    @rule(luck=st.integers(0, 30))
    def something_that_ends_it(self, luck: int) -> None:
        if luck == 30:
            self.world.successor = "m@3"
        elif luck == 29:
            self.world.loading = Loading(failure="gpu-0 cannot")
        elif luck == 28:
            self.pending.append(self.world.command("abort"))

    @rule(seconds=st.sampled_from([1.0, 5.0, 5.0, 5.0, 30.0, 700.0]))
    def time(self, seconds: float) -> None:
        self.world.clock.advance(seconds)

    # --- Two controllers ----------------------------------------------------------------------------------------------

    @rule()
    def look(self) -> None:
        self.epoch += 1
        self._finish(self.epoch, self.world.state, self._observe())

    @rule(looks=st.integers(1, 5), requests=st.integers(20, 80), bad=st.sampled_from([0, 0, 0, 1]))
    def a_good_while(self, looks: int, requests: int, bad: int) -> None:
        """What mostly happens: time passes, most requests are well, and somebody looks."""
        for _ in range(looks):
            if self.weight or self.shadow:
                self.world.serve(requests, requests, bad=bad, control=requests)
            self.world.clock.advance(5)
            self.look()

    @rule()
    def a_slow_controller_begins_a_look(self) -> None:
        self.epoch += 1
        self.slow = self.epoch, self.world.state, self._observe()

    @precondition(lambda self: self.slow is not None)
    @rule()
    def the_slow_controller_ends_its_look(self) -> None:
        assert self.slow is not None
        slow, self.slow = self.slow, None
        self._finish(*slow)

    def _observe(self) -> Observation:
        return self.world.observation(self.pending[0] if self.pending else None)

    def _finish(self, epoch: int, before: RolloutState, seen: Observation) -> None:
        after, effects = step(before, seen, self.world.now, self.world.policy)
        if epoch != self.epoch:
            return  # the fenced write changes no row
        assert self.world.state == before, "two leaders acted on the same row"
        if not any(isinstance(found, NoData) for found in seen.readings.values()):
            self.data_looks += 1
        assert RolloutState.model_validate_json(after.model_dump_json()) == after
        self.world.state = after
        event(f"reached {after.phase}")
        self._check_command(before, after, seen, effects)
        for effect in effects:
            self._apply(before, seen, effect)

    def _check_command(
        self, before: RolloutState, after: RolloutState, seen: Observation, effects: list[Effect]
    ) -> None:
        answers = [effect for effect in effects if isinstance(effect, Answer)]
        assert [answer.command for answer in answers] == ([seen.command.id] if seen.command else [])
        if seen.command is None:
            return
        self.pending.pop(0)
        if seen.command.verb == "abort" and before.phase not in TERMINAL:
            assert after.weight == 0
            assert after.phase in ("aborting", "rolled_back", "superseded")
        if seen.command.verb == "promote" and not answers[0].refused:
            self.person_promoted = True

    def _apply(self, before: RolloutState, seen: Observation, effect: Effect) -> None:
        mine = self.holder == "me"
        asked = seen.command is not None and seen.command.verb == "promote"
        match effect:
            case TakeRoute():
                assert not mine
                self.holder, self.weight, self.shadow = "me", 0, 0
            case Shift(weight=weight, shadow=shadow, control=control) if mine:
                assert not (weight and shadow)
                assert control == (weight if self.world.policy.control and weight < FULL_WEIGHT else 0)
                if shadow:
                    assert before.phase != "paused" or asked, "copies began in a pause"
                    assert seen.loading.complete, "copies before it is loaded"
                if weight > self.weight:
                    assert asked or self._confirmed(weight), "a webhook did not confirm it"
                    assert before.phase != "paused" or asked, "the weight rose in a pause"
                    assert seen.loading.complete or before.phase != "staging", "traffic before it is loaded"
                    assert asked or not any(isinstance(found, NoData) for found in seen.readings.values()) or (
                        before.phase == "staging"
                    ), "more traffic without data"
                self.weight, self.shadow = weight, shadow
            case MakeStable() if mine:
                least = sum(item.min_requests for item in self.world.policy.steps)
                gates = [number for number, item in enumerate(self.world.policy.stages, 1) if item.approval]
                assert self.person_promoted or self.world.state.approved >= max(gates, default=0), "nobody approved"
                for guardrail in self.world.state.guardrails.values():
                    assert self.person_promoted or guardrail.evidence.candidate.total >= least, "promoted without data"
                assert (self.weight, self.shadow) == (FULL_WEIGHT, 0)
                self.holder, self.weight, self.stable = None, 0, "candidate"
                self.ends += 1
            case LeaveRoute() if mine:
                assert (self.weight, self.shadow) == (0, 0), "it left the route with weight"
                self.holder = None
                self.ends += 1

    def _confirmed(self, weight: int) -> bool:
        """Whether the webhooks that are asked before this weight last said yes."""
        type_ = "confirm-promotion" if weight == FULL_WEIGHT else "confirm-traffic-increase"
        hooks = [self.world.state.hooks.get(each.name) for each in self.world.policy.webhooks if each.type == type_]
        return all(mine is not None and mine.passed for mine in hooks)

    # --- What must always hold ----------------------------------------------------------------------------------------

    @invariant()
    def the_route_is_what_the_state_says(self) -> None:
        state = self.world.state
        if state.phase == "promoted":
            assert (self.stable, self.holder) == ("candidate", None)
        elif self.holder == "me":
            assert (self.weight, self.shadow) == (state.weight, state.shadow)
        else:
            assert self.weight == 0
            assert self.stable == STABLE

    @invariant()
    def it_ends_once(self) -> None:
        assert self.ends <= 1
        assert self.world.state.phase in TERMINAL or self.ends == 0

    @invariant()
    def nothing_is_safe_without_data(self) -> None:
        if not self.data_looks:
            assert all(mine.verdict != "safe" for mine in self.world.state.guardrails.values())
            assert self.world.state.step <= 1 or self.person_promoted

    @invariant()
    def an_active_rollout_will_be_looked_at_again(self) -> None:
        assert (self.world.next_look is None) == (self.world.state.phase in TERMINAL)

    @precondition(lambda self: self.world.state.phase not in TERMINAL)
    @rule()
    def an_abort_from_here_reaches_weight_zero(self) -> None:
        """Asked of a copy at random moments, so that it covers every phase that is ever reached."""
        seen = self.world.observation(Command(id=-1, verb="abort", reason="now"))
        state, effects = step(self.world.state, seen, self.world.now, self.world.policy)
        assert state.weight == 0
        assert self.world.state.phase == "aborting" or Shift(0) in effects
        later = self.world.now.fromtimestamp(self.world.now.timestamp() + 60, tz=self.world.now.tzinfo)
        state, effects = step(state, self.world.observation(), later, self.world.policy)
        assert state.phase in ("rolled_back", "superseded")


RolloutMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)
TestRolloutMachine = RolloutMachine.TestCase
