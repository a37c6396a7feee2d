"""The pages of the console, one module each; a page is a form over payloads and a template."""

from collections.abc import Callable

from django.http import HttpResponse

Route = tuple[str, Callable[..., HttpResponse], str]


def routes() -> list[Route]:
    """Path, view and name of every page."""
    from ui.pages import (
        audit,
        authorities,
        clients,
        console,
        create,
        home,
        object,
        second_factor,
        settings,
        use,
    )

    return [
        route
        for page in (home, create, object, use, clients, authorities, audit, console, settings, second_factor)
        for route in page.ROUTES
    ]
