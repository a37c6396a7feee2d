"""Paths for machines."""

from django.urls import path

from keystore import web
from kmip_api import access, pki, views

urlpatterns = [
    *(path(name.removeprefix("/"), views.kmip) for name in web.PATHS),
    path("version", views.Version.as_view()),
    path("health", views.Health.as_view()),
    path("metrics", views.metrics),
    path("openapi.json", access.OpenApi.as_view()),
    *(
        path(
            pattern.replace("{", "<str:").replace("}", ">"),
            access.AccessView.as_view(endpoints=endpoints, http_method_names=[name.lower() for name in endpoints]),
        )
        for pattern, endpoints in access.paths().items()
    ),
    path("pki/<str:issuer>/crl", pki.crl),
    path("pki/<str:issuer>/ca", pki.certificate),
    path("pki/<str:issuer>/ocsp", pki.ocsp),
    path("pki/<str:issuer>/ocsp/<path:question>", pki.ocsp),
    path("clients", pki.all_clients),
    path("clients/tokens", pki.tokens),
    path("clients/register", pki.register),
    path("clients/renew", pki.renew),
    path("clients/waiting", pki.waiting),
    path("clients/waiting/<str:fingerprint>", pki.decide),
    path("clients/<str:name>/revoke", pki.revoke),
    path("handshakes", pki.handshakes),
]
