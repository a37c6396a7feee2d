"""The app's name, and what is registered once Django is ready."""

from django.apps import AppConfig


class KeystoreConfig(AppConfig):
    """Models, engine and operations."""

    name = "keystore"
    verbose_name = "Key store"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the system checks."""
        from keystore import checks, deployment  # noqa: F401
