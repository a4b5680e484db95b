"""HTTP with a token or a password, which must not go where an answer says."""

import urllib.request
from typing import Any


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Makes an error of a redirect: following it would take the credentials to another host."""

    def redirect_request(self, *_: object) -> None:
        return None


_STRAIGHT = urllib.request.build_opener(_NoRedirects)


def open_straight(request: urllib.request.Request, *, timeout_s: float) -> Any:
    """Ask and return the answer, to be read within `with`.

    Raises
    ------
    urllib.error.HTTPError
        If the answer is an error, or a redirect.
    OSError, http.client.HTTPException
        If no whole answer comes.
    """
    return _STRAIGHT.open(request, timeout=timeout_s)
