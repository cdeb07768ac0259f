"""One file a step; each only adds."""
