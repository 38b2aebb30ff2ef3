"""The FastAPI application: every operation mounted from its declaration. It owns the API's description.

    python -m compat_api.app > openapi/openapi.json

Nothing serves through it in the service process (see `dispatch`): it is imported when somebody asks for /openapi.json.
It is complete nevertheless: each route answers through the same dispatcher, so an ASGI server can run it as it is.
"""

from fastapi import FastAPI, Request, Response

from compat_api import negotiation, operations
from compat_api.declaration import OPERATIONS, STREAM
from compat_api.dispatch import Dispatcher
from compat_api.reply import Reply

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any

    from starlette.types import Receive, Scope, Send

    from compat_api.declaration import Operation

_REFERENCE = "#/components/schemas/{model}"
_ERROR = {
    "description": "What went wrong",
    "content": {"application/json": {"schema": {"$ref": _REFERENCE.format(model="ErrorResponse")}}},
}
_ERROR_SCHEMA = {
    "title": "ErrorResponse",
    "type": "object",
    "required": ["message"],
    "properties": {"message": {"type": "string", "description": "The sentence to show to the user"}},
}


def build(engine: "Callable[[], Any]") -> FastAPI:
    """The application; `engine` makes the engine when it is first needed."""
    operations.load_all()
    app = FastAPI(title="moorage", version=negotiation.spell(negotiation.API_VERSION), docs_url=None, redoc_url=None)
    dispatcher = Dispatcher(engine)
    for operation in OPERATIONS:
        path = operation.path.replace("*}", ":path}")
        for prefix in ("", "/v{version}"):
            app.router.add_api_route(
                prefix + path,
                _endpoint(dispatcher, operation),
                methods=[operation.method],
                name=operation.handler.__name__,
                operation_id=operation.handler.__name__,
                description=operation.handler.__doc__,
                tags=[operation.handler.__module__.rpartition(".")[2]],
                include_in_schema=not prefix,
                response_class=Response,
                responses={"default": _ERROR},
                openapi_extra=_extra(operation),
            )
    return app


class _Answer(Response):
    """A response that the dispatcher writes, in whichever form the operation has."""

    def __init__(self, dispatcher: Dispatcher, operation: "Operation", request: Request) -> None:
        super().__init__()
        self.dispatcher, self.operation = dispatcher, operation
        self.asked = request.path_params.get("version", "")
        self.values = [text for name, text in request.path_params.items() if name != "version"]

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        await self.dispatcher.serve(self.operation, self.values, self.asked, scope, receive, send)


def _endpoint(dispatcher: Dispatcher, operation: "Operation") -> "Callable[[Request], Awaitable[Response]]":
    async def endpoint(request: Request) -> Response:
        return _Answer(dispatcher, operation, request)

    return endpoint


def _extra(operation: "Operation") -> "dict[str, Any]":
    """What the declaration says, in OpenAPI's words."""
    parameters: list[dict[str, Any]] = [
        {"in": "path", "name": segment[1:-1].rstrip("*"), "required": True, "schema": {"type": "string"}}
        for segment in operation.path.split("/")
        if segment[:1] == "{"
    ]
    for parameter in operation.parameters.values():
        if parameter.source != "version":
            default = list(parameter.default) if isinstance(parameter.default, tuple) else parameter.default
            parameters.append(
                {"in": parameter.source, "name": parameter.name, "schema": {**parameter.schema, "default": default}}
            )
    extra: dict[str, Any] = {"parameters": parameters}
    if operation.body == STREAM:
        extra["requestBody"] = {"content": {"application/octet-stream": {"schema": {"format": "binary"}}}}
    elif operation.body:
        model = operation.body.partition(":")[2]
        extra["requestBody"] = {
            "required": operation.body_required,
            "content": {"application/json": {"schema": {"$ref": _REFERENCE.format(model=model)}}},
        }
    return extra


def document() -> "dict[str, Any]":
    """The OpenAPI description of every operation."""

    def no_engine() -> None:
        raise RuntimeError("describing needs no engine")

    described = build(no_engine).openapi()
    schemas = described.setdefault("components", {}).setdefault("schemas", {})
    schemas["ErrorResponse"] = _ERROR_SCHEMA
    for reference in sorted({operation.body for operation in OPERATIONS} - {"", STREAM}):
        module, _, name = reference.partition(":")
        model = getattr(__import__(module, fromlist=(name,)), name)
        schema = model.model_json_schema(ref_template=_REFERENCE)
        schemas |= schema.pop("$defs", {})
        schemas[name] = schema
    described["components"]["schemas"] = dict(sorted(schemas.items()))
    described["servers"] = [{"url": "/v" + negotiation.spell(negotiation.API_VERSION)}]
    return described


def describe() -> Reply:
    """The description as an answer."""
    return Reply.json(document())


if __name__ == "__main__":
    import json
    import sys

    sys.stdout.write(json.dumps(document(), indent=1, sort_keys=True) + "\n")
