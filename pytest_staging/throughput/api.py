"""The API: paths, fields and their OpenAPI description. Needs FastAPI (`pip install 'pytest-staging[policy]'`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from pytest_staging import __version__
from pytest_staging.model.errors import PolicyRefused, StorageError
from pytest_staging.throughput.audit import KEPT
from pytest_staging.throughput.service import MAX_TEXT, PolicyService

BASE = "/workflows/throughput-policy"
PAGE = Path(__file__).parent / "page"
PAGE_FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
}
LevelName = Literal["normal", "warning", "critical", "unknown"]


class Strict(BaseModel):
    """No further fields, and no text for numbers."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class ClassState(Strict):
    """What one class may do now. `active_parallelism` counts jobs over all workers of the class."""

    class_name: str
    active_parallelism: int
    minimum_floor: int
    deferred_admission: bool
    reason: str


class QueueState(Strict):
    """One queue. `queued_messages` is null when it was never told."""

    queue: str
    queued_messages: int | None
    warning_threshold: int
    critical_threshold: int
    severity: LevelName


class Status(Strict):
    """The policy at this instant. Seconds count from readings of the telemetry."""

    requested_preset: str
    active_preset: str
    policy_active: bool
    queue_pressure_level: LevelName
    fail_safe: bool
    fail_safe_reason: str | None
    sustained_seconds: float
    sustained_seconds_required: float
    cooldown_remaining_seconds: float
    class_states: list[ClassState]
    queue_states: list[QueueState]


class OverrideRequest(Strict):
    """A preset for a time. Without `ttl_seconds` the policy's default."""

    preset: str = Field(max_length=100)
    ttl_seconds: float | None = Field(default=None, gt=0)
    reason: str = Field(default="", max_length=MAX_TEXT)


class OverrideState(Strict):
    """The override in force; all null but `active` without one."""

    active: bool
    preset: str | None
    ttl_seconds: float | None
    remaining_seconds: float | None
    expires_at: str | None
    who: str | None
    reason: str | None


class PresetRequest(Strict):
    """The preset to be set."""

    preset: str = Field(max_length=100)


class PresetState(Strict):
    """The preset that is set, and the one before it."""

    preset: str
    previous_preset: str | None


class ClassRules(Strict):
    """One class as the file has it."""

    class_name: str
    tier: int
    parallelism: int
    members: list[str]


class Classes(Strict):
    """Who belongs where: the first class with a matching pattern, else the default. `class_name`: of the work asked."""

    default_class: str
    classes: list[ClassRules]
    class_name: str | None = None


class AuditTrailPage(Strict):
    """Changes, the newest first."""

    entries: list[dict[str, Any]]


class Refusal(Strict):
    """Why a request was refused."""

    detail: str


REFUSALS: dict[int | str, dict[str, Any]] = {
    401: {"model": Refusal, "description": "No token, or a wrong one"},
    422: {"model": Refusal, "description": "Not a request that this API knows"},
}
CHANGES: dict[int | str, dict[str, Any]] = {
    **REFUSALS,
    400: {"model": Refusal, "description": "No JSON"},
    403: {"model": Refusal, "description": "The token may only read"},
    413: {"model": Refusal, "description": "The body is too large"},
    507: {"model": Refusal, "description": "The change cannot be written down, so it was not made"},
}
PresetQuery = Annotated[str | None, Query(description="what would be if this preset were set", max_length=100)]
StaleQuery = Annotated[bool, Query(description="what would be if the telemetry were stale")]


def build_app(service: PolicyService) -> FastAPI:
    """The application without its gate: it takes every visitor's word."""
    app = FastAPI(title="pytest-staging throughput policy", version=__version__, docs_url=None, redoc_url=None)
    _add_reading(app, service)
    _add_changing(app, service)
    _add_page(app)
    app.add_exception_handler(RequestValidationError, _explain)
    app.add_exception_handler(PolicyRefused, lambda _, error: _problem(422, str(error)))
    app.add_exception_handler(StorageError, lambda _, error: _problem(507, str(error)))
    _describe(app, service)
    return app


def _add_reading(app: FastAPI, service: PolicyService) -> None:
    def told(preset: str | None, stale: bool) -> Response:
        # Not through the response model, which would check again what the service has just built.
        return Response(json.dumps(service.status(preset, stale)), media_type="application/json")

    @app.get(f"{BASE}/status", response_model=Status, responses=REFUSALS, summary="The policy now")
    async def status(preset: PresetQuery = None, telemetry_stale: StaleQuery = False) -> Response:
        return told(preset, telemetry_stale)

    @app.post(f"{BASE}/evaluate", response_model=Status, responses=REFUSALS, summary="What would be; changes nothing")
    async def evaluate(preset: PresetQuery = None, telemetry_stale: StaleQuery = False) -> Response:
        return told(preset, telemetry_stale)

    @app.get(f"{BASE}/override", response_model=OverrideState, responses=REFUSALS, summary="The override in force")
    async def override() -> dict[str, Any]:
        return service.override()

    @app.get(f"{BASE}/preset", response_model=PresetState, responses=REFUSALS, summary="The preset that is set")
    async def preset() -> dict[str, Any]:
        return service.requested()

    @app.get(f"{BASE}/audit", response_model=AuditTrailPage, responses=REFUSALS, summary="Changes, the newest first")
    async def audit(limit: Annotated[int, Query(ge=1, le=KEPT)] = 50) -> dict[str, Any]:
        return {"entries": service.audit(limit)}

    @app.get(f"{BASE}/classes", response_model=Classes, responses=REFUSALS, summary="Who belongs to which class")
    async def classes(work: Annotated[str | None, Query(max_length=MAX_TEXT)] = None) -> dict[str, Any]:
        rows = [
            {"class_name": name, "tier": spec.tier, "parallelism": spec.parallelism, "members": list(spec.members)}
            for name, spec in service.policy.classes.items()
        ]
        class_name = None if work is None else service.policy.class_of(work)
        return {"default_class": service.policy.default_class, "classes": rows, "class_name": class_name}


def _add_changing(app: FastAPI, service: PolicyService) -> None:
    # Plain functions, which run beside the event loop: a disk that takes its time holds up no reader.
    @app.put(f"{BASE}/override", response_model=OverrideState, responses=CHANGES, summary="Override for a time")
    def put_override(request: Request, wanted: OverrideRequest) -> dict[str, Any]:
        return service.set_override(_who(request), wanted.preset, wanted.ttl_seconds, wanted.reason)

    @app.delete(f"{BASE}/override", response_model=OverrideState, responses=CHANGES, summary="End the override")
    def delete_override(request: Request) -> dict[str, Any]:
        return service.clear_override(_who(request))

    @app.put(f"{BASE}/preset", response_model=PresetState, responses=CHANGES, summary="Set the preset")
    def put_preset(request: Request, wanted: PresetRequest) -> dict[str, Any]:
        return service.set_preset(_who(request), wanted.preset)


def _add_page(app: FastAPI) -> None:
    for path, (name, media_type) in PAGE_FILES.items():
        app.add_route(path, _plain((PAGE / name).read_bytes(), media_type), include_in_schema=False)


def _plain(content: bytes, media_type: str) -> Any:
    async def page(_: Request) -> Response:
        return Response(content, media_type=media_type)

    return page


def _who(request: Request) -> str:
    return str(request.scope["policy_visitor"].name)


async def _explain(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    found = [f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in error.errors()]
    return _problem(422, "; ".join(found)[:2000])


def _problem(status: int, detail: str) -> JSONResponse:
    return JSONResponse({"detail": detail}, status_code=status)


def _describe(app: FastAPI, service: PolicyService) -> None:
    """Publishes what this policy takes: its presets and bounds; and that tokens are asked for."""
    made = app.openapi()
    presets, bounds = list(service.policy.presets), service.policy.override
    shapes = made["components"]["schemas"]
    for name in ("OverrideRequest", "PresetRequest"):
        shapes[name]["properties"]["preset"]["enum"] = presets
    ttl = shapes["OverrideRequest"]["properties"]["ttl_seconds"]
    ttl["anyOf"] = [{"type": "number", "minimum": bounds.min_ttl_s, "maximum": bounds.max_ttl_s}, {"type": "null"}]
    for path, operations in made["paths"].items():
        for operation in operations.values():
            for parameter in operation.get("parameters", ()):
                if parameter["name"] == "preset":
                    parameter["schema"] = {"type": "string", "enum": presets}
        _allow(app, path, ", ".join(method.upper() for method in operations))
    made["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    made["security"] = [{"token": []}]
    # FastAPI makes it anew when a route was added, without what was written into it here.
    app.openapi = lambda: made  # type: ignore[method-assign]


def _allow(app: FastAPI, path: str, methods: str) -> None:
    """Answers every other method with the ones that there are; the framework would name those of the first route."""

    async def refuse(_: Request) -> JSONResponse:
        return JSONResponse({"detail": f"this path takes {methods}"}, status_code=405, headers={"Allow": methods})

    others = sorted({"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"} - set(methods.split(", ")))
    app.add_route(path, refuse, methods=others, include_in_schema=False)
