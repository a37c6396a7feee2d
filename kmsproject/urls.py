"""Which room answers which path."""

from django.urls import include, path

from ui.urls import urls as console

urlpatterns = [path("", include("kmip_api.urls")), path("ui/", console)]
