"""What the collection's image adds to devpi-server."""
