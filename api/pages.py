"""/openapi.json, /docs and the console's pages: static, without a token and without secrets."""

from __future__ import annotations

import threading
from importlib.resources import files
from typing import Any

from flask import Blueprint, Response, current_app, json, render_template
from werkzeug.exceptions import NotFound

from api.openapi import openapi_document
from api.operations import operation

blueprint = Blueprint("pages", __name__, template_folder="console/templates")
_TYPES = {"console.js": "text/javascript", "style.css": "text/css", "icon.svg": "image/svg+xml"}
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


@blueprint.get("/console/<name>")
def console_file(name: str) -> Response:
    """Answer one of the console's few files."""
    if name not in _TYPES:
        raise NotFound
    content = files("api").joinpath("console", "static", name).read_bytes()
    return Response(content, mimetype=_TYPES[name])


def _document() -> dict[str, Any]:
    """Return the OpenAPI document, made once, for whoever asks first: it takes a third of a start."""
    with _making:
        if _DOCUMENT not in current_app.extensions:
            current_app.extensions[_DOCUMENT] = openapi_document(current_app)
    document: dict[str, Any] = current_app.extensions[_DOCUMENT]
    return document
