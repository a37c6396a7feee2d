"""Paths of the console: the site with its models registered."""

from keystore.models import ManagedObject
from ui.objects import ManagedObjectAdmin
from ui.site import site

site.register(ManagedObject, ManagedObjectAdmin)
urls = site.urls
