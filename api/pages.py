"""/openapi.json, /docs and the console's pages: static, without a token and without secrets."""

from __future__ import annotations

import threading
from functools import cache
from importlib.resources import files
from typing import Any

from flask import Blueprint, Response, current_app, json, render_template
from werkzeug.exceptions import NotFound

from api.openapi import openapi_document
from api.operations import operation

blueprint = Blueprint("pages", __name__, template_folder="console/templates")
_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
_DOCUMENT = "transship-openapi"
_making = threading.Lock()


@blueprint.get("/openapi.json")
@operation("This document", role=None, results={200: ("the document", None)})
def openapi_json() -> Response:
    """Answer the OpenAPI document."""
    return Response(json.dumps(_document()), mimetype="application/json")


@blueprint.get("/docs")
def docs() -> str:
    """Answer the document as a page."""
    return render_template("docs.html", document=_document())


@blueprint.get("/")
def console() -> str:
    """Answer the console; it asks for a token, and everything in it comes over the API."""
    return render_template("console.html")


@blueprint.get("/console/<path:name>")
def console_file(name: str) -> Response:
    """Answer one of the console's files."""
    if name not in _static_files():
        raise NotFound
    content = files("api").joinpath("console", "static", *name.split("/")).read_bytes()
    return Response(content, mimetype=_TYPES["." + name.rpartition(".")[2]])


@cache
def _static_files() -> frozenset[str]:
    """Return the names of all files that there are, by which a request is judged."""
    top = files("api").joinpath("console", "static")
    folders = {"": top, **{f"{one.name}/": one for one in top.iterdir() if one.is_dir()}}
    return frozenset(
        prefix + one.name
        for prefix, folder in folders.items()
        for one in folder.iterdir()
        if one.is_file() and "." + one.name.rpartition(".")[2] in _TYPES
    )


def _document() -> dict[str, Any]:
    """Return the OpenAPI document, made once, for whoever asks first: it takes a third of a start."""
    with _making:
        if _DOCUMENT not in current_app.extensions:
            current_app.extensions[_DOCUMENT] = openapi_document(current_app)
    document: dict[str, Any] = current_app.extensions[_DOCUMENT]
    return document
