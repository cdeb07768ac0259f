"""The credentials with which Docker Hub is asked about an image, and Edgegap pulls it."""

from dataclasses import dataclass

from receiver.secret import Secret


@dataclass(frozen=True, slots=True)
class Login:
    """A Docker Hub login, with the names of its variables for messages."""

    username: str
    token: Secret
    variables: str = "DOCKERHUB_USERNAME and DOCKERHUB_TOKEN"
