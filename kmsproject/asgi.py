"""The ASGI application, for servers that want one; the product itself is served as WSGI."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "kmsproject.settings")

application = get_asgi_application()
