"""What each part of the method is worth: the recipe without it, over several seeds."""
