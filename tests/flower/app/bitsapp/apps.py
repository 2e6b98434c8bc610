"""The app of one of Flower's two APIs, as the environment says."""

import os

from bitsapp import client_app, legacy, server_app

LEGACY = os.environ.get("BITSAPP_API") == "legacy"

server = legacy.server if LEGACY else server_app.app
client = legacy.client if LEGACY else client_app.app
