"""Paths for machines."""

from django.urls import path

from kmip_api import views

urlpatterns = [
    path("kmip", views.kmip),
    path("kmip/2_1", views.kmip_2_1),
    path("version", views.Version.as_view()),
    path("health", views.Health.as_view()),
]
