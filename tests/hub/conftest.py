from tests.hub.fixtures import client, hub  # noqa: F401
