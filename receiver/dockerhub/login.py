"""The Docker Hub credentials that the receiver checks an image with, and Edgegap pulls it with."""

import msgspec

from receiver.secret import Secret

LOGIN_VARIABLES = "DOCKERHUB_USERNAME and DOCKERHUB_TOKEN"


class Login(msgspec.Struct, frozen=True):
    """A Docker Hub login, with the names of its variables for messages."""

    username: str
    token: Secret
    variables: str = LOGIN_VARIABLES


def variables_of(login: Login | None) -> str:
    """Return the names of the variables that hold the login, or that would."""
    return LOGIN_VARIABLES if login is None else login.variables
