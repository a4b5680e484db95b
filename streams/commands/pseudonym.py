"""`slatestream pseudonym`: by which names topics, commands and HTTP know users."""

import json
from typing import Annotated

import typer

from streams.errors import SlatestreamError
from streams.events import MAX_ID_LENGTH
from streams.kafka.topic_admin import ConfigFile
from streams.pseudonyms import pseudonyms_of
from streams.settings import load_settings


def pseudonym_command(
    users: Annotated[list[str], typer.Argument(help="Ids of users, as your systems have them.")],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON with the id, too, a line each.")
    ] = False,
    config: ConfigFile = None,
) -> None:
    """Print the pseudonyms of users, a line each, by the key in pseudonym_key_file.

    slatestream pseudonym u1 u2 --json
    """
    pseudonyms = pseudonyms_of(load_settings(config).pseudonym_key_file)
    if pseudonyms is None:
        raise SlatestreamError("pseudonym: the setting pseudonym_key_file is missing")
    for user in users:
        if not 1 <= len(user) <= MAX_ID_LENGTH:
            raise SlatestreamError(f"a user's id has 1 to {MAX_ID_LENGTH} characters, got {len(user)}")
        made = pseudonyms.of(user)
        print(json.dumps({"user_id": user, "pseudonym": made}) if as_json else made)
