"""Paths for machines."""

from django.urls import path

from kmip_api import access, views

urlpatterns = [
    path("kmip", views.kmip),
    path("kmip/2_1", views.kmip_2_1),
    path("version", views.Version.as_view()),
    path("health", views.Health.as_view()),
    path("openapi.json", access.OpenApi.as_view()),
    *(
        path(
            pattern.replace("{", "<str:").replace("}", ">"),
            access.AccessView.as_view(endpoints=endpoints, http_method_names=[name.lower() for name in endpoints]),
        )
        for pattern, endpoints in access.paths().items()
    ),
]
