"""The app's name."""

from django.apps import AppConfig


class KmipSocketConfig(AppConfig):
    """KMIP over TLS."""

    name = "kmip_socket"
