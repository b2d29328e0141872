"""What runs inside the server's own environment, where none of our packages can be imported."""
