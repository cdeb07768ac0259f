"""Stand-ins for the outside parties, over real HTTP: for the demo and for the tests."""
