"""Ports that are kept."""

import socket

import pytest

from streams.broker.ports import HOST, keep_port, port_of


def test_a_kept_port_refuses_who_connects_until_somebody_listens_on_it() -> None:
    with keep_port() as kept:
        place = HOST, port_of(kept)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(place)
        with socket.create_server(place):
            socket.create_connection(place).close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(place)


def test_a_port_that_somebody_listens_on_cannot_be_kept() -> None:
    with socket.create_server((HOST, 0)) as taken, pytest.raises(OSError, match="in use"):
        keep_port(port_of(taken))


def test_a_kept_port_is_taken_by_nobody_who_does_not_share() -> None:
    with keep_port() as kept, socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind((HOST, port_of(kept)))
