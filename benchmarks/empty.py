"""Settings with one path, a view that does nothing, and no middleware: what HTTP costs under the same gunicorn."""

from django.http import HttpRequest, HttpResponse
from django.urls import path

from kmsproject.settings import *  # noqa: F403 - all but the following stays

ROOT_URLCONF = "benchmarks.empty"
MIDDLEWARE: list[str] = []


def nothing(request: HttpRequest) -> HttpResponse:
    """An empty response; its length is what Django's middleware would add."""
    return HttpResponse(b"", headers={"Content-Length": "0"})


urlpatterns = [path("empty", nothing)]
