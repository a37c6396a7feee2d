"""Django's backends for database servers, each connection of which `watch` can cut off."""
