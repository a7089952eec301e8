"""The pages of single logs and the index over them."""
