"""For Faust's own command line: `faust -A streams.faust_app worker`."""

from streams.app import create_app
from streams.settings import load_settings

app = create_app(load_settings())
