"""Do the jobs of this node alone; `runkms` starts the same process."""

from typing import Any

from keystore import checks, conf, jobs
from keystore.management.base import ConfiguredCommand


class Command(ConfiguredCommand):
    help = "Run the background jobs and the asynchronous requests."

    def handle(self, *args: object, **options: Any) -> None:
        config = conf.current()
        checks.database(config, migrate=False)
        checks.root_key(config)
        jobs.run()
