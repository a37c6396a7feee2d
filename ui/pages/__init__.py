"""The pages of the console, one module each; a page is a form over payloads and a template."""

from collections.abc import Callable

from django.http import HttpResponse

Route = tuple[str, Callable[..., HttpResponse], str]


def routes() -> list[Route]:
    """Path, view and name of every page."""
    from ui.pages import (
        approvals,
        audit,
        authorities,
        clients,
        console,
        create,
        destroyed,
        home,
        object,
        people,
        rights,
        second_factor,
        settings,
        use,
    )

    pages = (
        home,
        create,
        object,
        destroyed,
        rights,
        use,
        clients,
        authorities,
        people,
        approvals,
        audit,
        console,
        settings,
        second_factor,
    )
    return [route for page in pages for route in page.ROUTES]
