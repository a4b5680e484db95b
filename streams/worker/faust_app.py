"""For Faust's own command line: `faust -A streams.worker.faust_app worker`."""

from streams.settings import load_settings
from streams.worker.app import create_app

app = create_app(load_settings())
