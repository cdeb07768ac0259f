"""The program's version: here, since hosts like Heroku run the folder without installing it."""

VERSION = "0.1.0"
