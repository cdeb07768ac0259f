"""The Docker Hub credentials that the receiver checks an image with, and Edgegap pulls it with."""

from dataclasses import dataclass

from receiver.secret import Secret


@dataclass(frozen=True, slots=True)
class Login:
    """A Docker Hub login, with the names of its variables for messages."""

    username: str
    token: Secret
    variables: str = "DOCKERHUB_USERNAME and DOCKERHUB_TOKEN"
