"""Start, stop, clean and rollback of a profile. Each ends with what is true then, not with what was asked for."""

from __future__ import annotations

import time

from pytest_staging.capacity.readiness import Matrix, State
from pytest_staging.capacity.showing import variables_text
from pytest_staging.model.errors import ComposeFailed, UsageProblem
from pytest_staging.operating.control import Control
from pytest_staging.operating.describing import require_profile
from pytest_staging.targets import compose_program

UP_DEADLINE_S = 300.0
BUILD_DEADLINE_S = 900.0
STOP_DEADLINE_S = 120.0
LOOK_S = 0.25


def start(control: Control, profile: str, build: bool = False, reason: str = "start") -> Matrix | None:
    """Starts a profile, removes what only others run, and waits until it is ready; None for a dry run.

    Raises UsageProblem, CapacityMismatch, ComposeMissing or EngineMissing before anything is started. What did not
    get ready is left as it is, to be looked at.
    """
    control.require_fitting(profile)
    if build and control.description.capacity.build_overlay is None:
        raise UsageProblem(f"{control.description.shown} names no build_overlay, so --build has nothing to build.")
    if control.dry_run:
        _say_variables(control, profile)
        _bring_up(control, profile, build)
        return None
    control.engine.require_answer()
    with control.history.lock():
        control.history.begin(profile, control.invocation.environment, reason)
        try:
            _bring_up(control, profile, build)
        except ComposeFailed as error:
            # Compose fails too when a service that others wait for does not get healthy: the matrix says which.
            matrix = control.matrix(profile)
            if matrix.state is State.HEALTHY:  # what runs is what ran before, and not what was asked for
                raise
            control.say(str(error))
            return matrix
        matrix = await_ready(control, profile)
        if matrix.state is State.HEALTHY:
            control.history.mark_ready()
        return matrix


def stop(control: Control, profile: str) -> None:
    """Stops every container of the project, those of other profiles too."""
    profiles = control.every_profile(profile)
    if control.dry_run:
        control.run(profile, compose_program.stop(), profiles=profiles)
        return
    control.engine.require_answer()
    with control.history.lock():
        control.run(profile, compose_program.stop(), profiles=profiles, deadline_s=STOP_DEADLINE_S)


def clean(control: Control, profile: str) -> None:
    """Removes everything of the project; what Compose leaves is removed by its labels. Evidence stays."""
    profiles = control.every_profile(profile)
    if control.dry_run:
        control.run(profile, compose_program.down(), profiles=profiles)
        return
    control.engine.require_answer()
    with control.history.lock():
        try:
            control.run(profile, compose_program.down(), profiles=profiles, deadline_s=STOP_DEADLINE_S)
        except ComposeFailed as error:
            control.say(f"{error}\nCompose could not; what carries the project's label is removed without it.")
        for one in control.remove_left_over():
            control.say(f"removed {one}")
        control.history.forget()


def rollback(control: Control, profile: str) -> Matrix | None:
    """Back from `profile`, which runs, to the last other one that was ready. Raises UsageProblem."""
    current, before = control.history.current(), control.history.before()
    if current is None:
        raise UsageProblem(f"nothing of {control.project} was started here, so there is nothing to roll back.")
    if current.profile != profile:
        right = control.invocation.line("rollback", current.profile)
        raise UsageProblem(f"profile {current.profile} runs, not {profile}. To leave that one: {right}")
    if before is None:
        way_out = control.invocation.line("clean", profile)
        raise UsageProblem(f"no other profile was ready before {profile}. To end it: {way_out}")
    target = require_profile(control.description, before.profile)
    control.say(f"rolling back from {profile} to {target}, which was started at {before.started_at}")
    return start(control, target, reason="rollback")


def await_ready(control: Control, profile: str) -> Matrix:
    """The matrix when it is healthy, when it cannot become so any more, or at the deadline."""
    deadline = time.monotonic() + control.description.capacity.ready_timeout_of(profile)
    while True:
        matrix = control.matrix(profile)
        if matrix.state is State.HEALTHY or matrix.hopeless or time.monotonic() > deadline:
            return matrix
        time.sleep(LOOK_S)


def _bring_up(control: Control, profile: str, build: bool) -> None:
    spec = control.profile(profile)
    if build:
        overlay = [control.description.paths(build=True)[-1]]
        control.run(
            profile,
            compose_program.build(),
            profiles=spec.compose_profiles,
            overlay=overlay,
            deadline_s=BUILD_DEADLINE_S,
        )
    control.run(profile, compose_program.up(), profiles=spec.compose_profiles, deadline_s=UP_DEADLINE_S)
    # Services of a compose profile that is off now are no orphans: Compose lets them run.
    known = control.system(profile).services
    running = {one.service for one in control.containers()} if not control.dry_run else set(known)
    others = sorted((running & set(known)) - set(spec.services))
    if others:
        remove = compose_program.remove(others)
        control.run(profile, remove, profiles=control.every_profile(profile), deadline_s=STOP_DEADLINE_S)


def _say_variables(control: Control, profile: str) -> None:
    """The profile's own with their values, which `list` and `show` tell too; those of an environment may be secrets."""
    variables = control.description.variables(profile, control.invocation.environment, {})
    own = control.profile(profile).variables
    broker = control.description.capacity.broker
    secret = broker.password_env if broker else None
    shown = {name: value if name in own and name != secret else "..." for name, value in variables.items()}
    control.say(f"# with {variables_text(shown)}")
