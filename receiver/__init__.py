"""Docker Hub pushes in, Edgegap app versions out."""
