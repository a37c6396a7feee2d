"""Which room answers which path."""

from django.conf import settings
from django.urls import include, path

urlpatterns = [path("", include("kmip_api.urls"))]
if settings.HAS_UI:
    urlpatterns.append(path("ui/", include("ui.urls")))
