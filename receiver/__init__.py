"""Docker Hub pushes in, Edgegap app versions out."""

__version__ = "0.1.0"  # here, since hosts like Heroku run the folder without installing it
