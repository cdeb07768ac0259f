"""Fakes of Docker Hub and Edgegap, over real HTTP, for the demo and the tests."""
