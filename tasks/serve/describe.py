"""The OpenAPI description: one path for each application, its own schema, and an example that its champion answered."""

from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pydantic.json_schema import models_json_schema

from tasks.serve.version_follower import Held

PROBLEM = {
    "type": "object",
    "required": ["error"],
    "additionalProperties": False,
    "properties": {
        "error": {"type": "string", "description": "what is wrong, in a line"},
        "fields": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "given", "expected"],
                "additionalProperties": False,
                "properties": {name: {"type": "string"} for name in ("field", "given", "expected")},
            },
        },
    },
}
WHY = {
    400: "the body is not JSON",
    401: "no valid token",
    404: "not served, or no such version here",
    408: "the body took too long to come",
    413: "the body is too large",
    415: "not application/json",
    421: "called by a name that is not this machine's",
    422: "JSON of another form than the schema",
    429: "the queue is full",
    503: "no version answers yet, or the deadline passed",
    500: "the model failed",
}
VERSION_HEADER = {
    "Tidemill-Version": {
        "schema": {"type": "string"},
        "description": "the version that gave this answer",
    }
}


def described(held: dict[str, Held]) -> dict[str, Any]:
    """OpenAPI 3.1 of everything that is served now."""
    paths: dict[str, Any] = {}
    schemas: dict[str, Any] = {"Problem": PROBLEM}
    for name, one in sorted(held.items()):
        slot = one.pair.champion
        if slot is None:
            continue
        kinds = {"Input": slot.recipe.Input, "Output": slot.recipe.Output}
        found, rest = models_json_schema(
            [(kinds["Input"], "validation"), (kinds["Output"], "serialization")],
            ref_template=f"#/components/schemas/{name}.{{model}}",
        )
        schemas |= {f"{name}.{key}": value for key, value in rest.get("$defs", {}).items()}
        refs = {
            key: found[(kind, "validation" if key == "Input" else "serialization")]
            for key, kind in kinds.items()
        }
        question, answer = (
            slot.example[0].model_dump(mode="json", exclude_unset=True),
            slot.example[1].model_dump(mode="json"),
        )
        paths[f"/v1/{name}/predict"] = {
            "post": {
                "operationId": f"predict_{name}",
                "summary": f"Ask {name}",
                "tags": [name],
                "description": "One question, or a list of them; the answer has the same form.",
                "parameters": [
                    {
                        "name": "version",
                        "in": "query",
                        "required": False,
                        "schema": {
                            "type": "string",
                            "enum": [found.version for found in one.pair.slots()],
                        },
                        "description": "a version that is loaded here; without it, the champion answers",
                    }
                ],
                "requestBody": {
                    "required": True,
                    "content": {
                        "application/json": {
                            "schema": {
                                "oneOf": [
                                    refs["Input"],
                                    {
                                        "type": "array",
                                        "items": refs["Input"],
                                        "minItems": 1,
                                        "maxItems": one.settings.max_questions,
                                    },
                                ]
                            },
                            "examples": {
                                "one": {"value": question},
                                "many": {"value": [question, question]},
                            },
                        }
                    },
                },
                "responses": {
                    "200": {
                        "description": "the answer",
                        "headers": VERSION_HEADER,
                        "content": {
                            "application/json": {
                                "schema": {
                                    "anyOf": [
                                        refs["Output"],
                                        {"type": "array", "items": refs["Output"]},
                                    ]
                                },
                                "examples": {
                                    "one": {"value": answer},
                                    "many": {"value": [answer, answer]},
                                },
                            }
                        },
                    },
                    **problems(400, 404, 408, 413, 415, 422, 429, 500, 503),
                },
            }
        }
        paths[f"/v1/{name}"] = {
            "get": {
                "operationId": f"about_{name}",
                "summary": f"Which version of {name} answers",
                "tags": [name],
                "responses": {
                    "200": {
                        "description": "version, digest, since when, snapshot, card",
                        "headers": VERSION_HEADER,
                        "content": {
                            "application/json": {
                                "schema": {
                                    "type": "object",
                                    "required": [
                                        "application",
                                        "version",
                                        "digest",
                                        "since",
                                        "snapshot",
                                        "card",
                                    ],
                                }
                            }
                        },
                    },
                    **problems(404, 503),
                },
            }
        }
    for path, words in {
        "/v1": "What is served",
        "/health": "How it is",
        "/ready": "Whether it answers",
    }.items():
        paths[path] = {
            "get": {
                "operationId": path[1:],
                "summary": words,
                "responses": {
                    "200": {
                        "description": words,
                        "content": {"application/json": {"schema": {"type": "object"}}},
                    },
                    **(
                        {
                            "503": {
                                "description": "not yet",
                                "content": {"application/json": {"schema": {"type": "object"}}},
                            }
                        }
                        if path == "/ready"
                        else {}
                    ),
                    **problems(),
                },
            }
        }
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


def problems(*codes: int) -> dict[str, Any]:
    return {
        str(code): {
            "description": WHY[code],
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for code in (*codes, 401, 421)
    }


def _version() -> str:
    try:
        return version("tidemill")
    except PackageNotFoundError:
        return "0"
