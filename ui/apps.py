"""The console as a Django app."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class UiConfig(AppConfig):
    """Registered in settings."""

    name = "ui"
    verbose_name = _("Console")
