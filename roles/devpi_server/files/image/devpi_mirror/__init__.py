"""The package that the collection's image adds to devpi-server."""
