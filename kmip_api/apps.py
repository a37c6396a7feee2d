"""The app's name."""

from django.apps import AppConfig


class KmipApiConfig(AppConfig):
    """KMIP over HTTP."""

    name = "kmip_api"
