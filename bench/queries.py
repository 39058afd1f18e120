"""How many queries pages make: `python -m bench.queries PATH...` prints their counts as JSON, one a path.

A process of its own, with the stack's settings in its environment: the server's process counts no queries.
"""

import json
import os
import sys

import django


def count(paths: list[str]) -> list[int]:
    """Queries of each page, the second time it is shown: the first one may fill caches."""
    from django.db import connections
    from django.test import Client
    from django.test.utils import CaptureQueriesContext

    from bench.web import USER
    from fleet.people.models import User

    client = Client(SERVER_NAME="127.0.0.1")
    client.force_login(User.objects.get(username=USER))
    counts = []
    for path in paths:
        client.get(path)
        with CaptureQueriesContext(connections["default"]) as captured:
            response = client.get(path)
        if response.status_code != 200:
            raise SystemExit(f"{path} answered with status {response.status_code}")
        counts.append(len(captured))
    return counts


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fleet.settings")
    django.setup()
    print(json.dumps(count(sys.argv[1:])))
