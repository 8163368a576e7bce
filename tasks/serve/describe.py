"""The OpenAPI description: a path for each application, its schema, an example its champion gave.

Every schema has a name of its own across applications (`LanguagesAnswer`, `ImagesLabel`): programs
that generate a client make one class of each name. Nothing in it changes when a version does, but
for the examples.
"""

from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pydantic.json_schema import models_json_schema

from tasks.serve.loaded_model import LoadedModel
from tasks.serve.version_follower import ServedApplication

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
PROBLEM: Schema = {
    "type": "object",
    "title": "Problem",
    "description": "A problem as in RFC 9457.",
    "required": ["type", "title", "status", "detail", "remedy"],
    "additionalProperties": False,
    "properties": {
        "type": TEXT,
        "title": TEXT,
        "status": {"type": "integer"},
        "detail": {**TEXT, "description": "what is wrong, in a line"},
        "remedy": {**TEXT, "description": "what helps"},
        "fields": {"type": "array", "items": {"$ref": "#/components/schemas/FieldProblem"}},
    },
}
FIELD_PROBLEM: Schema = {
    "type": "object",
    "title": "FieldProblem",
    "required": ["field", "given", "expected"],
    "additionalProperties": False,
    "properties": dict.fromkeys(("field", "given", "expected"), TEXT),
}
WHY = {
    400: "the body is not JSON, or names a key twice",
    401: "no valid token",
    404: "not served, or no such version here",
    408: "the body took too long to come",
    413: "the body is too large",
    415: "not application/json, or packed in an unknown way",
    421: "called by a name that is not this machine's",
    422: "JSON of another form than the schema",
    429: "the queue is full",
    503: "no version answers yet, or the deadline passed",
    500: "the model failed",
}
VERSION_HEADERS = {
    "Tidemill-Version": {"schema": TEXT, "description": "the version that gave this answer"}
}
VERSION_PARAMETER = {
    "name": "version",
    "in": "query",
    "required": False,
    "schema": TEXT,
    "description": "a version that is loaded here, by GET /v1/APPLICATION; by default the champion",
}
ABOUT = ["application", "version", "digest", "since", "snapshot", "card"]
PAGES = {"/v1": "What is served", "/health": "How it is", "/ready": "Whether it answers"}


def described(served: dict[str, ServedApplication]) -> Schema:
    """OpenAPI 3.1 of everything that is served now."""
    paths: dict[str, Any] = {}
    schemas: dict[str, Any] = {"Problem": PROBLEM, "FieldProblem": FIELD_PROBLEM}
    for name, one in sorted(served.items()):
        model = one.pair.champion
        if model is None:
            continue
        refs, own = model_schemas(name, model)
        schemas |= own
        paths[f"/v1/{name}/predict"] = {
            "post": prediction(name, model, refs, one.settings.max_questions)
        }
        paths[f"/v1/{name}"] = {"get": about(name)}
    for path, words in PAGES.items():
        paths[path] = {"get": page(path, words)}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Tidemill",
            "version": _version(),
            "description": "Answers from each application's champion.",
        },
        "paths": paths,
        "security": [{}, {"bearer": []}],
        "components": {
            "schemas": schemas,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def camel(name: str) -> str:
    """text_generation as TextGeneration."""
    return "".join(part.capitalize() for part in name.split("_"))


def model_schemas(name: str, model: LoadedModel) -> tuple[dict[str, Schema], dict[str, Schema]]:
    """References to an application's Input and Output, and all schemas, by names of its own."""
    prefix = camel(name)
    question, answer = model.recipe.Input, model.recipe.Output
    found, rest = models_json_schema(
        [(question, "validation"), (answer, "serialization")],
        ref_template=f"#/components/schemas/{prefix}{{model}}",
    )
    schemas = {
        f"{prefix}{key}": {**schema, "title": f"{prefix}{key}"}
        for key, schema in rest.get("$defs", {}).items()
    }
    refs = {
        "Input": found[(question, "validation")],
        "Output": found[(answer, "serialization")],
    }
    return refs, schemas


def prediction(
    name: str, model: LoadedModel, refs: dict[str, Schema], most_questions: int
) -> Schema:
    question = model.example[0].model_dump(mode="json", exclude_unset=True)
    answer = model.example[1].model_dump(mode="json")
    many_questions: Schema = {
        "type": "array",
        "items": refs["Input"],
        "minItems": 1,
        "maxItems": most_questions,
    }
    many_answers: Schema = {"type": "array", "items": refs["Output"]}
    return {
        "operationId": f"predict_{name}",
        "summary": f"Ask {name}",
        "tags": [name],
        "description": "One question, or a list of them; the answer has the same form.",
        "parameters": [VERSION_PARAMETER],
        "requestBody": {
            "required": True,
            "content": json_content({"oneOf": [refs["Input"], many_questions]}, question),
        },
        "responses": {
            "200": {
                "description": "the answer",
                "headers": VERSION_HEADERS,
                "content": json_content({"anyOf": [refs["Output"], many_answers]}, answer),
            },
            **problems(400, 404, 408, 413, 415, 422, 429, 500, 503),
        },
    }


def json_content(schema: Schema, example: Any) -> Schema:
    examples = {"one": {"value": example}, "many": {"value": [example, example]}}
    return {"application/json": {"schema": schema, "examples": examples}}


def about(name: str) -> Schema:
    schema = {"type": "object", "required": ABOUT}
    return {
        "operationId": f"about_{name}",
        "summary": f"Which version of {name} answers",
        "tags": [name],
        "responses": {
            "200": {
                "description": "version, digest, since when, snapshot, card",
                "headers": VERSION_HEADERS,
                "content": {"application/json": {"schema": schema}},
            },
            **problems(404, 503),
        },
    }


def page(path: str, words: str) -> Schema:
    content = {"application/json": {"schema": {"type": "object"}}}
    unready = {"503": {"description": "not yet", "content": content}}
    return {
        "operationId": path[1:],
        "summary": words,
        "responses": {
            "200": {"description": words, "content": content},
            **(unready if path in ("/ready", "/health") else {}),
            **problems(),
        },
    }


def problems(*codes: int) -> Schema:
    problem = {"schema": {"$ref": "#/components/schemas/Problem"}}
    return {
        str(code): {"description": WHY[code], "content": {"application/problem+json": problem}}
        for code in (*codes, 401, 421)
    }


def _version() -> str:
    try:
        return version("tidemill")
    except PackageNotFoundError:
        return "0"
